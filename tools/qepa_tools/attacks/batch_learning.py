"""The board's local learning for many models and patients at once: the same integers as qepa_board.learning.learn.

Softmax regression only. All values stay below 2^31, as on the board.
"""

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import N_FEATURES, ONE
from qepa_board.learning.learn import DELTA_LIMIT, DELTA_NORM_LIMIT, EPOCHS
from qepa_board.learning.network import _EXP, CLASSES, PROBABILITY_ONE, WORD_LIMIT

Ints = NDArray[np.int32]

N_CLASSES = len(CLASSES)
WORDS = N_CLASSES * (N_FEATURES + 1)
_TABLE = np.array(_EXP, np.int32)
_LAST = len(_TABLE) - 1
_NOTHING = 32  # as in qepa_board.learning.learn


def local_updates(words: Ints, beats: Ints, labels: Ints) -> Ints:
    """Return the clipped delta of each patient from each model, (models, patients, WORDS).

    ``words``: (models, WORDS). ``beats``: (patients, n, N_FEATURES). ``labels``: (models, patients, n); a patient's
    beats come first, then -1 for none, in every model alike.
    """
    models, patients, n = labels.shape
    counts = (labels[0] >= 0).sum(axis=1)
    order = np.argsort(-counts, kind="stable")  # so that those who still have beats are the first
    start = words.reshape(models, 1, N_CLASSES, N_FEATURES + 1)
    moved = np.repeat(start, patients, axis=1)
    inputs = np.concatenate([beats[order], np.full((patients, n, 1), ONE, np.int32)], axis=2)
    ordered = labels[:, order]
    for _ in range(EPOCHS):
        for k in range(n):
            active = int((counts > k).sum())
            _step(moved[:, :active], inputs[:active, k], ordered[:, :active, k])
    delta = np.empty((models, patients, WORDS), np.int32)
    delta[:, order] = np.clip(moved - start, -DELTA_LIMIT, DELTA_LIMIT).reshape(models, patients, WORDS)
    return clip_l2_rows(delta, DELTA_NORM_LIMIT)


def _step(moved: Ints, x: Ints, labels: Ints) -> None:
    errors = _softmax(np.einsum("mpci,pi->mpc", moved, x))
    errors -= PROBABILITY_ONE * (labels[:, :, None] == np.arange(N_CLASSES, dtype=np.int32))
    errors[np.abs(errors) < _NOTHING] = 0
    moved -= (errors[..., None] * x[:, None, :] + 32768) >> 16
    np.clip(moved, -WORD_LIMIT, WORD_LIMIT, out=moved)


def _softmax(scores: Ints) -> Ints:
    below = ((scores.max(axis=2, keepdims=True) >> 1) - (scores >> 1)) >> 9
    k = np.minimum(below >> 5, _LAST - 1)
    exact = _TABLE[k] - ((_TABLE[k] - _TABLE[k + 1]) * (below & 31) >> 5)
    exact[below >> 5 >= _LAST] = 0
    shares = exact * 32767 // exact.sum(axis=2, keepdims=True, dtype=np.int32) + 1
    return np.where(exact == 0, np.int32(0), shares).astype(np.int32)


def clip_l2_rows(values: Ints, limit: int) -> Ints:
    """Return the same as qepa_wire.quantizer.clip_l2 for each row of the last axis."""
    wide = values.astype(np.int64)
    squares = (wide**2).sum(axis=-1, keepdims=True)
    # The root of squares - 1, rounded down, plus 1: squares are far below 2^52, so the floor of the float is exact.
    norms = np.floor(np.sqrt(np.maximum(squares - 1, 0).astype(np.float64))).astype(np.int64) + 1
    shortened = np.sign(wide) * (np.abs(wide) * limit // norms)
    return np.where(squares > limit * limit, shortened, wide).astype(np.int32)
