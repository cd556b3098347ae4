"""Bucketing: means of random small groups of rows before any rule, so that honest rows look alike."""

import numpy as np

from .aggregate import Aggregator, Floats, Rows
from .rules import rows


class Bucketing:
    """Shuffle the rows, average each ``size`` of them, and give the means to ``rule``.

    Karimireddy, He and Jaggi, ICLR 2022, algorithm 1: the variance between honest rows falls by ``size`` and the share
    of hostile ones rises by it, so the breakdown point of ``rule`` is divided by ``size``. ``rng`` must be the server's
    own: who knows the shuffle can place hostile cells.
    """

    def __init__(self, rule: Aggregator, *, size: int, rng: np.random.Generator) -> None:
        if size < 1:
            raise ValueError("a bucket holds at least one cell")
        self._rule = rule
        self._size = size
        self._rng = rng

    def __call__(self, means: Rows) -> Floats:
        """Return the aggregate of ``means`` (cells, words)."""
        points = rows(means)
        shuffled = points[self._rng.permutation(len(points))]
        starts = np.arange(0, len(points), self._size)
        counts = np.diff(np.append(starts, len(points)))
        return self._rule(np.add.reduceat(shuffled, starts, axis=0) / counts[:, None])
