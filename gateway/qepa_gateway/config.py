"""The gateway's TOML file, checked as a whole before anything starts."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Certificate, Identity, verify_certificate

from .core import Trusted
from .domain.rollout import Terms
from .domain.storage import Limits
from .errors import ConfigError

Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Broker(_Section):
    """The MQTT broker; transport only. With ``ca`` over TLS."""

    host: str = Field(min_length=1)
    port: Port
    username: str | None = None
    password_file: Path | None = None
    ca: Path | None = None


class KmeAddress(_Section):
    """Bob's KME; ``master_sae`` is the key dock."""

    url: str
    ca: Path
    cert: Path
    key: Path
    master_sae: str = "dock"


class Ble(_Section):
    """Boards over Bluetooth LE; without this section there are none."""

    adapter: str | None = Field(default=None, pattern=r"^hci\d{1,2}$")
    connections: int = Field(default=7, ge=1, le=32)
    hold_s: float = Field(default=60, ge=5, le=3600)
    pair: bool = True
    power_cycle: tuple[str, ...] = Field(default=(), strict=False)


class Bedside(_Section):
    """The local page and API."""

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    token_file: Path


class Keys(_Section):
    """How link keys are used."""

    between_docks_h: int = Field(default=16, ge=1, le=24 * 14)


class SpoolBounds(_Section):
    """What may wait, and the free disk that is left to alerts."""

    reserve_mb: int = Field(default=64, ge=4, le=1 << 20)
    most_results: int = Field(default=20_000, ge=100, le=1_000_000)
    most_alerts: int = Field(default=20_000, ge=100, le=1_000_000)

    def limits(self) -> Limits:
        """In the core's terms."""
        return Limits(self.reserve_mb << 20, self.most_results, self.most_alerts)


class ModelRollout(_Section):
    """How a model reaches the ward: one board first, unless not ``staged``."""

    staged: bool = True
    confirm_within_s: float = Field(default=180, ge=5, le=86_400)
    soak_s: float = Field(default=2, ge=0, le=86_400)
    again_after_s: float = Field(default=600, ge=0, le=604_800)
    most_failures: int = Field(default=3, ge=1, le=100)

    def terms(self) -> Terms:
        """In the domain's terms."""
        return replace(_terms(self), staged=self.staged)


class FirmwareRollout(_Section):
    """How firmware reaches the boards: ``root`` is the HSS public key that signs it; without one none is handed on."""

    root: str | None = Field(default=None, pattern=r"^[0-9a-f]{120}$")
    confirm_within_s: float = Field(default=3600, ge=5, le=604_800)
    soak_s: float = Field(default=300, ge=0, le=604_800)
    again_after_s: float = Field(default=3600, ge=0, le=604_800)
    most_failures: int = Field(default=1, ge=1, le=100)
    at_once: int = Field(default=2, ge=1, le=100)

    def terms(self) -> Terms:
        """In the domain's terms."""
        return replace(_terms(self), reboots=True)

    def key(self) -> bytes | None:
        """The key as bytes."""
        return None if self.root is None else bytes.fromhex(self.root)


def _terms(rollout: ModelRollout | FirmwareRollout) -> Terms:
    return Terms(
        confirm_within_ms=round(1000 * rollout.confirm_within_s),
        soak_ms=round(1000 * rollout.soak_s),
        again_after_ms=round(1000 * rollout.again_after_s),
        most_failures=rollout.most_failures,
    )


class InferenceSettings(_Section):
    """Models on the care stream of consenting patients; without a runtime for them there is no inference."""

    enabled: bool = True


class Config(_Section):
    """Everything in the file; relative paths are relative to it. Without ``kme`` there is no optical link."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    state_dir: Path
    identity: Path
    root_key: Path
    server_certificate: Path
    min_group: int = Field(default=10, ge=5, le=65535)
    broker: Broker
    kme: KmeAddress | None = None
    ble: Ble | None = None
    bedside: Bedside
    keys: Keys = Keys()
    spool: SpoolBounds = SpoolBounds()
    model_rollout: ModelRollout = ModelRollout()
    firmware: FirmwareRollout = FirmwareRollout()
    inference: InferenceSettings = InferenceSettings()


_PATHS = {
    None: ("state_dir", "identity", "root_key", "server_certificate"),
    "broker": ("password_file", "ca"),
    "kme": ("ca", "cert", "key"),
    "bedside": ("token_file",),
}


def load_config(path: Path) -> Config:
    """Read and check ``path``; raises ConfigError with one sentence."""
    try:
        record = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    for section, names in _PATHS.items():
        table = record if section is None else record.get(section)
        if isinstance(table, dict):
            for name in names:
                if isinstance(table.get(name), str):
                    table[name] = path.parent / table[name]
    try:
        return Config.model_validate(record)
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(map(_fault, error.errors()))}") from error


def _fault(error: ErrorDetails) -> str:
    where = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "extra_forbidden":
            return f"{where} is no setting of the gateway's"
        case "missing":
            return f"{where} is missing"
        case _:
            return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}"


def example() -> str:
    """A configuration with every setting explained."""
    return Path(__file__).with_name("example.toml").read_text()


def load_trusted(config: Config, *, now_s: float) -> Trusted:
    """Read identity, root key and the server's certificate; raises ConfigError with one sentence."""
    try:
        identity = Identity.load(config.identity)
    except UplinkError as error:
        raise ConfigError(str(error)) from error
    root_key = _read(config.root_key)
    try:
        certificate = Certificate.model_validate_json(_read(config.server_certificate))
    except ValidationError as error:
        raise ConfigError(f"{config.server_certificate} is no certificate") from error
    try:
        own = verify_certificate(identity.certificate, root_key, role="gateway", now_s=now_s)
        server = verify_certificate(certificate, root_key, role="server", now_s=now_s)
    except UplinkError as error:
        raise ConfigError(f"the root in {config.root_key} does not vouch for gateway or server: {error}") from error
    if own.name != config.name:
        raise ConfigError(f"{config.identity} is the identity of {own.name}, not of {config.name}")
    return Trusted(identity, root_key, server)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
