"""The server's TOML configuration, checked as a whole before anything starts."""

import tomllib
from ipaddress import ip_address
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qepa_uplink.messages import Name
from qepa_wire.keystream import STREAM_STATISTICS, STREAM_UPDATE
from qepa_wire.model import HIDDEN, SOFTMAX, model_words

from .errors import ConfigError
from .privacy.budget import Budget
from .registry.bedside import BedsideTerms
from .robust.aggregate import Aggregator
from .robust.choice import Rule, aggregator
from .robust.watch import WatchSettings
from .training.averaging import LearningRule

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BrokerConfig(_Section):
    """Where the MQTT broker listens, and how one gets in. With ``ca`` over TLS."""

    host: str = "127.0.0.1"
    port: Port = 1883
    username: str | None = None
    password_file: Path | None = None
    ca: Path | None = None


class ApiConfig(_Section):
    """Where the API and the ward page listen; port 0 takes a free one.

    They have no log-in: who listens elsewhere than on this machine says that a gate of the hospital's stands before it.
    """

    host: str = "127.0.0.1"
    port: Port = 0
    behind_gate: bool = False

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if not (self.behind_gate or _is_loopback(self.host)):
            raise ValueError(f"whoever reaches {self.host} reads all: listen on 127.0.0.1, or set behind_gate = true")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class RoundsConfig(_Section):
    """Pace and sizes of rounds. ``n_max``: the most boards one sum may hold; ``max_rounds`` 0: for ever."""

    period_s: Seconds = 60
    ready_within_s: Seconds = 10
    collect_within_s: Seconds = 30
    settle_within_s: Seconds = 20
    min_group: int = Field(default=10, ge=5, le=65535)
    cell_target: int = Field(default=12, ge=5, le=65535)
    n_max: int = Field(default=4096, ge=1, le=65535)
    max_rounds: int = Field(default=0, ge=0)
    gateways_expected: int = Field(default=1, ge=1, le=1024)
    patients_expected: int = Field(default=0, ge=0, le=65535)
    first_within_s: Seconds = 180


class _Privacy(_Section):
    """What one stream asks of each board for privacy; 0 is none.

    ``noise_variance``: of a board's share of discrete Gaussian noise, in words squared, kept in steps of 1/256.
    ``clip_norm``: Euclidean norm of one patient's whole contribution at most, in the units of the board's values.
    """

    noise_variance: float = Field(default=0, ge=0, lt=2**24, allow_inf_nan=False)
    clip_norm: int = Field(default=0, ge=0, le=2**32 - 1)

    @property
    def noise_q8(self) -> int:
        """The variance as the wire carries it: rounded up, so that noise asked for is there."""
        return ceil(256 * self.noise_variance)


class StatisticsConfig(_Privacy):
    """The statistics stream. With noise, words are in the unit of qepa_wire.statistics.scaled, and so is clip_norm."""


class LearningConfig(_Privacy):
    """The model and its update stream, in the units of firmware/qepa_board/learning/network.py (Q12).

    ``hidden``: units of a hidden layer; 0 for softmax regression. ``seed`` of the first model's random weights.
    ``rate`` and ``decay`` are for a model that starts from one that others taught (decay goes towards it); from
    zeros, rate 4 and decay 64 do better (server/LEARNING.md). ``norm_bound``: of the mean of a cell.
    """

    bound: int = Field(default=1024, ge=1, le=2**31)
    q_max: int = Field(default=1024, ge=1, le=2**31)
    features: int = Field(default=17, ge=1, le=255)
    hidden: int = Field(default=0, ge=0, le=255)
    classes: int = Field(default=4, ge=2, le=255)
    fraction_bits: int = Field(default=12, ge=0, le=24)
    norm_bound: int = Field(default=1024, ge=1)
    board_norm: int = Field(default=4096, ge=1)  # what boards clip to unasked: DELTA_NORM_LIMIT of the firmware
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    rate_numerator: int = Field(default=1, ge=1)
    rate_denominator: int = Field(default=1, ge=1)
    decay: int = Field(default=8, ge=0, le=2**16)
    word_limit: int = Field(default=32767, ge=1, le=2**31 - 1)
    aggregator: Rule = Rule.TRIMMED_MEAN
    trim_fraction: float = Field(default=0.2, ge=0, lt=0.5)  # hostile share of cells that the aggregator is set for
    bucket: int = Field(default=1, ge=1, le=64)

    @property
    def n_words(self) -> int:
        """Words of the model: a weight for each input and a bias for each unit."""
        return model_words(HIDDEN if self.hidden else SOFTMAX, self.features, self.hidden, self.classes)

    def join(self, rng: np.random.Generator) -> Aggregator:
        """Return the configured aggregator of cell means in quantizer steps."""
        return aggregator(
            self.aggregator,
            norm_bound=self.norm_bound * self.q_max / self.bound,
            hostile_share=self.trim_fraction,
            bucket=self.bucket,
            rng=rng,
        )

    @property
    def rule(self) -> LearningRule:
        """How the model moves."""
        return LearningRule(
            rate=self.rate_numerator / self.rate_denominator,
            word_limit=self.word_limit,
            units_per_step=self.bound / self.q_max,
            decay=self.decay,
        )


