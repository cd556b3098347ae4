"""Who stands behind cells that look wrong: group testing over rounds, from cell sums alone.

Cells are redrawn each round, so what one patient does shows in all of that patient's cells, and in no other's each
time. All boards of a patient are in one cell, so a *unit* is a patient. Units that shared every cell can't be told
apart: they are one :class:`Estimate` together.

Of each opened cell two numbers are kept. With T the sum, n its boards, s2 a board's noise variance, d words, m the
round's coordinate median of cell means clipped to B, and B the norm that an honest board's contribution can't exceed:

    energy   (|T - n m|^2 - n d s2) / B^2    about the sum over its patients p of |x_p - n_p m|^2 / B^2
    against  -<T - n m, m> / |m|^2           the sum over its patients of how far each pushes back: 2 for a sign flip

Both are additive over patients up to cross terms of mean 0, so a ridge regression on membership attributes them. Two
numbers a patient are all that is learned; with noise in the sums they are post-processing of private values.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from .aggregate import Floats, clip_norms
from .rules import CoordinateMedian

_MOST_UNITS = 1024


@dataclass(frozen=True, slots=True)
class OpenedCell:
    """A cell of one round: its units with the number of boards of each, and its opened sum in quantizer steps."""

    units: tuple[str, ...]
    boards: tuple[int, ...]
    total: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Trace:
    """What is kept of a cell: its units, energy and opposition."""

    round: int
    units: tuple[str, ...]
    energy: float
    against: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What units that can't be told apart add to each of their ``cells``, with its standard error.

    ``freedom``: degrees of freedom that the error was estimated with.
    """

    units: tuple[str, ...]
    cells: int
    value: float
    error: float
    freedom: float

    def lower(self, z: float) -> float:
        """``z`` standard errors below the estimate."""
        return self.value - z * self.error


def traces(
    round_: int, cells: Sequence[OpenedCell], *, honest_norm: float, noise_variance: float = 0.0
) -> tuple[list[Trace], float]:
    """Return a trace of each cell, and |m| / B.

    ``honest_norm`` B of one board's contribution and ``noise_variance`` s2 of its words, in quantizer steps.
    """
    if not cells:
        return [], 0.0
    boards = np.array([sum(cell.boards) for cell in cells], np.float64)
    totals = np.array([cell.total for cell in cells], np.float64)
    centre: Floats = CoordinateMedian()(clip_norms(totals / boards[:, None], honest_norm))
    off = totals - boards[:, None] * centre
    energy = ((off**2).sum(axis=1) - boards * totals.shape[1] * noise_variance) / honest_norm**2
    length = float(centre @ centre)
    against = -(off @ centre) / length if length > 0 else np.zeros(len(cells))
    found = [Trace(round_, cell.units, float(e), float(a)) for cell, e, a in zip(cells, energy, against, strict=True)]
    return found, sqrt(length) / honest_norm


def estimates(kept: Sequence[Trace], values: Sequence[float], *, ridge: float = 0.5) -> list[Estimate]:
    """Attribute ``values``, one for each trace, to units.

    In each set of units that cells connect, with A the 0/1 membership, W = (A'A + ridge)^-1 and the mean belief mu:

        theta = mu + W A' (y - A mu)        error^2 = s^2 W_pp        s^2 = |y - A theta|^2 / (n - tr(A W A'))

    which is the posterior of a Gaussian prior with variance s^2 / ridge around mu: where the cells of the window do not
    tell units apart, the error is as large as the prior's. The error is never less than that of the mean of the unit's
    partial residuals (one a cell, no common variance assumed). Sets of more than 1,024 units are left out: too many to
    judge one by one.
    """
    found: list[Estimate] = []
    for indices in _connected(kept):
        found += _attributed([kept[c] for c in indices], np.array([values[c] for c in indices]), ridge)
    return found


def _attributed(kept: Sequence[Trace], y: Floats, ridge: float) -> list[Estimate]:
    groups = inseparable(kept)
    if len(groups) > _MOST_UNITS:
        return []
    index = {unit: i for i, group in enumerate(groups) for unit in group}
    member = np.zeros((len(kept), len(groups)))
    for c, trace in enumerate(kept):
        member[c, [index[unit] for unit in trace.units]] = 1
    sizes = np.array([len(group) for group in groups], np.float64)
    expected = member @ sizes
    belief = float(expected @ y / (expected @ expected)) * sizes  # the same for each patient
    inverse = np.linalg.inv(member.T @ member + ridge * np.eye(len(groups)))
    theta = belief + inverse @ (member.T @ (y - member @ belief))
    rest = y - member @ theta
    # tr(A W A') = tr(W (A'A + ridge)) - ridge tr(W), and W (A'A + ridge) is the identity.
    freedom = len(kept) - len(groups) + ridge * float(np.trace(inverse))
    if freedom < 1:
        return []
    posterior = np.diag(inverse) * float(rest @ rest) / freedom
    counts = member.sum(axis=0)
    centre = member.T @ rest / counts
    partial = (member.T @ rest**2 / counts - centre**2) / np.maximum(counts - 1, 1)
    errors = np.sqrt(np.maximum(posterior, partial))
    return [
        Estimate(group, int(counts[i]), float(theta[i]), float(errors[i]), freedom) for i, group in enumerate(groups)
    ]


def _connected(kept: Sequence[Trace]) -> list[list[int]]:
    """Return the indices of ``kept`` in sets that share no unit with each other."""
    places: dict[str, list[int]] = defaultdict(list)
    for c, trace in enumerate(kept):
        for unit in trace.units:
            places[unit].append(c)
    found: list[list[int]] = []
    left = {c for c, trace in enumerate(kept) if trace.units}
    while left:
        reached, waiting = set[str](), [min(left)]
        left.discard(waiting[0])
        own: list[int] = []
        while waiting:
            own.append(c := waiting.pop())
            for unit in kept[c].units:
                if unit not in reached:
                    reached.add(unit)
                    new = left.intersection(places[unit])
                    left -= new
                    waiting.extend(new)
        found.append(sorted(own))
    return found


def inseparable(kept: Sequence[Trace]) -> list[tuple[str, ...]]:
    """Return the units of ``kept`` in groups that were in exactly the same cells, by name."""
    places: dict[str, list[int]] = defaultdict(list)
    for c, trace in enumerate(kept):
        for unit in trace.units:
            places[unit].append(c)
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for unit in sorted(places):
        groups[tuple(places[unit])].append(unit)
    return [tuple(group) for group in groups.values()]


def critical(alpha: float, freedom: float) -> float:
    """Return the one-sided Student quantile at ``alpha`` with ``freedom`` degrees of freedom.

    By the expansion of Abramowitz and Stegun, 26.7.5, to three terms: too small by under 3 % with 20 degrees and
    alpha = 1e-7 (the tests compare with scipy).
    """
    z = -NormalDist().inv_cdf(alpha)
    v = max(1.0, freedom)
    return z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
