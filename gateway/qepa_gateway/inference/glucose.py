"""Glucose in half an hour, and whether it may fall low by then, from the readings in consenting patients' care records.

A care record repeats the last reading until there is a new one, and does not say how old it is. So a reading counts
when value or trend change from one record to the next; one that is like the last in both is taken for missing.
"""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from qepa_uplink.bedside_models import CHANGE_MG_DL, GLUCOSE_30, LOG_ODDS
from qepa_uplink.readings import GLUCOSE_AHEAD, HYPOGLYCAEMIA_AHEAD
from qepa_wire.measures import GLUCOSE, GLUCOSE_TREND, NO_DATA, SETTLING, STALE, UNKNOWN
from qepa_wire.payloads import Care

from ..transport import Clock
from .finding import Finding, Reading
from .glucose_windows import PRESENT, SPAN_S, STEP_S, STEPS, usable, windows
from .runtime import InferenceError
from .shelf import ModelShelf

FORECASTS_AT_ONCE: Final = 4  # in one call of work()
VALID_S: Final = 2 * STEP_S + 60  # a forecast is about the half hour after its newest reading
LOW_MG_DL: Final = 70
_TOGETHER_S: Final = 60  # records further apart may hide when a reading came
_LEAST, _MOST = 39, 401  # what training saw for a monitor's "low" and "high"
_KEPT = 2 * STEPS
_MOST_ODDS = 1000


class GlucoseReader:
    """Follows the glucose of all boards that have one. Give it each care record with :meth:`take`."""

    def __init__(self, shelf: ModelShelf, errors: Counter[str], clock: Clock) -> None:
        """``errors`` counts, by name of a model, how often it failed."""
        self._clock = clock
        self._shelf = shelf
        self._errors = errors
        self._histories: dict[int, _History] = {}

    def take(self, board: int, care: Care) -> None:
        """Take the newest care record of a board."""
        told = {code: (quality, value) for code, quality, value in care.measures if code in (GLUCOSE, GLUCOSE_TREND)}
        if GLUCOSE not in told and board not in self._histories:
            return
        history = self._histories.get(board)
        if history is None or history.boots != care.boots:
            history = self._histories[board] = _History(care)
        history.received_ms = self._clock()
        history.take(care.t_ms, told.get(GLUCOSE, (NO_DATA, UNKNOWN)), told.get(GLUCOSE_TREND, (NO_DATA, UNKNOWN))[1])

    def work(self) -> None:
        """Make the forecasts that new readings allow."""
        left = FORECASTS_AT_ONCE
        for history in self._histories.values():
            if history.is_new:
                history.is_new = False
                self._forecast(history)
                left -= 1
            if not left:
                return

    def findings(self, board: int) -> tuple[Finding, ...]:
        """Both codes, with the reason where there is no forecast."""
        history, version = self._histories.get(board), self._shelf.version(GLUCOSE_30)
        if history is None or not version:
            return ()
        heard = 0 <= self._clock() - history.received_ms <= 1000 * _TOGETHER_S
        of = history.readings() if heard else _unknown(NO_DATA)
        return (Finding(model=GLUCOSE_30, version=version, boots=history.boots, t_ms=history.t_ms, readings=of),)

    def forget(self, board: int) -> None:
        """Nothing of this board stays."""
        self._histories.pop(board, None)

    def _forecast(self, history: "_History") -> None:
        t_s, mg_dl = np.array(history.t_s, np.int64), np.array(history.mg_dl, np.int64)
        if not usable(t_s)[-1]:
            history.forecast = None
            return
        readings = windows(t_s, mg_dl, np.array([len(t_s) - 1]))
        try:
            model, card = self._shelf.get(GLUCOSE_30)
            change, low = (float(number) for number in model.run(readings)[0])
        except InferenceError:
            self._errors[GLUCOSE_30] += 1
            history.forecast = None
            return
        there = round(100 * np.count_nonzero(readings[0, :, PRESENT]) / STEPS)
        ahead = round(min(_MOST, max(_LEAST, history.mg_dl[-1] + CHANGE_MG_DL * change)))
        history.warn(LOG_ODDS * low, warning_of(card))
        history.forecast = there, ahead


