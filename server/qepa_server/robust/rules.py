"""Rules that join cell means when some cells may say anything. One row for each cell, (cells, words), int64 or float64.

Of n rows at most f are hostile. A rule's breakdown point is the share of hostile rows from which they can carry it
anywhere. A cell is hostile when one of its boards is: with a share h of hostile patients and p patients in a cell,
1 - (1 - h)^p of the cells are expected to be. Every rule is deterministic, raises ValueError for rows it has no answer
to, and gives a vector of (words,) within the smallest and largest row word by word.
"""

import numpy as np

from .aggregate import Floats, Rows


def rows(means: Rows) -> Floats:
    """Return ``means`` as float64; raises ValueError for no rows, another shape, or a word that is not finite."""
    found: Floats = np.asarray(means, np.float64)
    if found.ndim != 2 or not len(found):
        raise ValueError("one row for each cell, and at least one cell")
    if not np.isfinite(found).all():
        raise ValueError("a cell mean holds a word that is not a number")
    return found


class Mean:
    """The plain mean. Assumes that nobody lies: one hostile row carries it anywhere (breakdown point 0)."""

    def __call__(self, means: Rows) -> Floats:
        """Return the aggregate of ``means`` (cells, words)."""
        result: Floats = rows(means).mean(axis=0)
        return result


class CoordinateMedian:
    """The median of each word: Yin et al., ICML 2018, definition 1.

    Assumes that honest rows are alike word by word. Breakdown point 1/2; its error grows with sqrt(words), and on
    heterogeneous rows it ignores what a minority learns.

    >>> CoordinateMedian()(np.array([[0, 1], [1, 2], [900, -900]])).tolist()
    [1.0, 1.0]
    """

    def __call__(self, means: Rows) -> Floats:
        """Return the aggregate of ``means`` (cells, words)."""
        result: Floats = np.median(rows(means), axis=0)
        return result


class GeometricMedian:
    """The point with the least sum of distances to the rows, by smoothed Weiszfeld steps.

    Pillutla, Kakade and Harchaoui, IEEE TSP 70 (2022), algorithm 1 (RFA): weights 1 / max(nu, distance), again until
    the point moves less than ``tolerance`` of the rows' spread. Assumes nothing word by word. Breakdown point 1/2.
    """

    def __init__(self, *, nu: float = 1e-6, iterations: int = 200, tolerance: float = 1e-9) -> None:
        if not (nu > 0 and iterations > 0 and tolerance > 0):
            raise ValueError("nu, iterations and tolerance must be above 0")
        self._nu, self._iterations, self._tolerance = nu, iterations, tolerance

    def __call__(self, means: Rows) -> Floats:
        """Return the aggregate of ``means`` (cells, words)."""
        points = rows(means)
        point: Floats = np.median(points, axis=0)
        spread = float(np.linalg.norm(points - point, axis=1).max())
        if spread == 0:
            return point
        for _ in range(self._iterations):
            weights = 1 / np.maximum(self._nu * spread, np.linalg.norm(points - point, axis=1))
            following: Floats = weights @ points / weights.sum()
            moved = float(np.linalg.norm(following - point))
            point = following
            if moved <= self._tolerance * spread:
                break
        # The convex combination can leave the rows' box by a rounding step only.
        result: Floats = np.clip(point, points.min(axis=0), points.max(axis=0))
        return result


def krum_scores(points: Floats, hostile: int) -> Floats:
    """Return for each row the sum of squared distances to its n - f - 2 nearest others (Blanchard 2017, section 4).

    Raises ValueError unless 2 f + 2 < n, which the paper's proposition 4.2 needs.
    """
    n = len(points)
    if hostile < 0 or n <= 2 * hostile + 2:
        raise ValueError(f"Krum against {hostile} hostile cells needs more than {2 * hostile + 2} cells, not {n}")
    squares = np.einsum("ij,ij->i", points, points)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * points @ points.T, 0)
    np.fill_diagonal(distances, np.inf)
    nearest = np.sort(distances, axis=1)[:, : n - hostile - 2]
    scores: Floats = nearest.sum(axis=1)
    return scores


class MultiKrum:
    """The mean of the m rows with the best Krum scores: Blanchard et al., NeurIPS 2017; m = 1 is Krum.

    Assumes that honest rows are drawn alike and n > 2 f + 2 (breakdown point just under 1/2). It discards whole rows,
    so on heterogeneous patients it discards honest ones too. ``hostile_share`` of the rows, rounded down, is f, and
    less where there are too few rows for that f. Under 3 rows there is no majority: they give the coordinate median.
    """

    def __init__(self, *, hostile_share: float, selected: int | None = None) -> None:
        if not 0 <= hostile_share < 0.5:
            raise ValueError("hostile_share must be at least 0 and below 0.5")
        if selected is not None and selected < 1:
            raise ValueError("at least one cell is selected")
        self._hostile_share = hostile_share
        self._selected = selected

    def __call__(self, means: Rows) -> Floats:
        """Return the aggregate of ``means`` (cells, words)."""
        points = rows(means)
        n = len(points)
        if n < 3:
            return CoordinateMedian()(points)
        hostile = min(int(self._hostile_share * n), (n - 3) // 2)
        chosen = n - hostile - 2 if self._selected is None else min(self._selected, n - hostile - 2)
        # Equal scores are told apart by the rows themselves, so that the order in which cells come does not matter.
        order = np.lexsort((*points.T[::-1], krum_scores(points, hostile)))
        result: Floats = points[order[:chosen]].mean(axis=0)
        return result


class Krum(MultiKrum):
    """The one row that is nearest to its n - f - 2 neighbours: Blanchard et al., NeurIPS 2017, section 4."""

    def __init__(self, *, hostile_share: float) -> None:
        super().__init__(hostile_share=hostile_share, selected=1)
