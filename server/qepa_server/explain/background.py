"""The beats that a beat is compared with: where its contributions start from, and whether it is like any of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .network import Floats

_USUAL_SHARE = 0.99  # of the background's own beats that are called like the rest


@dataclass(frozen=True, slots=True)
class Background:
    """rows: features [beats, features] of beats as people have them. reach: beats of all kinds, with whose they are.

    limit: distance to the nearest reach row of somebody else that 99 % of the reach rows keep; infinite if all are of
    one person, for then it is unknown how much people differ.
    """

    rows: Floats
    reach: Floats
    scale: Floats
    limit: float

    @classmethod
    def of(cls, rows: Floats, reach: Floats, persons: Sequence[str]) -> "Background":
        """Measure how far people's beats are apart; ValueError without rows. persons: of the reach rows."""
        if not len(rows) or not len(reach):
            raise ValueError("a background needs beats")
        scale = np.maximum(reach.std(axis=0), 1 / 16)
        who = np.unique(np.array(persons), return_inverse=True)[1]
        if len(np.unique(who)) < 2:
            return cls(rows, reach, scale, np.inf)
        apart = _squares(reach / scale, reach / scale)
        apart[who[:, None] == who[None, :]] = np.inf
        return cls(rows, reach, scale, float(np.quantile(np.sqrt(apart.min(axis=1)), _USUAL_SHARE)))

    @property
    def mean(self) -> Floats:
        """Mean features."""
        mean: Floats = self.rows.mean(axis=0)
        return mean

    def distance(self, row: Floats) -> float:
        """Euclidean distance to the nearest reach row, in the standard deviations of features."""
        return float(np.sqrt(_squares(row[None] / self.scale, self.reach / self.scale).min()))

    def beyond(self, row: Floats) -> NDArray[np.int64]:
        """Features beyond what any reach row has."""
        outside = (row < self.reach.min(axis=0)) | (row > self.reach.max(axis=0))
        return np.flatnonzero(outside).astype(np.int64)


def _squares(a: Floats, b: Floats) -> Floats:
    squares: Floats = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0)
