"""What a privacy budget does to learning: rounds simulated with recordings, one cell, no encryption.

The mean update is of the recordings' patients; noise is added to it as it would be in the mean of a larger ward, a
stand-in for as many people. Updates are clipped to the bound that the noise is set for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qepa_server.config import LearningConfig
from qepa_server.robust.aggregate import Floats, Rows

from ..recordings.board_beats import FeatureCache
from ..recordings.evaluation import HeldOut
from ..recordings.learning_tables import federated_rounds
from ..recordings.physionet import load_all
from ..recordings.ward_split import ward_split
from .plan import LEARNING_CLIP, choices

_EVALUATED_S = 31 * 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """On people outside the ward, means over ``splits``; ``epsilon`` 0: no noise. ``all_normal``: saying N always."""

    epsilon: float
    rounds: int
    patients: int
    accuracy: float
    macro_f1: float
    all_normal: float
    splits: int


class NoisyMean:
    """The mean of cells, and Gaussian noise on each word."""

    def __init__(self, deviation: float, rng: np.random.Generator) -> None:
        self._deviation = deviation
        self._rng = rng

    def __call__(self, means: Rows) -> Floats:
        """Return the noisy mean of ``means`` (cells, words)."""
        mean: Floats = np.mean(means, axis=0, dtype=np.float64)
        return mean + self._rng.normal(0.0, self._deviation, len(mean))


def deviation(epsilon: float, rounds: int, patients: int) -> float:
    """Return the deviation of a word of a ward's mean update where a budget lasts so many rounds, in its units."""
    if not epsilon:
        return 0.0
    (choice,) = choices("learning", epsilon=epsilon, delta=1e-6, rounds=[rounds], groups=[10], patients=patients)
    return float((choice.noise_to_clip or 0.0) * LEARNING_CLIP / np.sqrt(LearningConfig().n_words))


def outcomes(
    data: Path, cache: Path, *, epsilons: Sequence[float], rounds: Sequence[int], patients: int, splits: int
) -> Iterator[Outcome]:
    """Return one row for each epsilon and number of rounds that it is to last; cells of at least 10 patients."""
    recordings, features = load_all(data), FeatureCache(cache)
    found: dict[tuple[float, int], list[tuple[float, float, float]]] = {}
    for seed in range(splits):
        ward, others = ward_split(recordings, seed)
        held_out = HeldOut(others, features, _EVALUATED_S)
        for epsilon in epsilons:
            for number in rounds:
                clip = LEARNING_CLIP if epsilon else 0
                noisy = NoisyMean(deviation(epsilon, number, patients), np.random.default_rng(seed))
                *_, words = federated_rounds(ward, features, number, LearningConfig(seed=seed), noisy, clip)
                result = held_out.evaluate(words, 0)
                found.setdefault((epsilon, number), []).append((result.accuracy, result.macro_f1, result.majority))
    for (epsilon, number), results in found.items():
        accuracy, macro_f1, majority = np.mean(results, axis=0)
        yield Outcome(epsilon, number, patients, round(accuracy, 4), round(macro_f1, 3), round(majority, 4), splits)
