"""Measures as screens show them, at the bedside and on the ward page alike: of boards, and of models at the bedside."""

from collections.abc import Mapping, Sequence

from qepa_wire.measures import GLUCOSE, MEASURES, POSTURE, POSTURES, REASONS, SPO2, UNKNOWN, Measure
from qepa_wire.payloads import Care

from .bedside_models import ACTIVITY, CONTRACTS

Reading = dict[str, object]
_NOTES = {SPO2: "uncalibrated"}

BEATS_N, BEATS_S, BEATS_V, BEATS_F, ECG_QUALITY, ACTIVITY_CLASS, GLUCOSE_AHEAD, HYPOGLYCAEMIA_AHEAD = range(192, 200)
ACTIVITIES = CONTRACTS[ACTIVITY].outputs
_WORDS = {POSTURE: POSTURES, ACTIVITY_CLASS: ACTIVITIES, HYPOGLYCAEMIA_AHEAD: ("not expected", "may come")}

# What models at the bedside find: codes that no board uses.
FOUND_MEASURES = {
    BEATS_N: Measure("normal_beats", "/min", 1, 0, 600),  # of those in the last minute that a class was found for
    BEATS_S: Measure("supraventricular_beats", "/min", 1, 0, 600),
    BEATS_V: Measure("ventricular_beats", "/min", 1, 0, 600),
    BEATS_F: Measure("fusion_beats", "/min", 1, 0, 600),
    ECG_QUALITY: Measure("ecg_quality", "%", 1, 0, 100),
    ACTIVITY_CLASS: Measure("activity_class", "1", 1, 0, len(ACTIVITIES) - 1),  # index into ACTIVITIES
    GLUCOSE_AHEAD: Measure("glucose_in_30_min", "mg/dL", 1, 20, 600),
    HYPOGLYCAEMIA_AHEAD: Measure("hypoglycaemia_within_30_min", "1", 1, 0, 1),
}


def readings(measures: Sequence[tuple[int, int, int]], *, fresh: bool) -> list[Reading]:
    """Return one reading for each measure: code, name, unit (UCUM), value, quality_percent, reason, note.

    ``value`` is None where the board did not know it, or where the record is no longer ``fresh``; ``reason`` then says
    why, and is None elsewhere. A measure that only newer boards know has no name and no unit: its value is as it came.

    >>> readings([(4, 90, 975)], fresh=True)[0]["value"]
    97.5
    """
    return [_reading(MEASURES, *measure, fresh=fresh) for measure in measures]


def found_readings(found: Sequence[tuple[int, int, int]], *, fresh: bool) -> list[Reading]:
    """Likewise, of the readings of a Findings message: those that no gateway makes have no name.

    >>> found_readings([(194, 100, 3)], fresh=True)[0]["name"]
    'ventricular_beats'
    """
    return [_reading(FOUND_MEASURES, *reading, fresh=fresh) for reading in found]


def value_of(measures: Sequence[tuple[int, int, int]], code: int) -> tuple[int | None, int | None]:
    """Return (value on the wire, quality in percent) of one measure; (None, None) where it is absent or unknown."""
    for each, quality, value in measures:
        if each == code and value != UNKNOWN:
            return value, quality
    return None, None


def is_later(care: Care, before: Care) -> bool:
    """Whether ``care`` was recorded at or after ``before``: what a board kept without a connection comes late.

    Both counters wrap, so they are compared as serial numbers (RFC 1982).
    """
    boots: int = (care.boots - before.boots) & 0xFFFF
    elapsed_ms: int = (care.t_ms - before.t_ms) & 0xFFFFFFFF
    return boots < 1 << 15 if boots else elapsed_ms < 1 << 31


def _reading(measures: Mapping[int, Measure], code: int, quality: int, value: int, *, fresh: bool) -> Reading:
    known = measures.get(code)
    shown: float | str | None = None
    reason: str | None = None
    if not fresh:
        reason = "stale"
    elif value == UNKNOWN:
        reason = REASONS.get(quality, f"reason {quality}")
    elif known is not None and code in _WORDS:
        shown = _WORDS[code][value]
    elif code == GLUCOSE and value in (MEASURES[GLUCOSE].low, MEASURES[GLUCOSE].high):
        shown = "low" if value == MEASURES[GLUCOSE].low else "high"  # beyond what the monitor can tell in numbers
    else:
        shown = value if known is None or known.scale == 1 else value / known.scale
    return {
        "code": code,
        "name": f"measure_{code}" if known is None else known.name,
        "unit": "" if known is None or known.unit == "1" or isinstance(shown, str) else known.unit,
        "value": shown,
        "quality_percent": None if shown is None else quality,
        "reason": reason,
        "note": _NOTES.get(code, ""),
    }
