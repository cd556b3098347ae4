"""What opened sums of the statistics stream tell, and how far their noise can move it (layout: qepa_wire.statistics).

All of it is computed from noisy sums, so it costs no privacy beyond theirs. Standard errors are of the noise alone; for
ratios they are first order in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import sqrt

from qepa_wire.statistics import CENTRES, FIRST_BIN, HR, HR_EDGES_BPM, HR_SQUARED, SCALE, SPANS, VALID

_LEAST_BPM, _MOST_BPM = 20, 250  # ends of the open bins, for percentiles
_SURE = 2.0  # a count must be so many standard errors above 0 before anything is divided by it


@dataclass(frozen=True, slots=True)
class HeartRate:
    """Heart rate over the boards whose window was valid; sd is between boards; bins by HR_EDGES_BPM.

    ``*_se`` are standard errors by the noise; 0 where sums are exact. Bins are counts, never below 0.
    """

    boards: float
    mean_bpm: float
    sd_bpm: float
    histogram: tuple[float, ...]
    boards_se: float = 0.0
    mean_se_bpm: float = 0.0
    sd_se_bpm: float = 0.0
    bin_se: float = 0.0

    def percentile(self, share: float) -> tuple[float, float, float]:
        """Return (estimate, low, high) in bpm of the value that ``share`` of the boards are below.

        By interpolation in the cumulated histogram, which is monotone as no bin is negative. low and high are where the
        cumulated count is two standard errors of its noise away.

        >>> HeartRate(4, 70, 10, (0, 0, 1, 2, 1, 0, 0, 0)).percentile(0.5)
        (67.5, 67.5, 67.5)
        """
        edges = (_LEAST_BPM, *HR_EDGES_BPM, _MOST_BPM)
        total = sum(self.histogram)
        bins_below = sum(1 for count in accumulate(self.histogram) if count <= share * total)
        # Noise of the bins below, and of the total that the share is taken of.
        margin = 2 * self.bin_se * sqrt(max(1, bins_below) * (1 - share) ** 2 + (len(edges) - 1) * share**2)
        estimate, low, high = (
            _inverse(self.histogram, edges, min(total, max(0.0, share * total + shift)))
            for shift in (0.0, -margin, margin)
        )
        return estimate, low, high


def _inverse(histogram: Sequence[float], edges: Sequence[int], wanted: float) -> float:
    below = 0.0
    for count, (left, right) in zip(histogram, pairwise(edges), strict=True):
        if count and below + count >= wanted:
            return round(left + (right - left) * (wanted - below) / count, 1)
        below += count
    return float(edges[-1])


def heart_rate(totals: Iterable[Sequence[int]], noise_variance: float | None = None) -> HeartRate | None:
    """Return the statistics of opened sums together; None where no board had a valid window, or noise hides it.

    ``noise_variance``: of a word of all the sums together, in words squared; None for sums without noise, whose layout
    is another (``scaled`` says which).

    >>> found = heart_rate([[2, 130, 8500, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]])
    >>> found.boards, found.mean_bpm, found.sd_bpm, found.histogram
    (2, 65.0, 5.0, (0, 0, 0, 2, 0, 0, 0, 0))
    """
    summed = [sum(column) for column in zip(*totals, strict=True)]
    if not summed:
        return None
    if noise_variance is not None:
        return _noisy(summed, sqrt(noise_variance))
    n = summed[VALID]
    if n < 1:
        return None
    mean = summed[HR] / n
    variance = max(0.0, summed[HR_SQUARED] / n - mean * mean)
    return HeartRate(n, round(mean, 2), round(sqrt(variance), 2), tuple(summed[FIRST_BIN:]))


def _noisy(summed: Sequence[int], sigma: float) -> HeartRate | None:
    valid = summed[VALID]
    if valid < max(SCALE, _SURE * sigma):
        return None
    span = SPANS[HR]
    first, second = summed[HR] / valid, summed[HR_SQUARED] / valid
    # In units of the span: variance = second - first^2, as SPANS[HR_SQUARED] is span^2.
    variance = max(0.0, second - first * first)
    variance_se = sigma / valid * sqrt(1 + 4 * first * first + (second - 2 * first * first) ** 2)
    sd = sqrt(variance)
    return HeartRate(
        boards=round(valid / SCALE, 1),
        mean_bpm=round(CENTRES[HR] + span * first, 2),
        sd_bpm=round(span * sd, 2),
        histogram=tuple(round(max(0, word) / SCALE, 1) for word in summed[FIRST_BIN:]),
        boards_se=round(sigma / SCALE, 2),
        mean_se_bpm=round(span * sigma / valid * sqrt(1 + first * first), 2),
        sd_se_bpm=round(span * (variance_se / (2 * sd) if sd * sd > variance_se else sqrt(variance_se)), 2),
        bin_se=round(sigma / SCALE, 2),
    )
