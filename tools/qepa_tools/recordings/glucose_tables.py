"""Glucose on the board: how the trend foretells, what the conditions catch, how hysteresis calms them."""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qepa_board.signals.glucose import LOW, STALE_S, TREND_S, VERY_HIGH, VERY_LOW, Glucose
from qepa_tools.recordings.cgm import SETS, GlucoseRecord, load_cgm
from qepa_tools.recordings.peak_tables import Track
from qepa_tools.recordings.table import Table, number, percent
from qepa_wire.measures import UNKNOWN

AHEAD_S = 900
STEEPEST = 30  # mg/dL a minute, beyond which the board begins anew

_NEAR_S = 120
_LEVELS: dict[int, Callable[[int], bool]] = {
    LOW: lambda v: v < 70,
    VERY_LOW: lambda v: v < 54,
    VERY_HIGH: lambda v: v > 250,
}


@dataclass(slots=True)
class Tally:
    """What one set's readings gave."""

    readings: int = 0
    days: float = 0.0
    trends: int = 0
    trend_error: float = 0.0
    ahead: list[float] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    edges: dict[int, int] = field(default_factory=lambda: dict.fromkeys(_LEVELS, 0))
    crossings: dict[int, int] = field(default_factory=lambda: dict.fromkeys(_LEVELS, 0))
    missed: int = 0
    right: int = 0


def glucose_tables(directory: Path, track: Track) -> list[Table]:
    """One row a set for the trend, one for the conditions."""
    tallies = {name: _tally(load_cgm(directory, name)) for name in track(list(SETS), "Glucose")}
    note = "No constant was chosen on these people: the levels are the consensus' (Battelino 2019)."
    return [
        Table(
            title="Glucose trend, least squares over 20 min",
            columns=[
                "set", "days", "readings", "with a trend %", "largest difference to float mg/dL/min",
                "same direction 15 min on %", "15 min ahead by trend, MAE mg/dL", "value held, MAE mg/dL",
            ],
            rows=[
                [
                    name, f"{t.days:.0f}", str(t.readings), percent(t.trends, t.readings), number(t.trend_error, 2),
                    percent(t.right, len(t.ahead)), number(float(np.mean(t.ahead))), number(float(np.mean(t.held))),
                ]
                for name, t in tallies.items()
            ],
            notes=["15 min ahead: of trends of at least 1 mg/dL/min. A trend is an arrow, not a forecast. " + note],
        ),
        Table(
            title="Glucose conditions: begins per day on the board, and crossings of the same level without hysteresis",
            columns=["set", "< 70", "crossings", "< 54", "crossings", "> 250", "crossings", "beyond without condition"],
            rows=[
                [
                    name,
                    *(number(v[k] / t.days, 2) for k in _LEVELS for v in (t.edges, t.crossings)),
                    str(t.missed),
                ]
                for name, t in tallies.items()
            ],
            notes=[note],
        ),
    ]  # fmt: skip


def _tally(records: Iterable[GlucoseRecord]) -> Tally:
    tally = Tally()
    for record in records:
        _follow(record, tally)
    return tally


def _follow(record: GlucoseRecord, tally: Tally) -> None:
    now = 0

    def clock_s() -> int:
        return now

    board = Glucose(clock_s)
    cell = array("i", (0,))
    before = 0
    crossed = dict.fromkeys(_LEVELS, False)
    tally.days += float(record.t_s[-1]) / 86400
    for k, (t_s, value) in enumerate(zip(record.t_s.tolist(), record.mg_dl.tolist(), strict=True)):
        now = t_s
        cell[0] = value
        board.push(cell, None, 1)
        measures: list[tuple[int, int, int]] = []
        board.measures(measures)
        conditions = board.conditions or 0
        tally.readings += 1
        for level, beyond in _LEVELS.items():
            tally.edges[level] += bool(conditions & ~before & level)
            tally.missed += beyond(value) and not conditions & level
            tally.crossings[level] += beyond(value) and not crossed[level]
            crossed[level] = beyond(value)
        before = conditions
        trend = measures[1][2]
        if trend != UNKNOWN:
            tally.trends += 1
            _compare(record, k, trend / 10, tally)


def _compare(record: GlucoseRecord, k: int, trend: float, tally: Tally) -> None:
    t_s, values = record.t_s, record.mg_dl
    first = int(np.searchsorted(t_s, t_s[k] - TREND_S))
    minutes = (t_s[first : k + 1] - t_s[k]) / 60
    part = values[first : k + 1].astype(np.float64)
    steps = np.diff(minutes)
    if (steps <= STALE_S / 60).all() and (np.abs(np.diff(part)) <= STEEPEST * steps).all():
        across = minutes - minutes.mean()
        tally.trend_error = max(tally.trend_error, abs(float(across @ part / (across @ across)) - trend))
    later = int(np.searchsorted(t_s, t_s[k] + AHEAD_S - _NEAR_S))
    if abs(trend) >= 1 and later < len(t_s) and t_s[later] <= t_s[k] + AHEAD_S + _NEAR_S:
        change = float(values[later] - values[k])
        tally.ahead.append(abs(trend * AHEAD_S / 60 - change))
        tally.held.append(abs(change))
        tally.right += trend * change > 0