class ModelsConfig(_Section):
    """Releases of models. ``start``: ``shipped`` with the package where it has the shape of [learning], or ``initial``.

    The rest is for models that gateways run, and how many windows of drift in a row take a version back.
    """

    start: Literal["shipped", "initial"] = "shipped"
    soak_s: float = Field(default=600, ge=0, le=30 * 86_400, allow_inf_nan=False)
    confirm_within_s: Seconds = 600
    most_errors: int = Field(default=3, ge=0, le=10**6)
    drift_windows: int = Field(default=3, ge=1, le=1000)

    @property
    def terms(self) -> BedsideTerms:
        """The same for the gateways' lines."""
        return BedsideTerms(
            confirm_within_ms=round(1000 * self.confirm_within_s),
            soak_ms=round(1000 * self.soak_s),
            most_errors=self.most_errors,
        )


class BudgetConfig(_Section):
    """What one purpose may show of a patient; see docs/privacy.md. ``epsilon`` 0: counted, not limited.

    The budget is renewed every ``period_days``; 0: never.
    """

    epsilon: float = Field(default=0, ge=0, le=100, allow_inf_nan=False)
    delta: float = Field(default=1e-6, gt=0, le=1e-3)
    period_days: float = Field(default=0, ge=0, le=36525, allow_inf_nan=False)

    @property
    def budget(self) -> Budget:
        """The budget as rounds count it."""
        return Budget(self.epsilon, self.delta, round(self.period_days * 86_400_000))


class PrivacyConfig(_Section):
    """Budgets of each patient. ``colluding_boards``: noise of so many boards of a cell is not counted on."""

    colluding_boards: int = Field(default=0, ge=0, le=65535)
    consent_required: bool = False
    statistics: BudgetConfig = BudgetConfig()
    learning: BudgetConfig = BudgetConfig()

    @property
    def budgets(self) -> dict[int, Budget]:
        """The budget of each stream."""
        return {STREAM_STATISTICS: self.statistics.budget, STREAM_UPDATE: self.learning.budget}


class WatchConfig(_Section):
    """When a patient or gateway is suspected, and whether that may quarantine (robust/watch.py).

    ``window`` rounds are looked at together. ``alpha``: chance that any honest party is quarantined in a window.
    ``most``: share of the enrolled patients that may be quarantined without a person.
    """

    quarantine: bool = True
    window: int = Field(default=128, ge=2, le=4096)
    min_cells: int = Field(default=24, ge=2, le=4096)
    alpha: float = Field(default=1e-3, gt=0, lt=1)
    most: float = Field(default=0.3, ge=0, le=1)

    @property
    def settings(self) -> WatchSettings:
        """The same for the watch; raises ConfigError if min_cells is beyond the window."""
        try:
            return WatchSettings(window=self.window, min_cells=self.min_cells, alpha=self.alpha)
        except ValueError as error:
            raise ConfigError("config", f"watch: {error}") from error


class WardConfig(_Section):
    """What every screen has to say of where the data comes from."""

    simulated: bool = False
    data_source: str = Field(default="", max_length=200)


class ServerConfig(_Section):
    """All of it. Relative paths count from the folder of the file."""

    name: Name = "server"
    state_dir: Path
    identity: Path
    root_key: Path
    broker: BrokerConfig = BrokerConfig()
    api: ApiConfig = ApiConfig()
    rounds: RoundsConfig = RoundsConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    learning: LearningConfig = LearningConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    watch: WatchConfig = WatchConfig()
    models: ModelsConfig = ModelsConfig()
    ward: WardConfig = WardConfig()


def load(path: Path) -> ServerConfig:
    """Read and check the file; raises ConfigError in one sentence that names what does not fit."""
    try:
        record = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError("config", f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config", f"{path} is not TOML: {error}") from error
    try:
        config = ServerConfig.model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError("config", f"{path}: {where}: {first['msg']}") from error
    base = path.resolve().parent
    files = {name: base / file for name, file in config.broker if isinstance(file, Path)}
    here: dict[str, Any] = {key: base / getattr(config, key) for key in ("state_dir", "identity", "root_key")}
    return config.model_copy(update=here | {"broker": config.broker.model_copy(update=files)})
