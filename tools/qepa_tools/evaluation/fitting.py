"""Fitting the board's softmax regression on beats of known class: weighted, penalised, by Newton's method.

With rows a = (x, 1), x the features as numbers (Q8 / 256), p_c the softmax of B a, y the class as a unit vector and the
beats' weights w summing to 1, the fit minimises over B

    sum of w (-log p_y) + penalty / 2 |B|^2

which is convex, so that the same beats give the same model whatever the start. B becomes words in Q12, in which the
board computes (qepa_board/learning/network.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import ONE
from qepa_board.learning.network import FRACTION_BITS, WORD_LIMIT
from qepa_tools.recordings.recording import AAMI_CLASSES

_CLASSES = len(AAMI_CLASSES)
_N, _F = AAMI_CLASSES.index("N"), AAMI_CLASSES.index("F")
_STEPS = 30
_GAIN = 1e-7  # of the loss, below which a step is the last
_SHORTEST = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How beats are weighed, and the penalty.

    class_power: 0 weighs S and V beats as N beats, 1 gives both classes the weight of all N beats together; between, a
    class of n among N beats gets n (N / n)^class_power. person_power: 0 weighs the beats of a class alike, 1 its
    persons. fusion: weight of an F beat; 9 in 10 of them come from one person, so that a model learns that person.
    penalty: of the squared coefficients. The values are what did best in evaluation/study.py.
    """

    class_power: float = 0.5
    person_power: float = 1.0
    fusion: float = 0.0
    penalty: float = 1e-3


def beat_weights(classes: NDArray[np.int64], persons: NDArray[np.int64], settings: FitSettings) -> NDArray[np.float32]:
    """Weights of the beats, with sum 1. persons: a number each."""
    weights = np.zeros(len(classes))
    for c in np.unique(classes):
        chosen = classes == c
        n = int(chosen.sum())
        _, inverse, counts = np.unique(persons[chosen], return_inverse=True, return_counts=True)
        within = counts[inverse].astype(float) ** -settings.person_power
        factor = 1.0 if c == _N else settings.fusion if c == _F else (len(classes) / n) ** settings.class_power
        weights[chosen] = within / within.sum() * n * factor
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def fit_softmax(
    features: NDArray[np.int16],
    classes: NDArray[np.int64],
    weights: NDArray[np.float32],
    penalty: float,
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the coefficients, one row a class, the bias last. start: where to begin, for a fit much like another."""
    rows = np.ones((len(features), features.shape[1] + 1), np.float32)
    rows[:, :-1] = features / np.float32(ONE)
    target = np.eye(_CLASSES, dtype=np.float32)[classes]
    fitted = np.zeros((_CLASSES, rows.shape[1])) if start is None else start
    loss, p = _loss(fitted, rows, target, weights, penalty)
    for _ in range(_STEPS):
        gradient = (weights[:, None] * (p - target)).T @ rows + penalty * fitted
        direction = np.linalg.solve(_curvature(rows, p, weights, penalty), gradient.ravel()).reshape(fitted.shape)
        length, before = 1.0, loss
        while True:  # Newton's step may be too long far from the minimum
            loss, p = _loss(fitted - length * direction, rows, target, weights, penalty)
            if loss <= before or length < _SHORTEST:
                break
            length /= 2
        fitted = fitted - length * direction
        if before - loss < _GAIN:
            break
    return fitted


def scores_of(coefficients: NDArray[np.float64], features: NDArray[np.int16]) -> NDArray[np.float64]:
    """Scores of beats, a row each: natural logarithms of odds."""
    return np.asarray(features / ONE @ coefficients[:, :-1].T + coefficients[:, -1], dtype=np.float64)


def to_words(coefficients: NDArray[np.float64]) -> list[int]:
    """Words of the board's model: Q12, held within what the board allows."""
    words = np.rint(coefficients.ravel() * (1 << FRACTION_BITS))
    return [int(word) for word in np.clip(words, -WORD_LIMIT, WORD_LIMIT)]


def person_numbers(persons: Sequence[str]) -> NDArray[np.int64]:
    """A number for each name, the same for the same."""
    return np.unique(np.array(persons), return_inverse=True)[1].astype(np.int64)


def _loss(
    fitted: NDArray[np.float64],
    rows: NDArray[np.float32],
    target: NDArray[np.float32],
    weights: NDArray[np.float32],
    penalty: float,
) -> tuple[float, NDArray[np.float32]]:
    scores = rows @ fitted.T.astype(np.float32)
    scores -= scores.max(axis=1, keepdims=True)
    exponentials = np.exp(scores)
    total = exponentials.sum(axis=1, keepdims=True)
    log_p = scores - np.log(total)
    loss = -float((weights * (target * log_p).sum(axis=1)).sum(dtype=np.float64))
    return loss + penalty / 2 * float((fitted**2).sum()), exponentials / total


def _curvature(
    rows: NDArray[np.float32], p: NDArray[np.float32], weights: NDArray[np.float32], penalty: float
) -> NDArray[np.float64]:
    """Matrix of second derivatives, blocks of classes: sum of w p_i ([i = j] - p_j) a a'."""
    q = rows.shape[1]
    matrix = penalty * np.eye(_CLASSES * q)
    for i in range(_CLASSES):
        for j in range(i, _CLASSES):
            factor = weights * p[:, i] * ((i == j) - p[:, j])
            block = (rows * factor[:, None]).T @ rows
            matrix[i * q : (i + 1) * q, j * q : (j + 1) * q] += block
            if i != j:
                matrix[j * q : (j + 1) * q, i * q : (i + 1) * q] += block.T
    return matrix
