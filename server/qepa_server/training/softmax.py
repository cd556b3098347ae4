"""The server's step of federated averaging for the fixed-point model of firmware/qepa_board/learning/learn.py."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LearningRule:
    """``rate``: server step; ``units_per_step``: fixed-point units that one quantizer step stands for (B / Q)."""

    rate: float
    word_limit: int
    units_per_step: float

    def apply(self, words: Sequence[int], mean: NDArray[np.float64]) -> tuple[int, ...]:
        """Return ``words`` moved by rate * mean * units_per_step, to the nearest unit (halves up), within the limit.

        ``mean`` is the mean delta of a board in quantizer steps (FedAvg with equal weights: McMahan et al.,
        AISTATS 2017). For one cell this equals learn.py's integer rule.
        """
        if len(words) != len(mean):
            raise ValueError(f"{len(mean)} deltas for {len(words)} words")
        steps = np.floor(self.rate * self.units_per_step * mean + 0.5).astype(np.int64)
        moved = np.clip(np.asarray(words, np.int64) + steps, -self.word_limit, self.word_limit)
        return tuple(int(word) for word in moved)
