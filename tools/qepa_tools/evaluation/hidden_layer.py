"""Fitting the board's other shape, one hidden layer of clipped rectifiers, by stochastic gradient descent (Adam).

Not convex: another seed gives another model. The target is a row of probabilities a beat, so that a model can also
learn from a larger one's answers (Hinton, Vinyals and Dean, 2015).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import LIMIT, ONE

UNITS = 10  # (17 + 1) * 10 + (10 + 1) * 4 = 224 words, of 240 at most

_TOP = LIMIT / ONE  # where a unit is clipped
_EPOCHS = 15
_LEAST_STEPS = 400
_BATCH = 512
_RATE = 4e-3
_DECAY = (0.9, 0.999)

Array = NDArray[np.float32]


@dataclass(slots=True)
class HiddenLayer:
    """inner: units x (features + 1), outer: classes x (units + 1), biases last."""

    inner: Array
    outer: Array

    def scores(self, features: NDArray[np.int16]) -> NDArray[np.float64]:
        """Scores of the classes, a row a beat."""
        units = np.clip(_with_one(_numbers(features)) @ self.inner.T, 0, _TOP)
        return np.asarray(_with_one(units) @ self.outer.T, dtype=np.float64)


class _Moments:
    """Adam's running means of a gradient and its square (Kingma and Ba, ICLR 2015)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._first = np.zeros(shape, np.float32)
        self._second = np.zeros(shape, np.float32)

    def direction(self, gradient: Array, step: int) -> Array:
        self._first += np.float32(1 - _DECAY[0]) * (gradient - self._first)
        self._second += np.float32(1 - _DECAY[1]) * (gradient**2 - self._second)
        first = self._first / (1 - _DECAY[0] ** (step + 1))
        second = self._second / (1 - _DECAY[1] ** (step + 1))
        return np.asarray(first / (np.sqrt(second) + 1e-8), dtype=np.float32)


def fit_hidden(
    features: NDArray[np.int16], target: Array, weights: Array, penalty: float, seed: int = 0, units: int = UNITS
) -> HiddenLayer:
    """Fit to weighted beats; target: a row of probabilities a beat."""
    rng = np.random.default_rng(seed)
    rows = _with_one(_numbers(features))
    f, classes = rows.shape[1], target.shape[1]
    model = HiddenLayer(
        (rng.normal(size=(units, f)) * (1.5 / f) ** 0.5).astype(np.float32),
        (rng.normal(size=(classes, units + 1)) * 0.1).astype(np.float32),
    )
    inner, outer = _Moments(model.inner.shape), _Moments(model.outer.shape)
    weights = weights / weights.mean()
    steps = max(_LEAST_STEPS, _EPOCHS * len(rows) // _BATCH)
    for step in range(steps):
        batch = rng.integers(0, len(rows), _BATCH)
        gradients = _gradients(model, rows[batch], target[batch], weights[batch], penalty)
        rate = _RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        model.inner -= rate * inner.direction(gradients[0], step)
        model.outer -= rate * outer.direction(gradients[1], step)
    return model


def _gradients(model: HiddenLayer, rows: Array, target: Array, weights: Array, penalty: float) -> tuple[Array, Array]:
    z = rows @ model.inner.T
    units = _with_one(np.clip(z, 0, _TOP))
    scores = units @ model.outer.T
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    error = weights[:, None] * (e / e.sum(axis=1, keepdims=True) - target) / len(rows)
    back = (error @ model.outer[:, :-1]) * ((z > 0) & (z < _TOP))
    return back.T @ rows + penalty * model.inner, error.T @ units + penalty * model.outer


def _numbers(features: NDArray[np.int16]) -> Array:
    return np.asarray(features / np.float32(ONE), dtype=np.float32)


def _with_one(rows: Array) -> Array:
    return np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
