"""The dock's settings, a TOML file, and the dock that they make: who may enrol, where server and Alice's KMEs are."""

import time
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Self, TypeVar

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qepa_qkd.errors import QkdError
from qepa_qkd.kme_client import KmeClient
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Certificate, Identity, verify_certificate

from ..dock import BoardSettings, BrokerAccess, Dock
from ..errors import ToolError
from ..firmware_build.signing import public_key
from .bedside import Bedside, open_bedside

Port = Annotated[int, Field(ge=1, le=65535)]
_HTTP_TIMEOUT_S = 30.0
_LONGEST_CA, _LONGEST_PASSWORD = 8192, 128  # characters, firmware/qepa_board/keys/identity.py
_DAY_S = 86400


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Section = TypeVar("Section", bound=_Section)


class Broker(_Section):
    """The broker that boards connect to. ``ca``: PEM; with it boards speak TLS, and only to who has its signature.

    ``clients``: the folder of that name that `python -m qepa_gateway mosquitto` writes, which says all of it a board.
    """

    clients: Path | None = None
    host: str = Field(default="", max_length=255)
    port: Port = 1883
    ca: Path | None = None
    name: str | None = Field(default=None, min_length=1, max_length=255)
    user: str | None = Field(default=None, min_length=1, max_length=64)
    password_file: Path | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        if (self.clients is not None) == any((self.host, self.ca, self.name, self.user, self.password_file)):
            raise ValueError("name the host, or the folder of clients and nothing else")
        return self

    def access(self, board: int, password: str | None) -> tuple[str, int, BrokerAccess]:
        """Host, port and how a board gets in. Raises ToolError."""
        if self.clients is not None:
            own = _client(self.clients / f"board-{board:08x}.json")
            access = BrokerAccess(user=own.user, password=own.password, ca=own.tls.ca, name=own.tls.name)
            return own.host, own.port, access
        ca = None if self.ca is None else ca_pem(self.ca)
        access = BrokerAccess(user=self.user, password=_password(self, password), ca=ca, name=self.name)
        return self.host, self.port, access


class _Tls(BaseModel):
    ca: str
    name: str


class _Client(BaseModel):
    """A board's file among ``clients``; gateway/qepa_gateway/mosquitto/command.py."""

    host: str
    port: Port
    user: str
    password: str
    tls: _Tls


class Kme(_Section):
    """Alice's KME on the link to one gateway."""

    url: str
    ca: Path
    cert: Path
    key: Path


class BedsideAddress(_Section):
    """A gateway's bedside API. ``token_file``: its token, which it does not ask for on its own machine."""

    url: str = Field(pattern=r"^https?://")
    token_file: Path | None = None

    def open(self) -> Bedside:
        """Ready to be asked. Raises ToolError."""
        token = None if self.token_file is None else _text(self.token_file).strip()
        return open_bedside(self.url, token)


class StationConfig(_Section):
    """Everything in the file; relative paths are relative to it. ``kme`` and ``bedside`` are by gateway."""

    server: str
    identity: Path
    root_key: Path
    server_certificate: Path
    firmware_key: Path | None = None
    broker: Broker
    mains_hz: int = Field(default=50, ge=50, le=60)
    rekey_s: int = Field(default=30, ge=1, le=604800)
    kme: dict[str, Kme] = Field(default_factory=dict)
    bedside: dict[str, BedsideAddress] = Field(default_factory=dict)

    def settings(self, board: int, fs_hz: int, suite: str = "aes256", *, password: str | None = None) -> BoardSettings:
        """What a board is told; ``password`` is the broker's, if no file has it. Raises ToolError."""
        root = None if self.firmware_key is None else public_key(self.firmware_key).hex()
        host, port, access = self.broker.access(board, password)
        return BoardSettings(host, port, fs_hz, self.mains_hz, self.rekey_s, root, suite=suite, broker=access)

    def with_broker(self, **changes: object) -> Self:
        """The same with another way to the broker, for what is None as before. Raises ToolError."""
        given = {name: value for name, value in changes.items() if value is not None}
        if given and self.broker.clients is not None:
            raise ToolError(f"boards get into this broker by their files in {self.broker.clients}, not otherwise.")
        return self.model_copy(update={"broker": self.broker.model_copy(update=given)})


def ca_pem(path: Path) -> str:
    """The certificates in a PEM file and nothing else of it, as boards are given them.

    Raises ToolError for one that is no authority's, or for more than a board takes.
    """
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
        for certificate in certificates:
            if not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                raise ToolError(f"{path}: {certificate.subject.rfc4514_string()} is no authority: give its issuer.")
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, x509.ExtensionNotFound) as error:
        raise ToolError(f"{path} is not the certificate of an authority in PEM.") from error
    text = "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates)
    if len(text) > _LONGEST_CA:
        raise ToolError(f"{path} has {len(text)} characters, a board takes {_LONGEST_CA}: leave only what is needed.")
    return text


def begins_after_1970(ca: str) -> bool:
    """Whether a board whose clock nobody sets refuses an authority in PEM (qepa_board/transport/broker_tls.py)."""
    return any(each.not_valid_before_utc.timestamp() > _DAY_S for each in x509.load_pem_x509_certificates(ca.encode()))


def _client(path: Path) -> _Client:
    try:
        return _Client.model_validate_json(_text(path))
    except ValidationError as error:
        raise ToolError(f"{path} is no client's file: write it anew with python -m qepa_gateway mosquitto.") from error


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ToolError(f"{path} is no text.") from error


def _password(broker: Broker, password: str | None) -> str | None:
    if broker.password_file is not None:
        password = _text(broker.password_file).rstrip("\r\n")
    if broker.user is None and password is None:
        return None
    if broker.user is None:
        raise ToolError("a broker's password goes with a user: name one.")
    if password is None:
        raise ToolError(f"the broker's user {broker.user} has no password: put it into a file, and name that.")
    if not 0 < len(password) <= _LONGEST_PASSWORD:
        raise ToolError(f"a broker's password has 1 to {_LONGEST_PASSWORD} characters.")
    return password


def load_station(path: Path) -> StationConfig:
    """Read and check ``path``. Raises ToolError."""
    try:
        record = tomllib.loads(path.read_text())
        config = StationConfig.model_validate(record)
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ToolError(f"{path} is no TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ToolError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error
    return _resolved(config, path.parent)


def _resolved(section: Section, base: Path) -> Section:
    """The section with its relative paths below ``base``, and those of sections in it."""
    changes: dict[str, object] = {}
    for name, value in section:
        if isinstance(value, Path):
            changes[name] = base / value
        elif isinstance(value, _Section):
            changes[name] = _resolved(value, base)
        elif isinstance(value, dict):
            changes[name] = {key: _resolved(each, base) for key, each in value.items()}
    return section.model_copy(update=changes)


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
