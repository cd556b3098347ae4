"""From the configuration to what rounds ask for."""

from math import inf

from qepa_uplink.messages import StreamSpec
from qepa_wire.errors import WireError
from qepa_wire.keystream import STREAM_STATISTICS, STREAM_UPDATE
from qepa_wire.model import MAX_WORDS
from qepa_wire.quantizer import NEAREST, Quantizer
from qepa_wire.statistics import Q_MAX as STATISTICS_Q_MAX
from qepa_wire.statistics import SCALE as STATISTICS_SCALE
from qepa_wire.statistics import WORDS as STATISTICS_WORDS

from .config import LearningConfig, ServerConfig, StatisticsConfig
from .errors import ConfigError
from .privacy.accountant import cost, epsilon
from .privacy.budget import PURPOSES, Budget
from .rounds.plan import RoundPlan


def plan_rounds(config: ServerConfig) -> RoundPlan:
    """What each round asks for; ConfigError, with the arithmetic, if a sum could overflow or no budget bears it."""
    rounds, learning = config.rounds, config.learning
    if rounds.cell_target < rounds.min_group:
        raise ConfigError("config", f"cell_target {rounds.cell_target} is below min_group {rounds.min_group}")
    if learning.n_words > MAX_WORDS:
        raise ConfigError("config", f"a model has at most {MAX_WORDS} words, this one {learning.n_words}")
    largest = STATISTICS_SCALE if config.statistics.noise_q8 else STATISTICS_Q_MAX
    streams = (
        _stream(STREAM_STATISTICS, STATISTICS_WORDS, largest, largest, rounds.n_max, config.statistics),
        _stream(STREAM_UPDATE, learning.n_words, learning.bound, learning.q_max, rounds.n_max, learning),
    )
    for spec in streams:
        _check_budget(spec, rounds.min_group - config.privacy.colluding_boards, config.privacy.budgets[spec.stream])
    return RoundPlan(
        streams=streams,
        n_max=rounds.n_max,
        min_group=rounds.min_group,
        cell_target=rounds.cell_target,
        period_ms=round(1000 * rounds.period_s),
        ready_within_ms=max(1, round(1000 * rounds.ready_within_s)),
        collect_within_ms=max(1, round(1000 * rounds.collect_within_s)),
        settle_within_ms=max(1, round(1000 * rounds.settle_within_s)),
        max_rounds=rounds.max_rounds,
        gateways_expected=rounds.gateways_expected,
        patients_expected=rounds.patients_expected or rounds.cell_target,
        first_within_ms=round(1000 * rounds.first_within_s),
    )


def _check_budget(spec: StreamSpec, shares: int, budget: Budget) -> None:
    """Raise ConfigError for a budget that no round could keep to."""
    purpose = PURPOSES[spec.stream]
    if not budget.epsilon:
        return
    worst = cost(spec, [1], shares)
    if worst == inf:
        raise ConfigError(
            "config",
            f"privacy.{purpose}.epsilon needs a {purpose}.noise_variance of at least 0.25 and more boards in "
            f"min_group than colluding_boards",
        )
    if worst > budget.rho:
        raise ConfigError(
            "config",
            f"one round of {purpose} costs epsilon {epsilon(worst, budget.delta):.3g} at delta {budget.delta:g}, "
            f"the budget is {budget.epsilon:g}: more noise_variance, less clip_norm or less q_max (qepa privacy plan)",
        )


def _stream(
    stream: int, n_words: int, bound: int, q_max: int, n_max: int, privacy: StatisticsConfig | LearningConfig
) -> StreamSpec:
    noise_q8 = privacy.noise_q8
    try:
        Quantizer(bound, q_max, n_max, noise_q8=noise_q8)
    except WireError as error:
        raise ConfigError("config", f"stream {stream}: {error}") from error
    return StreamSpec(
        stream=stream,
        n_words=n_words,
        bound=bound,
        q_max=q_max,
        rounding=NEAREST,
        noise_q8=noise_q8,
        clip_norm=privacy.clip_norm,
    )
