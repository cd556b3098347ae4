"""Measures of a care record as screens show them, at the bedside and on the ward page alike."""

from collections.abc import Sequence

from qepa_wire.measures import GLUCOSE, MEASURES, POSTURE, POSTURES, REASONS, SPO2, UNKNOWN
from qepa_wire.payloads import Care

Reading = dict[str, object]
_NOTES = {SPO2: "uncalibrated"}


def readings(measures: Sequence[tuple[int, int, int]], *, fresh: bool) -> list[Reading]:
    """Return one reading for each measure: code, name, unit (UCUM), value, quality_percent, reason, note.

    ``value`` is None where the board did not know it, or where the record is no longer ``fresh``; ``reason`` then says
    why, and is None elsewhere. A measure that only newer boards know has no name and no unit: its value is as it came.

    >>> readings([(4, 90, 975)], fresh=True)[0]["value"]
    97.5
    """
    return [_reading(code, quality, value, fresh=fresh) for code, quality, value in measures]


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


def _reading(code: int, quality: int, value: int, *, fresh: bool) -> Reading:
    known = MEASURES.get(code)
    shown: float | str | None = None
    reason: str | None = None
    if not fresh:
        reason = "stale"
    elif value == UNKNOWN:
        reason = REASONS.get(quality, f"reason {quality}")
    elif code == POSTURE:
        shown = POSTURES[value]
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
