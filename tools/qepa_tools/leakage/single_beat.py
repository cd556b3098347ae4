"""Reading beats out of one update: exactly where it holds one beat, by optimisation where it holds a few.

A beat x with class y moves the words of softmax regression by -(p - y) (x, 1), a matrix of rank 1: the one class whose
bias rises is the label (Zhao et al., iDLG, 2020), and a row over its bias is the beat (Phong et al., IEEE TIFS 2018).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from qepa_board.learning.features import N_FEATURES, ONE
from qepa_board.learning.learn import DELTA_LIMIT, DELTA_NORM_LIMIT, EPOCHS

from ..attacks.batch_learning import N_CLASSES, Ints
from .membership import Floats

_SHIFT = 65536.0  # Q15 errors times Q8 inputs to Q12 words
_PROBABILITY = 32768.0
_EVALUATIONS = 40


def read_one_beat(update: Floats) -> tuple[Floats, int]:
    """Return (features, label) of the only beat in an update (words,), to the rounding of the board's integers.

    An update of nothing gives features of 0 and label 0.
    """
    rows = update.reshape(N_CLASSES, N_FEATURES + 1)
    label = int(rows[:, -1].argmax())
    bias = rows[:, -1]
    square = float(bias @ bias)
    features: Floats = (bias @ rows[:, :-1]) * ONE / square if square else np.zeros(N_FEATURES)
    return features, label


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """What the attacker is given beside an update: the model ``words``, labels (n,) in order, and what is usual.

    ``groups`` (n,): which row of ``mean`` and ``deviation`` (rows, N_FEATURES) each beat is like; beats of one row are
    taken to be alike. ``norm_limit``: of an update, as the board was told.
    """

    words: Ints
    labels: Ints
    groups: NDArray[np.int64]
    mean: Floats
    deviation: Floats
    norm_limit: float = DELTA_NORM_LIMIT


def read_beats(update: Floats, covariance: Floats, puzzle: Puzzle) -> Floats:
    """Return the most probable rows (rows, N_FEATURES) of beats behind an update (words,).

    Gradient inversion (Zhu et al., Deep Leakage from Gradients, NeurIPS 2019) by least squares with a normal prior.
    ``covariance`` (words, words): of what else is in the update: rounding, noise, other patients.
    """
    whitener = np.linalg.inv(np.linalg.cholesky(covariance)).T
    mean, deviation = puzzle.mean, puzzle.deviation

    def imagined(z: Floats) -> Floats:
        rows = mean + deviation * z.reshape(-1, *mean.shape)
        return learnt(puzzle.words, rows[:, puzzle.groups], puzzle.labels, puzzle.norm_limit)

    def residuals(z: Floats) -> Floats:
        return np.concatenate([(imagined(z)[0] - update) @ whitener, z])

    def slopes(z: Floats) -> Floats:
        step = 1e-4
        moved = imagined(np.concatenate([z[None], z + step * np.eye(len(z))]))
        return np.vstack([((moved[1:] - moved[0]) / step @ whitener).T, np.eye(len(z))])

    found = least_squares(residuals, np.zeros(mean.size), jac=slopes, method="lm", max_nfev=_EVALUATIONS)
    rows: Floats = mean + deviation * found.x.reshape(mean.shape)
    return rows


def learnt(words: Ints, beats: Floats, labels: Ints, norm_limit: float = DELTA_NORM_LIMIT) -> Floats:
    """Return the updates (many, words) of ``beats`` (many, n, N_FEATURES): the board's learning without rounding."""
    start = np.repeat(words.reshape(1, N_CLASSES, N_FEATURES + 1).astype(np.float64), len(beats), axis=0)
    model = start.copy()
    inputs = np.concatenate([beats, np.full((*beats.shape[:2], 1), float(ONE))], axis=2)
    for _ in range(EPOCHS):
        for k, label in enumerate(labels):
            scores = np.einsum("mci,mi->mc", model, inputs[:, k]) / (1 << 20)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            errors = _PROBABILITY * shares / shares.sum(axis=1, keepdims=True)
            errors[:, label] -= _PROBABILITY
            model -= errors[..., None] * inputs[:, k, None, :] / _SHIFT
    delta = np.clip((model - start).reshape(len(beats), -1), -DELTA_LIMIT, DELTA_LIMIT)
    lengths = np.linalg.norm(delta, axis=1, keepdims=True)
    shortened: Floats = delta * np.minimum(1.0, norm_limit / np.maximum(lengths, 1e-9))
    return shortened
