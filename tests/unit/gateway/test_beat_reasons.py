"""Why a beat is called S, V or F, against the patient's own usual beat: exact, and nothing from a broken model."""

import itertools
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ecg_windows import heart, read_all, value

from qepa_gateway.inference.reasons import CLASSES, coalitions, explain, lead_bytes, players, thousandths
from qepa_gateway.inference.runtime import InferenceError
from qepa_gateway.inference.shelf import ModelShelf
from qepa_gateway.inference.windows import BEFORE_R, LEADS, LENGTH, BeatWindows
from qepa_uplink.beat_reasons import PLAYERS, reasons_in_words
from qepa_uplink.bedside_models import ECG_BEATS, NUMBERS, RHYTHM

V = CLASSES.index("V")


def read_with_usual(samples, peaks, fs_hz=360):
    """Of each beat: its inputs, and those of the usual beat by then."""
    windows, found = BeatWindows(fs_hz), []
    for before, peak, after in zip([None, *peaks], peaks, [*peaks[1:], None], strict=False):
        found.append((windows.read(samples, 0, peak, before, after), windows.usual()))
    return found


def early_wide_beat(leads=1):
    """(inputs, those of the usual beat) of an early, upside-down beat in a regular rhythm."""
    samples, peaks = heart(360, [0.8] * 24 + [0.5, 1.1])
    at = peaks[25]
    samples[at - 30 : at + 60] *= -1.5
    return read_with_usual(np.column_stack([samples, 0.5 * samples[:, 0]])[:, :leads], peaks)[25]


def by_enumeration(value_of):
    """Shapley values by all orders in which the players may come, which is how Shapley (1953) explains them."""
    n = len(PLAYERS)
    shares = np.zeros(n)
    for order in itertools.permutations(range(n)):
        joined = 0
        for player in order:
            shares[player] += value_of(joined | 1 << player) - value_of(joined)
            joined |= 1 << player
    return shares / factorial(n)


@pytest.mark.parametrize("leads", [1, 2])
def test_shares_are_those_of_every_order_and_add_up_with_the_base(leads):
    model, _ = ModelShelf(None).get(ECG_BEATS)
    beat, usual = early_wide_beat(leads)
    answer = int(model.run(*beat).argmax())
    assert CLASSES[answer] == "V"
    why = explain(model.run_rows, beat, usual, answer)
    flat, other = (np.concatenate([each[0].ravel() for each in inputs]) for inputs in (beat, usual))
    values = {}

    def value_of(joined):
        if joined not in values:
            row = flat.copy()
            for i, inputs in enumerate(players()):
                if not joined >> i & 1:
                    row[inputs] = other[inputs]
            n = beat[0].size
            found = model.run(row[:n].reshape(beat[0].shape), row[n:][None])[0]
            values[joined] = float(found[answer]) - float(found[0])
        return values[joined]

    np.testing.assert_allclose(why.shares, by_enumeration(value_of), atol=1e-9)
    lead = why.probabilities[answer] - why.probabilities[0]
    assert why.base + why.shares.sum() == pytest.approx(lead, abs=1e-12)
    assert why.base < 0  # the usual beat is called N
    sent = thousandths(why.probabilities), thousandths(why.shares)
    assert sent[0][answer] - sent[0][0] - sum(sent[1]) == pytest.approx(1000 * why.base, abs=5)


def test_the_usual_beat_is_like_itself_and_on_time():
    samples, peaks = heart(360, [0.8])
    leads, numbers = read_with_usual(samples, peaks)[30][1]
    assert leads.shape == (1, LENGTH, 2 * LEADS)
    assert not leads[..., 1::2].any()
    assert not leads[..., 2:].any()  # no second lead
    assert abs(int(leads[0, :, 0].argmax()) - BEFORE_R) <= 1
    assert np.ptp(leads[0, :, 0]) == pytest.approx(1, abs=0.1)
    assert not numbers[0, : len(RHYTHM)].any()
    shape = dict(zip(NUMBERS, numbers[0].tolist(), strict=True))
    assert {name for name, number in shape.items() if number} == {"slope", "breadth", "area"}


def test_the_usual_beat_has_the_leads_that_the_beat_has():
    beat, usual = early_wide_beat(2)
    assert value(usual, "second_lead") == value(beat, "second_lead") == 1
    np.testing.assert_allclose(usual[0][..., 0], usual[0][..., 2], atol=0.05)
    beat, usual = early_wide_beat(1)
    assert value(usual, "second_lead") == value(beat, "second_lead") == 0
    leads, numbers = coalitions(beat, usual)
    assert not leads[..., 2:].any()
    assert not numbers[:, NUMBERS.index("second_lead")].any()