def warning_of(card: Mapping[str, Any]) -> tuple[float, float] | None:
    """Log odds at which a warning begins and ends, by the model's card; None if that does not say.

    The server puts what a pushed card says under ``measured``.
    """
    measured = card.get("measured")
    for facts in (card, measured if isinstance(measured, Mapping) else {}):
        warning = facts.get("warning")
        if isinstance(warning, Mapping):
            begins, ends = _odds(warning.get("begins_log_odds")), _odds(warning.get("ends_log_odds"))
            if begins is not None and ends is not None and ends <= begins:
                return begins, ends
    return None


def _odds(told: object) -> float | None:
    """Log odds of a card, which may hold any JSON."""
    if isinstance(told, bool) or not isinstance(told, int | float) or not -_MOST_ODDS <= told <= _MOST_ODDS:
        return None
    return float(told)


class _History:
    """One board's readings of one boot, by the board's own clock."""

    def __init__(self, care: Care) -> None:
        self.boots = care.boots
        self.t_ms = care.t_ms
        self.received_ms = 0
        self.t_s: deque[int] = deque(maxlen=_KEPT)
        self.mg_dl: deque[int] = deque(maxlen=_KEPT)
        self.forecast: tuple[int, int] | None = None  # quality, mg/dL
        self.warning: bool | None = None
        self.is_new = False
        self._elapsed_ms = 0  # since the first record; t_ms itself wraps
        # Value and trend of the last record. A board draws its trend through readings alone: time does not change it.
        self._last: tuple[int, int] | None = None
        self._reason = SETTLING

    def take(self, t_ms: int, glucose: tuple[int, int], trend: int) -> None:
        """Take what a record says, and note a reading where it is a new one."""
        since_ms = (t_ms - self.t_ms) & 0xFFFFFFFF
        self._elapsed_ms += since_ms
        self.t_ms = t_ms
        quality, value = glucose
        seen = self._last is not None and since_ms <= 1000 * _TOGETHER_S
        if seen and value != UNKNOWN and self._last != (value, trend):
            self.t_s.append(self._elapsed_ms // 1000)
            self.mg_dl.append(min(_MOST, max(_LEAST, value)))
            self.is_new = True
        while self.t_s and self.t_s[0] < self._elapsed_ms // 1000 - SPAN_S - STEP_S:
            self.t_s.popleft()
            self.mg_dl.popleft()
        self._last = value, trend
        self._reason = quality if value == UNKNOWN else SETTLING

    def warn(self, odds: float, limits: tuple[float, float] | None) -> None:
        """Begin or end the warning. A reading that is low is no forecast any more: the board alerts."""
        if limits is None:
            self.warning = None
        elif self.mg_dl[-1] < LOW_MG_DL:
            self.warning = False
        else:
            self.warning = odds > limits[1] if self.warning else odds > limits[0]

    def readings(self) -> tuple[Reading, ...]:
        """The forecast while its newest reading is fresh."""
        reason = 0
        if self._reason != SETTLING:
            reason = self._reason
        elif not self.t_s or self.forecast is None:
            reason = SETTLING
        elif self._elapsed_ms // 1000 - self.t_s[-1] > VALID_S:
            reason = STALE
        if reason or self.forecast is None:
            return _unknown(reason)
        quality, ahead = self.forecast
        low = (NO_DATA, UNKNOWN) if self.warning is None else (quality, int(self.warning))
        return (GLUCOSE_AHEAD, quality, ahead), (HYPOGLYCAEMIA_AHEAD, *low)


def _unknown(reason: int) -> tuple[Reading, ...]:
    return (GLUCOSE_AHEAD, reason, UNKNOWN), (HYPOGLYCAEMIA_AHEAD, reason, UNKNOWN)
