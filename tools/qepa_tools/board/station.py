"""The dock's settings, a TOML file, and the dock that they make: who may enrol, where server and Alice's KMEs are."""

import time
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qepa_qkd.errors import QkdError
from qepa_qkd.kme_client import KmeClient
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Certificate, Identity, verify_certificate

from ..dock import BoardSettings, Dock
from ..errors import ToolError
from ..firmware_build.signing import public_key

Port = Annotated[int, Field(ge=1, le=65535)]
_HTTP_TIMEOUT_S = 30.0


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Broker(_Section):
    """The broker that boards connect to."""

    host: str = Field(min_length=1, max_length=255)
    port: Port = 1883


class Kme(_Section):
    """Alice's KME on the link to one gateway."""

    url: str
    ca: Path
    cert: Path
    key: Path


class StationConfig(_Section):
    """Everything in the file; relative paths are relative to it. ``kme`` is by gateway."""

    server: str
    identity: Path
    root_key: Path
    server_certificate: Path
    firmware_key: Path | None = None
    broker: Broker
    mains_hz: int = Field(default=50, ge=50, le=60)
    rekey_s: int = Field(default=30, ge=1, le=604800)
    kme: dict[str, Kme] = Field(default_factory=dict)

    def settings(self, fs_hz: int) -> BoardSettings:
        """What boards are told, with an ECG of ``fs_hz``. Raises ToolError."""
        root = None if self.firmware_key is None else public_key(self.firmware_key).hex()
        return BoardSettings(self.broker.host, self.broker.port, fs_hz, self.mains_hz, self.rekey_s, root)


def load_station(path: Path) -> StationConfig:
    """Read and check ``path``. Raises ToolError."""
    try:
        record = tomllib.loads(path.read_text())
        config = StationConfig.model_validate(record)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ToolError(f"{path} cannot be read: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ToolError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
    base = path.parent
    changes: dict[str, object] = {name: base / getattr(config, name) for name in _PATHS}
    if config.firmware_key is not None:
        changes["firmware_key"] = base / config.firmware_key
    changes["kme"] = {
        name: kme.model_copy(update={each: base / getattr(kme, each) for each in ("ca", "cert", "key")})
        for name, kme in config.kme.items()
    }
    return config.model_copy(update=changes)


_PATHS = ("identity", "root_key", "server_certificate")


@asynccontextmanager
async def open_dock(config: StationConfig, *, transport: httpx.AsyncBaseTransport | None = None) -> AsyncIterator[Dock]:
    """The dock, ready to enrol and to load pads; ``transport`` reaches the server in another way. Raises ToolError."""
    try:
        identity = Identity.load(config.identity)
        root_key = config.root_key.read_bytes()
        certificate = Certificate.model_validate_json(config.server_certificate.read_bytes())
        verify_certificate(identity.certificate, root_key, role="dock", now_s=time.time())
        server = verify_certificate(certificate, root_key, role="server", now_s=time.time())
    except (OSError, ValidationError, UplinkError) as error:
        raise ToolError(f"the dock's identity, root key or server certificate cannot be used: {error}.") from error
    async with AsyncExitStack() as stack:
        http = httpx.AsyncClient(
            base_url=config.server, timeout=_HTTP_TIMEOUT_S, transport=transport, trust_env=transport is None
        )
        await stack.enter_async_context(http)
        kmes = {}
        try:
            for gateway, kme in config.kme.items():
                client = KmeClient(kme.url, ca=kme.ca, certificate=kme.cert, private_key=kme.key)
                kmes[gateway] = await stack.enter_async_context(client)
            yield Dock(identity, server, http, kmes)
        except httpx.HTTPError as error:
            raise ToolError(f"the server at {config.server} does not answer ({type(error).__name__}).") from error
        except QkdError as error:
            raise ToolError(f"Alice's key management entity gives no keys: {error}.") from error
