"""The server's step of federated averaging: the same for every kind of model, because a delta is words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LearningRule:
    """How the model moves.

    ``rate``: server step, above 1 because the deltas are clipped (Reddi et al., ICLR 2021, algorithm 1 with plain SGD).
    ``decay``: 1/decay of the distance to ``towards`` goes each round, 0 for none; without it the model drifts towards
    whatever the latest rounds held. ``towards``: words that the model started from; empty for zeros.
    ``units_per_step``: fixed-point units that one quantizer step stands for (B / Q).
    """

    rate: float
    word_limit: int
    units_per_step: float
    decay: int = 0
    towards: tuple[int, ...] = ()

    def apply(self, words: Sequence[int], mean: NDArray[np.float64]) -> tuple[int, ...]:
        """Return ``words`` after decay and rate * mean * units_per_step, to the nearest unit (halves up), in the limit.

        ``mean`` is the mean delta of a board in quantizer steps (federated averaging with equal weights, McMahan et
        al., AISTATS 2017).
        """
        if len(words) != len(mean) or len(self.towards) not in (0, len(words)):
            raise ValueError(f"{len(mean)} deltas and {len(self.towards)} words to decay to for {len(words)} words")
        old = np.asarray(words, np.int64)
        away = old - np.asarray(self.towards or 0, np.int64)
        gone = (away + self.decay // 2) // self.decay if self.decay else 0
        steps = np.floor(self.rate * self.units_per_step * mean + 0.5).astype(np.int64)
        moved = np.clip(old - gone + steps, -self.word_limit, self.word_limit)
        return tuple(int(word) for word in moved)
