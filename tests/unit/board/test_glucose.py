"""Glucose: trend by least squares, levels with hysteresis, nothing told that is too old."""

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_board.signals.glucose import LOW, VERY_HIGH, VERY_LOW, Glucose
from qepa_wire.measures import (
    GLUCOSE,
    GLUCOSE_TREND,
    MEASURES,
    NO_DATA,
    REASONS,
    SENSOR_FAULT,
    SETTLING,
    STALE,
    UNKNOWN,
)


class Patient:
    """A board and its clock; `read` pushes readings five minutes apart."""

    def __init__(self) -> None:
        self.now_s = 0
        self.board = Glucose(lambda: self.now_s)

    def read(self, *mg_dl: int) -> dict[int, tuple[int, int]]:
        for value in mg_dl:
            self.now_s += 300
            self.board.push(array("i", (value,)), None, 1)
            told = self.told()
        return told

    def told(self) -> dict[int, tuple[int, int]]:
        out: list[tuple[int, int, int]] = []
        self.board.measures(out)
        return {code: (quality, value) for code, quality, value in out}


def test_the_last_reading_is_told_until_fifteen_minutes_old() -> None:
    patient = Patient()
    assert patient.told()[GLUCOSE] == (NO_DATA, UNKNOWN)
    assert patient.read(101, 104)[GLUCOSE] == (100, 104)
    patient.now_s += 900
    assert patient.told()[GLUCOSE] == (100, 104)
    patient.now_s += 1
    assert patient.told() == {GLUCOSE: (STALE, UNKNOWN), GLUCOSE_TREND: (STALE, UNKNOWN)}
    assert patient.board.conditions is None


def test_a_trend_needs_ten_minutes_and_spans_twenty() -> None:
    patient = Patient()
    assert patient.read(100, 105)[GLUCOSE_TREND] == (SETTLING, UNKNOWN)
    assert patient.read(110)[GLUCOSE_TREND] == (100, 10)
    patient.read(115, 120, 120, 120, 120)
    assert patient.read(120)[GLUCOSE_TREND] == (100, 0)


@given(st.lists(st.integers(40, 400), min_size=5, max_size=5))
def test_the_trend_is_the_least_squares_line(values: list[int]) -> None:
    patient = Patient()
    trend = patient.read(*values)[GLUCOSE_TREND][1]
    if max(abs(np.diff(values))) <= 150:
        slope = np.polyfit(np.arange(5) * 5, values, 1)[0]
        assert trend == pytest.approx(10 * slope, abs=0.51)


def test_times_of_the_sensor_are_used_where_it_tells_them() -> None:
    patient = Patient()
    patient.now_s = 10_000
    patient.board.push(array("i", (100, 103, 112)), array("i", (7, 10, 19)), 3)
    assert patient.told()[GLUCOSE_TREND] == (100, 10)
    patient.board.push(array("i", (130,)), None, 1)
    assert patient.told()[GLUCOSE] == (100, 112)  # told twice: the clock has not moved


def test_a_gap_breaks_the_trend_not_the_value() -> None:
    patient = Patient()
    patient.read(100, 105, 110, 115)
    patient.board.gap(1)
    told = patient.read(200)
    assert told[GLUCOSE] == (100, 200)
    assert told[GLUCOSE_TREND] == (SETTLING, UNKNOWN)


def test_silence_and_leaps_break_the_trend() -> None:
    patient = Patient()
    patient.read(100, 105, 110, 115)
    patient.now_s += 700
    assert patient.read(120)[GLUCOSE_TREND] == (SETTLING, UNKNOWN)
    patient.read(120, 120)
    assert patient.read(290)[GLUCOSE_TREND] == (SETTLING, UNKNOWN)


@pytest.mark.parametrize("word", [0, 19, 601, -1])
def test_no_value_is_a_fault_until_the_next(word: int) -> None:
    patient = Patient()
    patient.read(60)
    assert patient.read(word)[GLUCOSE] == (SENSOR_FAULT, UNKNOWN)
    assert patient.board.conditions is None
    assert patient.read(61)[GLUCOSE] == (100, 61)
    assert patient.board.conditions == LOW


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        (LOW, [71, 70, 69, 70, 74, 75, 74], [0, 0, 1, 1, 1, 0, 0]),
        (VERY_LOW, [55, 54, 53, 54, 58, 59, 58], [0, 0, 1, 1, 1, 0, 0]),
        (VERY_HIGH, [249, 250, 251, 250, 241, 240, 241], [0, 0, 1, 1, 1, 0, 0]),
    ],
)
def test_levels_begin_at_once_and_end_with_hysteresis(condition: int, values: list[int], holds: list[int]) -> None:
    patient = Patient()
    seen = []
    for value in values:
        patient.read(value)
        assert patient.board.conditions is not None
        seen.append(1 if patient.board.conditions & condition else 0)
    assert seen == holds


def test_very_low_is_low_too() -> None:
    patient = Patient()
    patient.read(50)
    assert patient.board.conditions == LOW | VERY_LOW


@given(st.lists(st.tuples(st.integers(-32768, 32767), st.integers(0, 1200)), max_size=60))
def test_whatever_comes_in_values_stay_in_their_bounds(readings: list[tuple[int, int]]) -> None:
    patient = Patient()
    for value, pause_s in readings:
        patient.now_s += pause_s - 300
        patient.now_s = max(patient.now_s, 0)
        for code, (quality, shown) in patient.read(value).items():
            assert (shown == UNKNOWN and quality in REASONS) or MEASURES[code].low <= shown <= MEASURES[code].high
