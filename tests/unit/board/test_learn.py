"""Learning in fixed point: to the word against numpy, near floating point, its bounds, and that averaging learns."""

import sys
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qepa_board.learning.features import LIMIT, N_FEATURES, ONE
from qepa_board.learning.learn import DELTA_LIMIT, DELTA_NORM_LIMIT, Learner, Rehearsal
from qepa_board.learning.network import MAX_UNITS, PROBABILITY_ONE, WORD_LIMIT, ModelShape, predict, softmax
from qepa_server.training.averaging import LearningRule
from qepa_server.training.initial import initial_model
from qepa_wire.model import MAX_WORDS

sys.path.insert(0, str(Path(__file__).parent))
import learning_reference as reference

SOFTMAX = ModelShape()
HIDDEN = ModelShape(hidden=10)
BOTH = pytest.mark.parametrize("shape", [SOFTMAX, HIDDEN], ids=["softmax", "hidden"])

feature_rows = st.lists(st.integers(-LIMIT, LIMIT), min_size=N_FEATURES, max_size=N_FEATURES)
beat_lists = st.lists(st.tuples(feature_rows, st.integers(-1, 4)), max_size=8)
seeds = st.integers(0, 2**32 - 1)


def zeros(n: int) -> "array[int]":
    return array("i", bytes(4 * n))


def row(values: "list[int] | np.ndarray") -> "array[int]":
    return array("h", [int(v) for v in values])


def models(shape: ModelShape) -> "st.SearchStrategy[list[int]]":
    """Extreme words, zeros, and models like those that are learnt."""
    anything = st.lists(st.integers(-WORD_LIMIT, WORD_LIMIT), min_size=shape.words, max_size=shape.words)
    usual = st.tuples(seeds, st.sampled_from([0, 200, 3000])).map(
        lambda pair: np.random.default_rng(pair[0]).normal(0, pair[1], shape.words).astype(int).tolist()
    )
    return anything | usual


def update(shape: ModelShape, words: "list[int]", beats: "list[tuple[list[int], int]]", limit: int) -> "array[int]":
    delta = zeros(shape.words)
    Learner(shape).local_update(array("i", words), [row(x) for x, _ in beats], [c for _, c in beats], delta, limit)
    return delta


def dimensions(shape: ModelShape) -> tuple[int, int, int]:
    return shape.features, shape.hidden, shape.classes


def test_a_model_has_at_most_240_words_and_no_score_leaves_30_bits() -> None:
    assert (SOFTMAX.words, HIDDEN.words) == (72, 224)
    assert (MAX_UNITS * LIMIT + ONE) * WORD_LIMIT < 1 << 30
    assert ModelShape(8, 29).words == MAX_WORDS
    for classes, features, hidden in [(8, 30, 0), (4, 17, 11), (2, 32, 0), (2, 2, 32), (1, 17, 0), (4, 0, 2)]:
        with pytest.raises(ValueError, match="240"):
            ModelShape(classes, features, hidden)


@BOTH
@given(data=st.data())
def test_local_learning_is_to_the_word_what_its_equations_say(shape: ModelShape, data: st.DataObject) -> None:
    words, beats = data.draw(models(shape)), data.draw(beat_lists)
    limit = data.draw(st.integers(0, 2 * DELTA_NORM_LIMIT))
    expected = reference.local_delta(
        np.array(words, np.int64), [np.array(x) for x, _ in beats], [c for _, c in beats], dimensions(shape), limit
    )
    assert list(update(shape, words, beats, limit)) == expected.tolist()
    x = beats[0][0] if beats else [0] * N_FEATURES
    out = zeros(4)
    assert predict(shape, array("i", words), row(x), out) == int(np.argmax(out))
    assert list(out) == reference.forward(np.array(words), np.array(x), dimensions(shape))[1].tolist()


@given(st.lists(st.integers(-(2**30) + 1, 2**30 - 1), min_size=2, max_size=8))
def test_probabilities_are_near_the_exact_ones(values: list[int]) -> None:
    out = array("i", values)
    softmax(out, len(out))
    p = np.exp(np.array(values) / 2**20 - max(values) / 2**20)
    assert np.abs(np.array(out) / PROBABILITY_ONE - p / p.sum()).max() < 2**-10
    assert abs(sum(out) - PROBABILITY_ONE) <= len(values)