def test_to_ask_for_the_usual_beat_changes_no_window():
    samples, peaks = heart(360, [0.8, 0.7])
    for (asked, _), plain in zip(read_with_usual(samples, peaks), read_all(samples, peaks, 360), strict=True):
        assert [each.tobytes() for each in asked] == [each.tobytes() for each in plain]


def test_before_any_beat_nothing_is_usual():
    windows = BeatWindows(360)
    assert not windows.is_settled
    assert not any(each.any() for each in windows.usual())


def play(answers):
    """A model that gives each of its inputs one of ``answers`` in turn."""
    return lambda leads, _numbers: np.resize(np.array(answers, np.float32), (len(leads), 4))


def zeros():
    return np.zeros((1, LENGTH, 2 * LEADS), np.float32), np.zeros((1, len(NUMBERS)), np.float32)


def test_a_usual_beat_that_is_called_so_itself_leaves_the_sum_right_and_is_said():
    why = explain(play([0.125, 0.125, 0.75, 0]), zeros(), zeros(), V)
    assert why.base == pytest.approx(0.625)
    assert why.shares == pytest.approx(np.zeros(len(PLAYERS)), abs=1e-12)
    words = reasons_in_words("V", thousandths(why.probabilities), thousandths(why.shares), (0,) * len(NUMBERS))
    assert words == "this patient's usual beat itself looks V to the model rather than N (+62)"


def test_words_are_the_largest_three_of_at_least_a_point():
    shares = [9, 480, 60, -210, 330, -5, 4]
    assert len(shares) == len(PLAYERS)
    numbers = [0] * len(NUMBERS)
    words = reasons_in_words("V", (0, 0, 1000, 0), shares, numbers)
    assert words.index("(+48)") < words.index("(+33)") < words.index("against it: before the P wave")
    assert words.count("(") == 4  # the fourth is what the usual beat has already
    assert words.endswith("rather than N (+33)")
    few = reasons_in_words("S", (500, 500, 0, 0), [0, 9, 0, 0, 11, 0, 0], numbers)
    assert few == "because: came in time, or no interval is known (+1)"
    assert reasons_in_words("S", (500, 500, 0, 0), [0] * 7, numbers) == "for no single reason"


@pytest.mark.parametrize(
    "answers",
    [
        [np.nan, 0, 1, 0],
        [np.inf, 0, 0, 0],
        [0, 0, 2, 0],
        [0, -1, 2, 0],
        [0, 0, 0, 0],
        [1, 0, 0, 0],  # called V before, now N
        [0, 0, 1, 0, 0, 0, 0, 1],  # answers by turns
    ],
)
def test_a_broken_model_gives_an_error_and_no_reasons(answers):
    with pytest.raises(InferenceError):
        explain(play(answers), zeros(), zeros(), V)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(128, 4), (127, 4), (128, 3), (4,), ()]), st.booleans())
@settings(max_examples=100, deadline=None)
def test_garbage_of_any_shape_gives_an_error_or_shares_that_add_up(seed, shape, distributions):
    rng = np.random.default_rng(seed)
    garbage = np.asarray(rng.normal(0, 10, shape), np.float32)
    if distributions and shape == (128, 4):
        garbage = rng.dirichlet([0.3] * 4, 128).astype(np.float32)
    answer = int(rng.integers(1, 4))
    try:
        why = explain(lambda *_: garbage, zeros(), zeros(), answer)
    except InferenceError:
        return
    assert distributions
    assert why.base + why.shares.sum() == pytest.approx(float(garbage[-1, answer] - garbage[-1, 0]), abs=1e-6)
    assert np.abs(why.shares).max() <= 2


def test_a_normal_beat_is_not_explained():
    with pytest.raises(InferenceError):
        explain(play([1, 0, 0, 0]), zeros(), zeros(), 0)


def test_leads_are_bytes_of_a_thirty_first_of_the_usual_height():
    leads, numbers = zeros()
    leads[0, :4, 0] = 1, -4, 4, 0.5
    assert np.frombuffer(lead_bytes((leads, numbers)), np.int8)[:5].tolist() == [31, -124, 124, 16, 0]


def test_rows_at_once_are_as_rows_one_by_one():
    model, _ = ModelShelf(None).get(ECG_BEATS)
    leads, numbers = coalitions(*early_wide_beat(2))
    alone = [model.run(leads[k : k + 1], numbers[k : k + 1])[0] for k in range(len(leads))]
    np.testing.assert_array_equal(model.run_rows(leads, numbers), alone)
    assert model.run_rows(leads[:0], numbers[:0]).shape == (0, 4)
    with pytest.raises(InferenceError):
        model.run_rows(leads, numbers[1:])
    with pytest.raises(InferenceError):
        model.run_rows()
