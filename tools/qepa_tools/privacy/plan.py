"""What a budget buys: noise of a board, and how exact sums then are, for sizes of cells and numbers of rounds.

Figures are computed from the accountant and the layout of the streams, not measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import sqrt

from qepa_server.config import LearningConfig
from qepa_server.privacy.accountant import rho_within, sensitivity, share_q8
from qepa_uplink.messages import StreamSpec
from qepa_wire.discrete_gaussian import Q8, tail
from qepa_wire.keystream import STREAM_STATISTICS, STREAM_UPDATE
from qepa_wire.quantizer import NEAREST, SUM_LIMIT
from qepa_wire.statistics import HR, SCALE, SPANS, WORDS

STATISTICS_CLIP = 1600  # a usual window has a norm of about 1500 (tests/unit/server/test_statistics.py)
LEARNING_CLIP = 2048  # chosen on recordings: server/LEARNING.md, federated-bounds
N_MAX = 4096
COARSEST = 8  # quantizer steps for the clip bound's unit


@dataclass(frozen=True, slots=True)
class Choice:
    """Settings that keep a budget, and what noise is then in figures of a ward with one board a patient.

    ``count_se`` (boards in a bin of the histogram) and ``mean_se_bpm`` are of the statistics of the whole ward;
    ``noise_to_clip`` is the length of the noise in the mean update of the ward, in bounds of one patient's update.
    None where the settings are of the other stream. ``q_max`` 0: no noise that the wire carries is enough.
    """

    purpose: str
    epsilon: float
    delta: float
    rounds: int
    min_group: int
    patients: int
    q_max: int
    clip_norm: int
    noise_variance: float
    count_se: float | None = None
    mean_se_bpm: float | None = None
    noise_to_clip: float | None = None


def choices(
    purpose: str, *, epsilon: float, delta: float, rounds: Iterable[int], groups: Iterable[int], patients: int
) -> list[Choice]:
    """Return the trade-off for one purpose: each number of rounds with each least size of a cell."""
    plan = _statistics if purpose == "statistics" else _learning
    rho = rho_within(epsilon, delta)
    return [
        plan(Choice(purpose, epsilon, delta, number, group, patients, 0, 0, 0.0), rho / number)
        for number in rounds
        for group in groups
    ]


def _statistics(asked: Choice, rho: float) -> Choice:
    spec = StreamSpec(
        stream=STREAM_STATISTICS,
        n_words=WORDS,
        bound=SCALE,
        q_max=SCALE,
        rounding=NEAREST,
        clip_norm=STATISTICS_CLIP,
    )
    found = finest_quantizer(spec, asked.min_group, rho, finest=SCALE, coarsest=SCALE)
    if found is None:
        return asked
    q_max, noise_q8 = found
    sigma = sqrt(asked.patients * noise_q8 / Q8) / SCALE
    return replace(
        asked,
        q_max=q_max,
        clip_norm=STATISTICS_CLIP,
        noise_variance=noise_q8 / Q8,
        count_se=round(sigma, 2),
        mean_se_bpm=round(SPANS[HR] * sigma / asked.patients, 2),
    )


def _learning(asked: Choice, rho: float) -> Choice:
    learning = LearningConfig()
    spec = StreamSpec(
        stream=STREAM_UPDATE,
        n_words=learning.n_words,
        bound=learning.bound,
        q_max=learning.bound,
        rounding=NEAREST,
        clip_norm=LEARNING_CLIP,
    )
    found = finest_quantizer(spec, asked.min_group, rho, finest=learning.bound, coarsest=COARSEST)
    if found is None:
        return asked
    q_max, noise_q8 = found
    step = learning.bound / q_max
    length = sqrt(learning.n_words * noise_q8 / Q8 / asked.patients) * step
    return replace(
        asked,
        q_max=q_max,
        clip_norm=LEARNING_CLIP,
        noise_variance=noise_q8 / Q8,
        noise_to_clip=round(length / LEARNING_CLIP, 3),
    )


def finest_quantizer(
    spec: StreamSpec, min_group: int, rho: float, *, finest: int, coarsest: int
) -> tuple[int, int] | None:
    """Return the finest quantizer (steps, noise of a share) whose noise the wire can carry and no sum overflows.

    ``rho``: what a round may cost a patient in a cell of ``min_group`` boards. None where no quantizer does.
    """
    q_max = finest
    while q_max >= coarsest:
        try:
            noise_q8 = share_q8(spec.model_copy(update={"q_max": q_max}), [1], min_group, rho)
            if N_MAX * (q_max + tail(noise_q8)) < SUM_LIMIT:
                return q_max, noise_q8
        except ValueError:
            pass
        q_max //= 2
    return None


def noise_of(choice: Choice) -> float:
    """Return the noise multiplier of the smallest cell: standard deviation over sensitivity."""
    bound = SCALE if choice.purpose == "statistics" else LearningConfig().bound
    words = WORDS if choice.purpose == "statistics" else LearningConfig().n_words
    spec = StreamSpec(
        stream=STREAM_UPDATE,
        n_words=words,
        bound=bound,
        q_max=choice.q_max,
        rounding=NEAREST,
        clip_norm=choice.clip_norm,
    )
    return sqrt(choice.min_group * choice.noise_variance) / sensitivity(spec, [1])