@BOTH
@given(seed=seeds)
def test_the_float_gradient_is_the_slope_of_the_loss(shape: ModelShape, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, x = rng.normal(0, 0.5, shape.words), rng.normal(0, 1, N_FEATURES)
    gradient = reference.float_gradient(weights, x, 2, dimensions(shape))
    direction = rng.normal(0, 1e-6, shape.words)
    after = reference.float_loss(weights + direction, x, 2, dimensions(shape))
    before = reference.float_loss(weights - direction, x, 2, dimensions(shape))
    assert after - before == pytest.approx(2 * gradient @ direction, rel=1e-2, abs=1e-8)


@BOTH
@given(seed=seeds)
def test_one_step_goes_down_the_gradient_to_a_few_units(shape: ModelShape, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words, x = rng.normal(0, 1500, shape.words).astype(int), rng.integers(-300, 300, N_FEATURES)
    for units in reference.layers(words / 4096, *dimensions(shape))[:-1]:
        z = units @ np.append(x / 256, 1)
        assume(min(np.abs(z).min(), np.abs(z - 4).min()) > 0.01)  # not where a rectifier bends
    delta = zeros(shape.words)
    Learner(shape, epochs=1).local_update(array("i", words.tolist()), [row(x)], [1], delta, 1 << 20)
    gradient = reference.float_gradient(words / 4096, x / 256, 1, dimensions(shape))
    assert np.abs(np.array(delta) + np.clip(4096 * gradient / 32, -DELTA_LIMIT, DELTA_LIMIT)).max() <= 4


@BOTH
def test_fixed_point_costs_little_of_what_descent_gains(shape: ModelShape) -> None:
    """Two epochs over forty beats of four overlapping classes: the loss falls as it does with floating point."""
    rng = np.random.default_rng(4)
    start = np.array(initial_model(features=N_FEATURES, hidden=shape.hidden, classes=4, fraction_bits=12).words)
    centres = rng.integers(-250, 250, (4, N_FEATURES))
    labels = rng.integers(0, 4, 40).tolist()
    beats = [np.clip(centres[c] + rng.normal(0, 200, N_FEATURES), -LIMIT, LIMIT).astype(int) for c in labels]
    # One beat at a time, so that no clipping of the update hides what rounding does.
    words = start.copy()
    for _ in range(2):
        for x, label in zip(beats, labels, strict=True):
            delta = zeros(shape.words)
            Learner(shape, epochs=1).local_update(array("i", words.tolist()), [row(x)], [label], delta, 1 << 20)
            words += np.array(delta)
    exact = reference.float_descent(start / 4096, [x / 256 for x in beats], labels, dimensions(shape))

    def loss(weights: np.ndarray) -> float:
        pairs = zip(beats, labels, strict=True)
        return float(np.mean([reference.float_loss(weights, x / 256, c, dimensions(shape)) for x, c in pairs]))

    before, fixed, floating = loss(start / 4096), loss(words / 4096), loss(exact)
    assert floating < 0.5 * before
    assert abs(fixed - floating) < 0.02 * before


@BOTH
@given(data=st.data())
def test_a_delta_is_clipped_and_keeps_the_model_in_bounds(shape: ModelShape, data: st.DataObject) -> None:
    words, beats = data.draw(models(shape)), data.draw(beat_lists)
    delta = zeros(shape.words)
    rows, labels = [row(x) for x, _ in beats], [label for _, label in beats]
    used = Learner(shape).local_update(array("i", words), rows, labels, delta)
    assert used == sum(0 <= label < 4 for _, label in beats)
    assert max(map(abs, delta)) <= DELTA_LIMIT
    assert sum(v * v for v in delta) <= DELTA_NORM_LIMIT**2
    if used == 0:
        assert not any(delta)
    assert all(abs(w + d) <= WORD_LIMIT for w, d in zip(words, delta, strict=True))


@given(st.integers(0, 2 * DELTA_NORM_LIMIT), st.lists(beat_lists, min_size=1, max_size=8), st.data())
def test_all_boards_of_a_patient_stay_within_the_patients_norm(
    clip_norm: int, boards: "list[list[tuple[list[int], int]]]", data: st.DataObject
) -> None:
    """Each of k boards gets floor(clip_norm / k): the sum of their updates has at most clip_norm, exactly."""
    words = data.draw(models(HIDDEN))
    if data.draw(st.booleans()):
        boards = boards[:1] * 8  # all alike: the worst case
    total = np.zeros(HIDDEN.words, np.int64)
    for beats in boards:
        total += np.array(update(HIDDEN, words, beats, clip_norm // len(boards)))
    assert int(total @ total) <= clip_norm**2


def learnt(
    shape: ModelShape, rounds: int, draw: "Callable[[list[int], int], tuple[list[array[int]], list[int]]]"
) -> int:
    """Of 400 beats of four classes, how many are right after rounds of four boards that see two classes each."""
    rule = LearningRule(rate=4, word_limit=WORD_LIMIT, units_per_step=1, decay=16)
    words = initial_model(features=N_FEATURES, hidden=shape.hidden, classes=4, fraction_bits=12).words
    for _ in range(rounds):
        deltas = [zeros(shape.words) for _ in range(4)]
        for board, delta in enumerate(deltas):
            Learner(shape).local_update(array("i", words), *draw([board, (board + 1) % 4], 30), delta)
        words = rule.apply(words, np.mean([list(delta) for delta in deltas], axis=0))
    features, labels = draw([0, 1, 2, 3], 400)
    return sum(predict(shape, array("i", words), x, zeros(4)) == c for x, c in zip(features, labels, strict=True))


@BOTH
def test_averaging_clipped_deltas_learns_a_separable_problem(shape: ModelShape) -> None:
    rng = np.random.default_rng(0)
    centres = rng.integers(-400, 400, (4, N_FEATURES))

    def draw(classes: list[int], n: int) -> "tuple[list[array[int]], list[int]]":
        labels = [classes[int(k)] for k in rng.integers(0, len(classes), n)]
        return [row(centres[c] + rng.normal(0, 60, N_FEATURES).astype(int)) for c in labels], labels

    assert learnt(shape, 20, draw) >= 392


def test_only_a_hidden_layer_learns_that_two_signs_differ() -> None:
    """Exclusive or in two features, which no line separates."""
    rng = np.random.default_rng(1)

    def draw(_classes: list[int], n: int) -> "tuple[list[array[int]], list[int]]":
        signs = rng.integers(0, 2, (n, 2))
        x = rng.normal(0, 30, (n, N_FEATURES)).astype(int)
        x[:, :2] += 600 * signs - 300
        return [row(v) for v in x], [int(a ^ b) for a, b in signs]

    assert learnt(HIDDEN, 40, draw) >= 380
    assert learnt(SOFTMAX, 40, draw) < 320


def test_rehearsal_keeps_the_latest_of_each_rare_class() -> None:
    rehearsal = Rehearsal(2)
    for k, label in enumerate([0, 1, 2, 1, 1, 0, 3]):
        rehearsal.add(array("h", [k] * N_FEATURES), label)
    assert rehearsal.labels == [2, 1, 1, 3]
    assert [x[0] for x in rehearsal.features] == [2, 3, 4, 6]
