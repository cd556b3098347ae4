"""Glucose to come: only readings count, missing ones stay missing, unknown in is unknown out."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_gateway.inference.glucose import VALID_S, GlucoseReader, warning_of
from qepa_gateway.inference.glucose_windows import DIFFERENCE, HERE, LEVEL, PRESENT, STEPS, usable, windows
from qepa_gateway.inference.runtime import InferenceError
from qepa_gateway.inference.shelf import ModelShelf
from qepa_uplink.readings import GLUCOSE_AHEAD, HYPOGLYCAEMIA_AHEAD
from qepa_wire.measures import GLUCOSE, GLUCOSE_TREND, NO_DATA, SENSOR_FAULT, SETTLING, STALE, UNKNOWN
from qepa_wire.payloads import Care

CARD = {"warning": {"begins_log_odds": 0.0, "ends_log_odds": -0.5}}
SETTLED = ((GLUCOSE_AHEAD, SETTLING, UNKNOWN), (HYPOGLYCAEMIA_AHEAD, SETTLING, UNKNOWN))


def rows(t_s, mg_dl, at=-1):
    t_s, mg_dl = np.array(t_s), np.array(mg_dl)
    return windows(t_s, mg_dl, np.array([at % len(t_s)]))[0]


def test_a_reading_stands_at_its_age_less_the_newest_one():
    seen = rows([0, 300, 600, 1500], [100, 110, 120, 150])
    assert np.flatnonzero(seen[:, PRESENT]).tolist() == [STEPS - 6, STEPS - 5, STEPS - 4, STEPS - 1]
    assert (128 * seen[[-6, -5, -4, -1], DIFFERENCE]).tolist() == [-50, -40, -30, 0]
    assert (seen[:, PRESENT].max(), seen[0, LEVEL]) == (HERE, (150 - 200) / 256)


def test_missing_readings_leave_nothing_of_their_neighbours():
    seen = rows([0, 6900, 7200], [250, 100, 90])
    missing = seen[:, PRESENT] == 0
    assert missing.sum() == STEPS - 3
    assert not seen[missing][:, DIFFERENCE].any()


@given(st.lists(st.integers(1, 900), min_size=1, max_size=60), st.integers(0, 10**6), st.data())
def test_windows_know_no_future_and_no_clock(steps, offset, data):
    t_s = np.cumsum(steps)
    mg_dl = np.array(data.draw(st.lists(st.integers(39, 401), min_size=len(steps), max_size=len(steps))))
    k = data.draw(st.integers(0, len(steps) - 1))
    alone = windows(t_s[: k + 1] + offset, mg_dl[: k + 1], np.array([k]))
    np.testing.assert_array_equal(windows(t_s, mg_dl, np.array([k])), alone)
    assert usable(t_s)[k] == usable(t_s[: k + 1])[k]
    assert -1 <= alone.min() <= alone.max() <= HERE


def test_forecasts_need_three_readings_in_half_an_hour():
    assert usable(np.array([0, 300, 600])).tolist() == [False, False, True]
    assert usable(np.array([0, 900, 1800])).tolist() == [False, False, True]
    assert usable(np.array([0, 300, 4000])).tolist() == [False, False, False]


class Shelf:
    """A model that answers what it is told to."""

    def __init__(self, change=-0.2, low=0.1, card=CARD):
        self.change, self.low, self.card, self.seen = change, low, card, []

    def get(self, _name):
        return self, self.card

    def version(self, _name):
        return 4

    def run(self, readings):
        self.seen.append(readings[0])
        if self.change is None:
            raise InferenceError("broken")
        return np.array([[self.change, self.low]], np.float32)


class Board:
    """Sends a care record every 10 s; the gateway's clock runs along."""

    def __init__(self, shelf, start_ms=0):
        self.now_ms, self.t_ms, self.boots, self.errors = 10**12, start_ms, 1, Counter()
        self.reader = GlucoseReader(shelf, self.errors, lambda: self.now_ms)

    def say(self, value, trend=UNKNOWN, *, seconds=300, quality=100):
        """Show a value for so long."""
        for _ in range(seconds // 10):
            measures = (GLUCOSE, quality, value), (GLUCOSE_TREND, 100 if trend != UNKNOWN else SETTLING, trend)
            self.reader.take(9, Care(self.t_ms % 2**32, self.boots, 0, 255, 0, 1, measures))
            self.reader.work()
            self.t_ms += 10_000
            self.now_ms += 10_000
        return self

    def told(self):
        (finding,) = self.reader.findings(9)
        return finding.readings


def test_a_forecast_comes_with_the_third_reading_and_names_its_model():
    shelf = Shelf()
    board = Board(shelf).say(120).say(118).say(115)
    assert board.told() == SETTLED  # how old the first value was when it was first heard, nobody knows
    board.say(110, seconds=10)
    share = round(100 * 3 / STEPS)
    assert board.told() == ((GLUCOSE_AHEAD, share, 90), (HYPOGLYCAEMIA_AHEAD, share, 1))
    assert np.flatnonzero(shelf.seen[-1][:, PRESENT]).tolist() == [STEPS - 3, STEPS - 2, STEPS - 1]
    (finding,) = board.reader.findings(9)
    assert (finding.model, finding.version, finding.boots) == ("glucose-30", 4, 1)


def test_what_a_board_repeats_is_no_reading_but_the_same_value_with_another_trend_is():
    shelf = Shelf()
    Board(shelf).say(120).say(118).say(118, -1).say(118, -1).say(110, -3)
    last = shelf.seen[-1]
    assert (128 * last[last[:, PRESENT] > 0][:, DIFFERENCE]).tolist() == [8, 8, 0]
    assert np.flatnonzero(last[:, PRESENT]).tolist() == [STEPS - 4, STEPS - 3, STEPS - 1]


def test_a_value_heard_again_after_silence_is_of_unknown_age():
    shelf = Shelf()
    board = Board(shelf).say(120).say(118).say(116).say(114)
    before = len(shelf.seen)
    board.t_ms += 600_000
    board.say(90)
    assert len(shelf.seen) == before
    board.say(88)
    assert np.flatnonzero(shelf.seen[-1][:, PRESENT]).tolist() == [STEPS - 7, STEPS - 6, STEPS - 5, STEPS - 1]


@pytest.mark.parametrize("reason", [NO_DATA, SENSOR_FAULT, STALE])
def test_unknown_glucose_has_no_forecast_and_says_why(reason):
    board = Board(Shelf()).say(120).say(118).say(116).say(114)
    assert board.told()[0][2] != UNKNOWN
    board.say(UNKNOWN, seconds=10, quality=reason)
    assert board.told() == ((GLUCOSE_AHEAD, reason, UNKNOWN), (HYPOGLYCAEMIA_AHEAD, reason, UNKNOWN))


def test_a_forecast_ages_and_is_not_told_of_a_board_that_fell_silent():
    board = Board(Shelf()).say(120).say(118).say(116).say(114)
    board.say(114, seconds=VALID_S)
    assert [reading[1:] for reading in board.told()] == [(STALE, UNKNOWN)] * 2
    board = Board(Shelf()).say(120).say(118).say(116).say(114)
    board.now_ms += 120_000
    assert [reading[1:] for reading in board.told()] == [(NO_DATA, UNKNOWN)] * 2


def test_a_warning_has_hysteresis_and_gives_way_to_a_low_that_is_measured():
    shelf = Shelf()
    board = Board(shelf).say(120).say(100).say(90)
    warned = []
    for value, log_odds in ((86, -0.1), (85, 0.1), (84, -0.3), (83, -0.6), (82, -0.3), (81, 4.0), (69, 4.0), (72, 4.0)):
        shelf.low = log_odds / 8
        board.say(value)
        warned.append(board.told()[1][2])
    assert warned == [0, 1, 1, 0, 0, 1, 0, 1]


def test_a_new_boot_and_a_withdrawal_begin_from_nothing():
    board = Board(Shelf()).say(120).say(118).say(116).say(114)
    board.boots, board.t_ms = 2, 0
    assert board.say(113).told() == SETTLED
    board.reader.forget(9)
    assert board.reader.findings(9) == ()


def test_the_boards_clock_may_wrap():
    shelf = Shelf()
    Board(shelf, start_ms=2**32 - 400_000).say(120).say(118).say(116).say(114)
    assert np.flatnonzero(shelf.seen[-1][:, PRESENT]).tolist() == [STEPS - 3, STEPS - 2, STEPS - 1]


def test_beyond_what_a_monitor_shows_counts_as_its_ends():
    shelf = Shelf(change=-3.0)
    board = Board(shelf).say(120).say(600).say(590).say(20)
    assert shelf.seen[-1][-1, LEVEL] == np.float32((39 - 200) / 256)
    assert board.told()[0][2] == 39


def test_a_model_that_fails_or_does_not_say_when_to_warn():
    board = Board(Shelf(change=None)).say(120).say(118).say(116).say(114)
    assert board.errors["glucose-30"] > 0
    assert board.told() == SETTLED
    silent = Board(Shelf(card={})).say(120).say(118).say(116).say(114)
    ahead, warning = silent.told()
    assert ahead[2] == 94
    assert warning[1:] == (NO_DATA, UNKNOWN)


def test_a_board_without_glucose_is_not_followed():
    reader = GlucoseReader(Shelf(), Counter(), lambda: 0)
    reader.take(9, Care(0, 1, 0, 255, 0, 1, ()))
    assert reader.findings(9) == ()


@pytest.mark.parametrize("card", [{}, {"warning": 3}, {"warning": {"begins_log_odds": 0, "ends_log_odds": 1}}])
def test_a_card_that_makes_no_sense_warns_of_nothing(card):
    assert warning_of(card) is None


def test_a_card_from_the_server_has_its_facts_under_measured():
    assert warning_of({"measured": CARD}) == warning_of(CARD) == (0.0, -0.5)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(-32768, 32767), st.integers(-32768, 32767)),
        max_size=40,
    )
)
def test_whatever_an_authentic_board_says_nothing_is_raised(records):
    board = Board(Shelf())
    for t_ms, boots, value, trend in records:
        measures = (GLUCOSE, 100, value), (GLUCOSE_TREND, 100, trend)
        board.reader.take(9, Care(t_ms, boots, 0, 255, 0, 1, measures))
        board.reader.work()
        for reading in board.told():
            assert reading[2] == UNKNOWN or 0 <= reading[1] <= 100


def test_the_model_that_ships_says_when_to_warn_and_what_falls_steeply_is_warned_of():
    shelf = ModelShelf(None)
    begins, ends = warning_of(shelf.get("glucose-30")[1])
    assert begins > ends
    steady, falling = Board(shelf), Board(shelf)
    for k in range(12):
        steady.say(120 + k % 2)
        falling.say(180 - 9 * k)
    steady.say(120, seconds=10)
    falling.say(75, seconds=10)
    assert [board.told()[1][2] for board in (steady, falling)] == [0, 1]


@pytest.mark.parametrize("limits", [(10**400, 0), (0, -(10**400)), (float("nan"), 0), (True, False), ("2", 1)])
def test_a_card_whose_limits_are_no_numbers_gives_no_warning_and_stops_nothing(limits):
    begins, ends = limits
    assert warning_of({"warning": {"begins_log_odds": begins, "ends_log_odds": ends}}) is None
