"""Figures: what is counted, on whom it is drawn, and how sure the model is."""

import numpy as np
import pytest

from qepa_tools.evaluation.figures import NONE, figures, person_bootstrap, reliability, tally
from qepa_tools.evaluation.model import probabilities
from qepa_tools.recordings.board_beats import BoardBeats


def beats(classes: list[int], missed: list[int]) -> BoardBeats:
    return BoardBeats(
        recording="x",
        samples=np.arange(len(classes)) * 300,
        features=np.zeros((len(classes), 17), np.int16),
        classes=np.array(classes, np.int8),
        missed=np.array(missed, np.int8),
    )


def test_false_detections_and_beats_not_found_count_against_the_class_and_q_beats_do_not() -> None:
    found = beats([0, 0, 2, 2, -2, -1], missed=[2, -1])
    counts = tally(found, np.array([0, 2, 2, 2, 2, 1]))
    assert counts.tolist() == [
        [1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 2, 0, 1], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0],
    ]  # fmt: skip
    of = figures(counts)
    assert of.beats == 5
    assert of.accuracy == 3 / 4
    assert of.sensitivity == (1 / 2, None, 2 / 3, None)
    assert of.ppv == (1.0, None, 2 / 4, None)
    assert of.f1 == (2 / 3, None, pytest.approx(4 / 7), None)
    assert of.macro_f1 == pytest.approx((2 / 3 + 4 / 7) / 2)
    assert (of.detection_sensitivity, of.detection_ppv) == (4 / 5, 4 / 5)


def test_f_is_in_the_table_and_not_in_the_macro_f1() -> None:
    counts = np.zeros((NONE + 1, NONE + 1), np.int64)
    counts[0, 0] = counts[3, 0] = 10
    of = figures(counts)
    assert of.f1[3] == 0.0
    assert of.macro_f1 == of.f1[0]


def test_of_nothing_there_are_no_figures() -> None:
    of = figures(np.zeros((5, 5), np.int64))
    assert (of.accuracy, of.macro_f1, of.ppv) == (None, None, (None,) * 4)


def test_intervals_are_as_wide_as_people_differ_however_many_beats_they_have() -> None:
    def person(right: int, wrong: int) -> np.ndarray:
        counts = np.zeros((5, 5), np.int64)
        counts[0, 0], counts[0, 2] = right, wrong
        return counts

    alike = person_bootstrap({str(k): person(9000, 1000) for k in range(8)}, draws=300)["accuracy"]
    unlike = person_bootstrap({str(k): person(*((10000, 0) if k else (2000, 8000))) for k in range(8)}, draws=300)
    assert alike is not None
    assert (alike.low, alike.high) == (0.9, 0.9)
    assert unlike["accuracy"] is not None
    assert unlike["accuracy"].low < 0.8
    assert unlike["accuracy"].high > 0.99
    assert unlike["S ppv"] is None


def test_a_model_that_is_as_sure_as_it_is_right_has_no_calibration_error() -> None:
    p = np.repeat([0.25, 0.75], 400)
    honest = np.arange(800) % 4 < np.where(p < 0.5, 1, 3)
    assert reliability(p, honest).ece == pytest.approx(0)
    assert reliability(p, ~honest).ece == pytest.approx(0.5)
    of = reliability(np.array([1.0, 0.0]), np.array([True, False]))
    assert (of.beats[0], of.beats[-1], of.ece) == (1, 1, 0.0)


def test_probabilities_are_the_boards() -> None:
    from array import array

    from qepa_board.learning.network import softmax

    scores = np.random.default_rng(1).integers(-(1 << 22), 1 << 22, (50, 4))
    for row, p in zip(scores, probabilities(scores), strict=True):
        out = array("i", row.tolist())
        softmax(out, 4)
        assert np.array(out) / 32768 == pytest.approx(p, abs=2**-11)
