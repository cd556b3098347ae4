"""Whether what a model sees, or how it moves, is still as it was: one number a window, and an alarm with a known rate.

A window is described by a vector and scored by its distance from windows of a reference time: Reference. Where single
beats may be seen (recordings; the care stream under a consent, were features on the wire) the vector is `profile`. The
server sees no beat of the aggregate stream: there it has a round's mean update and its opened statistics, with noise.

The alarm makes no assumption about how scores are distributed. Each is ranked among those before it: in a world that
does not change (scores exchangeable) these ranks are independent and uniform (Vovk, Nouretdinov and Gammerman, "Testing
exchangeability on-line", ICML 2003). They are bet on being small by the mixture of e p^(e-1) over e in (0, 1),

    g(p) = (p ln p - p + 1) / (p (ln p)^2),        R_n = (1 + R_{n-1}) g(p_n)

R_n - n is a martingale then, so that the mean number of windows until R first reaches `limit` by chance is at least
`limit` (Shiryaev-Roberts; Volkhonskiy et al., "Inductive conformal martingales for change-point detection", COPA 2017).
Neighbouring windows of one patient are more alike than distant ones: what that costs is measured in LEARNING.md.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

LIMIT = 1000.0
LEAST_WINDOWS = 10  # of the reference time

_KEPT = 10_000  # scores that later ones are ranked among
_CAP = 16.0  # times the limit: an alarm ends soon after its cause
_CLIPPED = 25.0  # one coordinate's share of a score
_LEAST_BEATS = 5  # of a class, for its part of a profile


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSignal:
    """State of one model's monitor after a window.

    name, version: of the model. score: R above; limit: windows until a false alarm, on average at least. since: t_ms of
    the window from which on the score has been at the limit or above, None while it is below.
    """

    name: str
    version: int
    score: float
    limit: float
    since: int | None

    @property
    def raised(self) -> bool:
        """Whether there is an alarm."""
        return self.since is not None


class DriftMonitor:
    """Watches the scores of one version of a model; a new version gets a new monitor.

    reference: scores of windows when all was well, not those that the score itself was made from. uniform: numbers in
    [0, 1), to break ties.
    """

    def __init__(
        self, name: str, version: int, reference: Sequence[float], uniform: Callable[[], float], limit: float = LIMIT
    ) -> None:
        if len(reference) < LEAST_WINDOWS or not np.isfinite(reference).all():
            raise ValueError(f"a monitor needs {LEAST_WINDOWS} scores of reference windows, all of them numbers")
        if not limit > 1:
            raise ValueError(f"a limit of {limit:g} windows is none")
        self._seen = sorted(float(score) for score in reference)
        self._uniform = uniform
        self._statistic = 0.0
        self.signal = DriftSignal(name=name, version=version, score=0.0, limit=limit, since=None)

    def add(self, t_ms: int, score: float) -> DriftSignal:
        """Take the score of the window that ended at t_ms; ValueError if it is not a number."""
        if not np.isfinite(score):
            raise ValueError("a score has to be a number")
        before = self.signal
        self._statistic = min((1 + self._statistic) * bet(self._rank(score)), _CAP * before.limit)
        over = self._statistic >= before.limit
        if not over and len(self._seen) < _KEPT:  # what raised an alarm must not become what is usual
            insort(self._seen, float(score))
        self.signal = DriftSignal(
            name=before.name,
            version=before.version,
            score=self._statistic,
            limit=before.limit,
            since=(before.since if before.since is not None else t_ms) if over else None,
        )
        return self.signal

    def _rank(self, score: float) -> float:
        """Share of scores at least as high, this one among them; ties count by chance. In (0, 1]."""
        above = len(self._seen) - bisect_right(self._seen, score)
        same = bisect_right(self._seen, score) - bisect_left(self._seen, score) + 1
        return (above + (1 - self._uniform()) * same) / (len(self._seen) + 1)


def bet(p: float) -> float:
    """What a stake of 1 becomes when the rank is p in (0, 1]: a density, high for small p.

    >>> bet(1.0), round(bet(0.01), 2)
    (0.5, 4.45)
    """
    if p > 0.999:
        return 0.5 + (1 - p) / 6  # of the series about 1, where the formula is 0 / 0
    return (p * log(p) - p + 1) / (p * log(p) ** 2)


def profile(
    features: NDArray[np.float64], attributions: NDArray[np.float64], answers: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Profile of the beats of one window: a vector of classes * (1 + 2 * features) numbers.

    features: [beats, features]. attributions: [beats, classes, features]. answers: class numbers. For each class the
    share of beats answered so, the mean feature of these, and their mean absolute attribution to that class; NaN for
    the last two with fewer than 5 such beats.
    """
    n = features.shape[1]
    parts = []
    for c in range(classes):
        chosen = answers == c
        share = float(chosen.mean()) if len(answers) else np.nan
        if chosen.sum() < _LEAST_BEATS:
            parts.append(np.r_[share, np.full(2 * n, np.nan)])
        else:
            parts.append(np.r_[share, features[chosen].mean(axis=0), np.abs(attributions[chosen, c]).mean(axis=0)])
    return np.concatenate(parts)


class Reference:
    """Vectors of windows when all was well, coordinates of like size; ValueError with fewer than LEAST_WINDOWS."""

    def __init__(self, profiles: Sequence[NDArray[np.float64]]) -> None:
        if len(profiles) < LEAST_WINDOWS:
            raise ValueError(f"a reference needs {LEAST_WINDOWS} windows, not {len(profiles)}")
        rows = np.array(profiles, dtype=np.float64)
        known = np.isfinite(rows).sum(axis=0) >= LEAST_WINDOWS // 2
        self._known = known
        self._mean = np.nanmean(rows[:, known], axis=0)
        sd = np.nanstd(rows[:, known], axis=0)
        self._sd = np.maximum(sd, max(np.median(sd) / 4, 1e-9))  # what hardly moved must not outweigh the rest

    def score(self, of: NDArray[np.float64]) -> float:
        """Mean squared distance from the reference in its standard deviations, each coordinate's at most 25."""
        z = (of[self._known] - self._mean) / self._sd
        z = z[np.isfinite(z)]
        return float(np.minimum(z**2, _CLIPPED).mean()) if len(z) else 0.0
