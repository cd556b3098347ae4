"""From the means of cells to one update that no single cell can steer."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.float64] | NDArray[np.int64]


class Aggregator(Protocol):
    """A rule that joins cell means, shape (cells, words), float64 or int64, into one vector of (words,)."""

    def __call__(self, means: Rows) -> Floats:
        """Return the aggregate of at least one cell mean; raises ValueError for rows it has no answer to."""
        ...


def clip_norms(means: Rows, norm_bound: float) -> Floats:
    """Scale each row with a Euclidean norm above ``norm_bound`` down to it.

    >>> clip_norms(np.array([[3.0, 4.0], [0.0, 1.0]]), 2.5).tolist()
    [[1.5, 2.0], [0.0, 1.0]]
    """
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    scale: Floats = np.minimum(1.0, norm_bound / np.maximum(norms, norm_bound))
    clipped: Floats = means * scale
    return clipped


class ClippedTrimmedMean:
    """Clip each cell mean to ``norm_bound``, then drop the k smallest and largest of each word and take the mean.

    k = floor(trim_fraction * cells): Yin et al., ICML 2018, definition 2. One or two cells are not trimmed at the
    default fraction: with so few there is no majority to appeal to, and only the clipping protects.
    """

    def __init__(self, *, norm_bound: float, trim_fraction: float) -> None:
        if not 0 <= trim_fraction < 0.5:
            raise ValueError("trim_fraction must be at least 0 and below 0.5")
        self._norm_bound = norm_bound
        self._trim_fraction = trim_fraction

    def __call__(self, means: Rows) -> Floats:
        """Return the aggregate of ``means`` (cells, words)."""
        if means.ndim != 2 or not len(means):
            raise ValueError("one row for each cell, and at least one cell")
        if not np.isfinite(means).all():
            raise ValueError("a cell mean holds a word that is not a number")
        k = int(self._trim_fraction * len(means))
        ordered = np.sort(clip_norms(means, self._norm_bound), axis=0)
        aggregate: Floats = ordered[k : len(means) - k].mean(axis=0)
        return aggregate
