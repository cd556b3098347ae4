"""Configuration of Alice and Bob: TOML, checked whole before anything starts.

Relative paths are relative to the file. `load(path, role)` raises ConfigError with one sentence.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from qepa_qkd.alarms import NORMAL_LIMITS, AlarmLimits
from qepa_qkd.decoy import PROOFS, EpsilonBudget, SourceSettings
from qepa_qkd.distillation import LinkSettings
from qepa_qkd.errors import ConfigError
from qepa_qkd.key_id import MOST_KEY_BYTES, MOST_SLAVES

Role = Literal["alice", "bob"]


def _resolve(path: Path, info: ValidationInfo) -> Path:
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / path


def _channel(text: object, info: ValidationInfo) -> "SerialChannel":
    kind, _, line = str(text).partition(":")
    path, _, rate = line.partition("@")
    if kind != "serial" or not path or not (rate or "921600").isdigit():
        raise ValueError("a channel looks like serial:/dev/ttyUSB0@921600")
    bits_per_s = int(rate or "921600")
    if not 9600 <= bits_per_s <= 12_000_000:
        raise ValueError("a serial channel has 9600 to 12,000,000 bits a second")
    return SerialChannel(_resolve(Path(path), info), bits_per_s)


def _host_and_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("an address looks like 127.0.0.1:9000")
    return address


@dataclass(frozen=True, slots=True)
class SerialChannel:
    """A serial line for the classical channel, straight to the other end or through a pair of radio modems."""

    path: Path
    bits_per_s: int

    def __str__(self) -> str:
        """As a configuration has it."""
        return f"serial:{self.path}@{self.bits_per_s}"


FilePath = Annotated[Path, AfterValidator(_resolve)]
Address = Annotated[str, AfterValidator(_host_and_port)]
Triple = tuple[float, float, float]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ProtocolSection(_Section):
    """What both ends must have alike."""

    pulse_rate_hz: float = Field(default=1e6, ge=1e3, le=1e8)
    intensities: Triple = (0.5, 0.2, 0.002)
    intensity_probabilities: Triple = (0.4, 0.3, 0.3)
    key_basis_probability: float = Field(default=0.7, gt=0, lt=1)
    block_bits: int = Field(default=120_000, ge=1_000, le=4_000_000)
    qber_threshold: float = Field(default=0.08, gt=0, le=0.11)
    epsilon_correctness: float = Field(default=1e-15, gt=0, lt=1e-6)
    epsilon_secrecy: float = Field(default=1e-10, gt=0, lt=1e-6)
    proof: str = "Lim2014-chernoff"
    reconciliation: Literal["cascade", "ldpc"] = "cascade"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        source = SourceSettings(self.intensities, self.intensity_probabilities)
        if self.proof not in PROOFS:
            raise ValueError(f"proof is one of {', '.join(PROOFS)}")
        PROOFS[self.proof].check(source)
        return self


class StoreSection(_Section):
    """The encrypted key store."""

    path: FilePath
    kek: FilePath
    signing_key: FilePath
    quota_bits: int = Field(default=1_000_000, ge=10_000)
    low_water_bits: int = Field(default=500_000, ge=0)

    @model_validator(mode="after")
    def _low_below_quota(self) -> Self:
        if self.low_water_bits >= self.quota_bits:
            raise ValueError("low_water_bits must be below quota_bits")
        return self


class SaePair(_Section):
    """An application pair: the master takes keys at Alice's KME, the slave redeems them at Bob's.

    `alert` and `quota_bits_per_hour` are the master's, as the first of its pairs says, and count at Alice.
    """

    master: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    slave: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")
    alert: bool = False
    """May use the stock that is reserved for alerts."""
    quota_bits_per_hour: int | None = Field(default=None, ge=0)


class KmeSection(_Section):
    """The ETSI GS QKD 014 server."""

    listen: Address
    id: str = Field(min_length=1)
    peer_id: str = Field(min_length=1)
    certificate: FilePath
    private_key: FilePath
    client_ca: FilePath
    key_size_bits: int = Field(default=256, ge=64, multiple_of=8)
    max_key_size_bits: int = Field(default=8192, ge=64, le=8 * MOST_KEY_BYTES, multiple_of=8)
    max_keys_per_request: int = Field(default=128, ge=1, le=1024)
    alert_reserve_bits: int = Field(default=0, ge=0)
    """Stock that only masters of class alert may use."""
    replay_window_s: float = Field(default=30.0, ge=0, le=300)
    """How long the answer to a request is kept for its retry; 0 keeps none."""
    hand_out_within_s: float = Field(default=30 * 86400.0, gt=0)
    """Age at which key that nobody took is destroyed; the same at both ends."""
    fetch_within_s: float = Field(default=7 * 86400.0, gt=0)
    """How much longer Bob keeps key that was taken and not fetched."""
    sae: list[SaePair] = Field(min_length=1, max_length=64)

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if self.key_size_bits > self.max_key_size_bits:
            raise ValueError("key_size_bits must not exceed max_key_size_bits")
        if any(len(self.slaves_of(pair.master)) > MOST_SLAVES for pair in self.sae):
            raise ValueError(f"a master has at most {MOST_SLAVES} slaves")
        if len({(pair.master, pair.slave) for pair in self.sae}) < len(self.sae):
            raise ValueError("a pair of SAEs is listed twice")
        return self

    def slaves_of(self, master: str) -> tuple[str, ...]:
        """Slaves of `master` in alphabetic order. Both ends must have the same: identifiers name slaves by number."""
        return tuple(sorted({pair.slave for pair in self.sae if pair.master == master}))

    def is_alert(self, master: str) -> bool:
        """Whether `master` may use the alert reserve."""
        return next((pair.alert for pair in self.sae if pair.master == master), False)

    def quota_of(self, master: str) -> int | None:
        """Bits that `master` may take in an hour; None: no limit."""
        return next((pair.quota_bits_per_hour for pair in self.sae if pair.master == master), None)


class ReceiverSection(_Section):
    """Bob's detectors: our controller, which counts slots or sends time tags, or a bought tagger, which sends tags."""

    device: Literal["controller", "tdc1"] = "controller"
    detections: Literal["slots", "tags"] = "slots"
    """What the controller reports; a TDC1 always sends tags."""
    gate_ns: float = Field(default=100.0, gt=0)
    """With tags: width of the window around each pulse in which a click counts."""
    sync_every: int = Field(default=1000, ge=1, le=4096)
    """With tags from the controller: slots between two sync pulses."""
    threshold_v: float = Field(default=1.0, ge=-3.3, le=3.3)
    """Of a TDC1's inputs."""

    @property
    def tags(self) -> bool:
        """Whether detections come as time tags."""
        return self.device == "tdc1" or self.detections == "tags"


