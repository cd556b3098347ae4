"""Fixed-point softmax regression: against floating point, its bounds, and that simple averaging learns."""

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_board.learning.features import LIMIT, N_FEATURES, ONE
from qepa_board.learning.learn import (
    DELTA_LIMIT,
    DELTA_NORM_LIMIT,
    MAX_WORDS,
    PROBABILITY_ONE,
    SERVER_DECAY,
    SERVER_RATE,
    WORD_LIMIT,
    Learner,
    ModelShape,
    Rehearsal,
    clip_norm,
    predict,
    scores,
    softmax,
)

SHAPE = ModelShape()
feature_rows = st.lists(st.integers(-LIMIT, LIMIT), min_size=N_FEATURES, max_size=N_FEATURES)
models = st.lists(st.integers(-WORD_LIMIT, WORD_LIMIT), min_size=SHAPE.words, max_size=SHAPE.words)


def zeros(n: int) -> "array[int]":
    return array("i", bytes(4 * n))


def test_the_default_model_has_72_words() -> None:
    assert SHAPE.words == 72
    assert WORD_LIMIT * (N_FEATURES * LIMIT + ONE) < 1 << 30
    assert ModelShape(8, 29).words == MAX_WORDS
    with pytest.raises(ValueError, match="240"):
        ModelShape(8, 30)


@given(models, feature_rows)
def test_scores_and_softmax_agree_with_floating_point(words: list[int], x: list[int]) -> None:
    out = zeros(4)
    scores(SHAPE, words, x, out)
    w = np.array(words, dtype=float).reshape(4, 18) / 4096
    expected = w @ (np.array([*x, ONE]) / 256)
    assert np.allclose(np.array(out) / 2**20, expected)
    assert predict(SHAPE, words, x, zeros(4)) == int(np.argmax(np.array(out)))
    softmax(out, 4)
    p = np.exp(expected - expected.max())
    assert np.abs(np.array(out) / PROBABILITY_ONE - p / p.sum()).max() < 2**-10
    assert abs(sum(out) - PROBABILITY_ONE) <= 4


@given(models, st.lists(st.tuples(feature_rows, st.integers(-1, 4)), max_size=8))
def test_a_delta_is_clipped_and_keeps_the_model_in_bounds(words: list[int], beats: list[tuple[list[int], int]]) -> None:
    delta = zeros(SHAPE.words)
    used = Learner().local_update(words, [x for x, _ in beats], [label for _, label in beats], delta)
    assert used == sum(0 <= label < 4 for _, label in beats)
    assert max(map(abs, delta)) <= DELTA_LIMIT
    assert sum(v * v for v in delta) <= DELTA_NORM_LIMIT**2
    if used == 0:
        assert not any(delta)
    assert all(abs(w + d) <= WORD_LIMIT for w, d in zip(words, delta, strict=True))


@given(st.lists(st.integers(-(2**20), 2**20), min_size=1, max_size=72), st.integers(1, 2**16))
def test_norm_clip(values: list[int], limit: int) -> None:
    words = array("i", values)
    clip_norm(words, limit)
    assert sum(v * v for v in words) <= limit * limit
    if sum(v * v for v in values) <= limit * limit:
        assert list(words) == values


def test_one_step_goes_down_the_gradient() -> None:
    x = [0] * N_FEATURES
    x[3] = 256
    delta = zeros(SHAPE.words)
    Learner(epochs=1).local_update(zeros(SHAPE.words), [x], [2], delta)
    expected = np.zeros((4, 18))
    expected[:, [3, 17]] = -0.25 / 32 * 4096
    expected[2, [3, 17]] = 0.75 / 32 * 4096
    assert np.abs(np.array(delta).reshape(4, 18) - expected).max() <= 1


def test_averaging_clipped_deltas_learns_a_separable_problem() -> None:
    """Four boards, each of which sees two classes only, learn all four together."""
    rng = np.random.default_rng(0)
    centres = rng.integers(-400, 400, (4, N_FEATURES))

    def draw(classes: list[int], n: int) -> tuple[list[list[int]], list[int]]:
        labels = [classes[int(k)] for k in rng.integers(0, len(classes), n)]
        return [(centres[c] + rng.normal(0, 60, N_FEATURES).astype(int)).tolist() for c in labels], labels

    words, delta = zeros(SHAPE.words), zeros(SHAPE.words)
    for _ in range(20):
        total = np.zeros(SHAPE.words, np.int64)
        for board in range(4):
            Learner().local_update(words, *draw([board, (board + 1) % 4], 30), delta)
            total += np.array(delta)
        words = array(
            "i", [w - w // SERVER_DECAY + SERVER_RATE * int(t) // 4 for w, t in zip(words, total, strict=True)]
        )
    features, labels = draw([0, 1, 2, 3], 400)
    right = sum(predict(SHAPE, words, x, zeros(4)) == c for x, c in zip(features, labels, strict=True))
    assert right >= 392


def test_rehearsal_keeps_the_latest_of_each_rare_class() -> None:
    rehearsal = Rehearsal(2)
    for k, label in enumerate([0, 1, 2, 1, 1, 0, 3]):
        rehearsal.add(array("h", [k] * N_FEATURES), label)
    assert rehearsal.labels == [2, 1, 1, 3]
    assert [x[0] for x in rehearsal.features] == [2, 3, 4, 6]
