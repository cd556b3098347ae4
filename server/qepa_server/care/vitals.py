"""Live vitals: opened with the server's own care keys, kept in memory only, dashes after 5 seconds."""

from collections.abc import Callable
from dataclasses import dataclass

from qepa_uplink.messages import CareRecord
from qepa_uplink.readings import is_later, readings, value_of
from qepa_wire.keys import care_key
from qepa_wire.measures import HEART_RATE
from qepa_wire.payloads import (
    CARE_ASYSTOLE,
    CARE_LEAD_OFF,
    Care,
    care_consent,
    decode_care,
)

from .arrival import SequenceGuard
from .consents import ConsentDesk
from .memory import CareMemory

STALE_MS = 5000
BEAT_CLASSES = "NSVF"


@dataclass(frozen=True, slots=True)
class Vitals:
    """One board's newest care record; ``at_ms`` by the clock that makes it look older."""

    care: Care
    at_ms: int

    def shown(self, now_ms: int) -> dict[str, object]:
        """As the ward page shows it: nothing but the age once it is stale."""
        age_ms = max(0, now_ms - self.at_ms)
        fresh = abs(now_ms - self.at_ms) <= STALE_MS  # a record from ahead of a clock that was set back is old, too
        care = self.care
        hr_bpm, quality = value_of(care.measures, HEART_RATE) if fresh else (None, None)
        known_class = fresh and care.beat_class < len(BEAT_CLASSES)
        return {
            "hr_bpm": hr_bpm,
            "quality_percent": quality,
            "measures": readings(care.measures, fresh=fresh),
            "lead_off": bool(care.flags & CARE_LEAD_OFF) if fresh else None,
            "asystole": bool(care.flags & CARE_ASYSTOLE) if fresh else None,
            "beat_class": BEAT_CLASSES[care.beat_class] if known_class else None,
            "beats": care.beats,
            "age_ms": age_ms,
        }


class VitalsMonitor:
    """Opens care records under a valid consent."""

    def __init__(self, *, consents: ConsentDesk, clock_ms: Callable[[], int]) -> None:
        self._consents = consents
        self._clock_ms = clock_ms
        self._newest: CareMemory[Vitals] = CareMemory(consents)
        self._seen = SequenceGuard()

    def accept(self, gateway: str, record: CareRecord) -> Care:
        """Open a care record.

        Raises WireError (payload, mac) or RefusedError (board, consent, replay).
        """
        now_ms = self._clock_ms()
        consent_id = care_consent(record.payload)
        board = self._consents.admit(gateway, record.board, consent_id, now_ms)
        care = decode_care(care_key(board.end_key, consent_id), record.board, record.seq, record.payload)
        self._seen.take(record.board, consent_id, record.seq)
        newest = self._newest.get(record.board, now_ms)
        if newest is None or is_later(care, newest.care):
            self._newest.put(record.board, consent_id, Vitals(care, min(now_ms, record.received_ms)))
        return care

    def shown(self, board: int, now_ms: int) -> dict[str, object] | None:
        """What may be shown of ``board`` now; None without a record whose consent is in force."""
        vitals = self._newest.get(board, now_ms)
        return None if vitals is None else vitals.shown(now_ms)

    def tick(self) -> None:
        """Forget what has no consent any more."""
        self._newest.forget_uncovered(self._clock_ms())
