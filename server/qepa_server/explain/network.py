"""The board's model in numbers instead of words: softmax regression, or one hidden layer and then the same.

What a board computes in integers (PROTOCOL.md on models) is within rounding of this. Features are numbers: Q8 / 256.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_wire.model import HIDDEN, SOFTMAX, model_words

Floats = NDArray[np.float64]

_UNIT_TOP = 4.0  # where a hidden unit is clipped: 1024 in Q8


@dataclass(frozen=True, slots=True)
class Network:
    """outer: classes x (inputs + 1). inner: units x (features + 1), None without a hidden layer. Biases last."""

    outer: Floats
    inner: Floats | None = None
    top: float = _UNIT_TOP

    @classmethod
    def from_words(
        cls, words: Sequence[int], *, features: int, classes: int, hidden: int, fraction_bits: int
    ) -> "Network":
        """Take the words of a model; ValueError where they are not that many."""
        expected = model_words(HIDDEN if hidden else SOFTMAX, features, hidden, classes)
        if not expected or len(words) != expected:
            raise ValueError(f"{len(words)} words, not {expected}, for {features}, {hidden} and {classes} units")
        numbers = np.asarray(words, dtype=np.float64) / (1 << fraction_bits)
        first = hidden * (features + 1)
        outer = numbers[first:].reshape(classes, -1)
        return cls(outer, numbers[:first].reshape(hidden, features + 1) if hidden else None)

    @property
    def first(self) -> Floats:
        """Layer that sees the features."""
        return self.outer if self.inner is None else self.inner

    def finish(self, sums: Floats) -> Floats:
        """Logits from the sums [.., units] of the first layer."""
        if self.inner is None:
            return sums
        logits: Floats = np.clip(sums, 0, self.top) @ self.outer[:, :-1].T + self.outer[:, -1]
        return logits

    def logits(self, rows: Floats) -> Floats:
        """Logits [beats, classes] of features [beats, features]."""
        return self.finish(rows @ self.first[:, :-1].T + self.first[:, -1])


def softmax(logits: Floats) -> Floats:
    """Probabilities along the last axis."""
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Floats = e / e.sum(axis=-1, keepdims=True)
    return probabilities
