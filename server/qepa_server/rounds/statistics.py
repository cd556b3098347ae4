"""What an opened sum of the statistics stream tells (layout: qepa_wire.statistics)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

from qepa_wire.statistics import FIRST_BIN, HR, HR_SQUARED, VALID


@dataclass(frozen=True, slots=True)
class HeartRate:
    """Heart rate over the boards whose window was valid; sd is between boards; bins by HR_EDGES_BPM."""

    boards: int
    mean_bpm: float
    sd_bpm: float
    histogram: tuple[int, ...]


def heart_rate(totals: Iterable[Sequence[int]]) -> HeartRate | None:
    """Return the statistics of opened sums together; None where no board had a valid window.

    >>> heart_rate([[2, 130, 8500, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]])
    HeartRate(boards=2, mean_bpm=65.0, sd_bpm=5.0, histogram=(0, 0, 0, 2, 0, 0, 0, 0))
    """
    summed = [sum(column) for column in zip(*totals, strict=True)]
    if not summed or summed[VALID] < 1:
        return None
    n = summed[VALID]
    mean = summed[HR] / n
    variance = max(0.0, summed[HR_SQUARED] / n - mean * mean)
    return HeartRate(n, round(mean, 2), round(sqrt(variance), 2), tuple(summed[FIRST_BIN:]))