class AlarmSection(_Section):
    """What this end tolerates before it raises an alarm; see `alarms`. The two ends may differ."""

    rate_step: float = Field(default=NORMAL_LIMITS.rate_step, gt=0)
    mismatch: float = Field(default=NORMAL_LIMITS.mismatch, gt=0, lt=1)
    coincidences_low: float = Field(default=NORMAL_LIMITS.coincidences_low, ge=0, lt=1)
    coincidences_high: float = Field(default=NORMAL_LIMITS.coincidences_high, gt=1)
    splitting: float = Field(default=NORMAL_LIMITS.splitting, gt=0, lt=1)
    bias: float = Field(default=NORMAL_LIMITS.bias, gt=0, lt=0.5)

    def limits(self) -> AlarmLimits:
        """The same as alarms take it."""
        return AlarmLimits(**self.model_dump())


class LinkConfig(_Section):
    """One end of a link."""

    link: str = Field(min_length=1, max_length=64)
    serial_port: FilePath
    initial_secret: FilePath
    authentication_origin: Literal["courier", "pqc"] = "courier"
    """How it came: carried, or by the key exchange of `pqc_secret`; what follows from that is said there."""
    listen: Address | None = None
    """Alice: where Bob connects."""
    connect: Address | None = None
    """Bob: where Alice listens."""
    channel: Annotated[SerialChannel | None, BeforeValidator(_channel)] = None
    """Either: a serial line instead, as in "serial:/dev/ttyUSB0@921600"."""
    store: StoreSection
    kme: KmeSection
    protocol: ProtocolSection = ProtocolSection()
    receiver: ReceiverSection = ReceiverSection()
    alarms: AlarmSection = AlarmSection()

    def settings(self) -> LinkSettings:
        """The part that both ends compare."""
        p = self.protocol
        return LinkSettings(
            link=self.link,
            source=SourceSettings(p.intensities, p.intensity_probabilities),
            pulse_rate_hz=p.pulse_rate_hz,
            key_basis_probability=p.key_basis_probability,
            block_bits=p.block_bits,
            qber_threshold=p.qber_threshold,
            epsilon=EpsilonBudget(p.epsilon_correctness, p.epsilon_secrecy),
            proof=p.proof,
            reconciliation=p.reconciliation,
        )


def load(path: Path, role: Role) -> LinkConfig:
    """Read the configuration of `role`. Raises ConfigError."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"Configuration {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"Configuration {path} is not TOML: {error}.") from None
    try:
        config = LinkConfig.model_validate(document, context={"directory": path.parent})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise ConfigError(f"Configuration {path}, {where}: {first['msg'].removeprefix('Value error, ')}.") from None
    wanted = "listen" if role == "alice" else "connect"
    if config.channel is None and getattr(config, wanted) is None:
        raise ConfigError(f"Configuration {path}, {wanted}: {role} needs this address, or a channel.")
    if config.channel is not None and (config.listen or config.connect):
        raise ConfigError(f"Configuration {path}, channel: there is an address, too; leave one out.")
    return config


def split_address(address: str) -> tuple[str, int]:
    """Return (host, port) of a checked address."""
    host, _, port = address.rpartition(":")
    return host, int(port)
