"""Beats by class of consenting patients, minute by minute, as their boards and as their gateways tell them: for drift.

A board's care record names the class of its newest beat and how many beats there were; a gateway sends counts of the
last minute. A minute counts for a board when the newest model made all of its answers, both saw beats enough, and the
gateway knew most of them. All of it is in memory only. A minute goes with the consent that it came under, what is usual
for a board when no consent covers it any more: to forget that at each renewal would leave no verdict for an hour.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from qepa_uplink.bedside_models import ECG_BEATS
from qepa_uplink.messages import Findings
from qepa_uplink.readings import BEATS_F, BEATS_N, BEATS_S, BEATS_V, is_later
from qepa_wire.measures import UNKNOWN
from qepa_wire.payloads import Care

from ..explain.disagreement import Difference, Disagreement
from ..explain.drift import DriftSignal
from ..registry.versions import FEDERATED, Version
from .consents import ConsentDesk
from .findings import STALE_MS, FindingsMonitor
from .memory import CareMemory
from .vitals import BEAT_CLASSES

MINUTE_MS = 60_000
LEAST_BEATS = 20
LEAST_QUALITY = 80  # percent of beats that the gateway found a class for

_LONGEST_MS = 75_000  # by the board's clock: more is what it kept without a connection
_CODES = (BEATS_N, BEATS_S, BEATS_V, BEATS_F)
_S, _V = BEAT_CLASSES.index("S"), BEAT_CLASSES.index("V")


@dataclass(slots=True)
class _Minute:
    """What one board told since the minute began."""

    first: Care
    last: Care
    models: set[int] = field(default_factory=set)
    classes: Counter[int] = field(default_factory=Counter)


class BeatMinutes:
    """Feeds `disagreement`, and tells ``drifted`` of its signals. ``newest()`` is the boards' newest model."""

    def __init__(
        self,
        *,
        disagreement: Disagreement,
        consents: ConsentDesk,
        findings: FindingsMonitor,
        newest: Callable[[], Version],
        drifted: Callable[[DriftSignal], None],
        clock_ms: Callable[[], int],
    ) -> None:
        self.disagreement = disagreement
        self._consents = consents
        self._findings = findings
        self._newest = newest
        self._drifted = drifted
        self._clock_ms = clock_ms
        self._began_ms = clock_ms()
        self._minutes: CareMemory[_Minute] = CareMemory(consents)

    def note(self, board: int, consent_id: bytes, care: Care) -> None:
        """Take an accepted care record; late ones are left out."""
        minute = self._minutes.get(board, self._clock_ms(), consent_id=consent_id)
        if minute is None:
            self._minutes.put(board, consent_id, _Minute(care, care, {care.model}))
            return
        if not is_later(care, minute.last):
            return
        if care.beats != minute.last.beats and care.beat_class < len(BEAT_CLASSES):
            minute.classes[care.beat_class] += 1
        minute.models.add(care.model)
        minute.last = care

    def tick(self) -> None:
        """Forget what has no consent any more, and end the minute when it is over; call it about once a second."""
        now_ms = self._clock_ms()
        self._minutes.forget_uncovered(now_ms)
        for board in self.disagreement.known:
            if not self._consents.watched(board, now_ms):
                self.disagreement.forget(board)
        if 0 <= now_ms - self._began_ms < MINUTE_MS:
            return
        self._began_ms = now_ms
        minutes, self._minutes = self._minutes.items(now_ms), CareMemory(self._consents)
        newest = self._newest()
        told: dict[int, tuple[int, Difference]] = {}
        for board, minute in minutes.items():
            found = self._findings.newest(board, now_ms).get(ECG_BEATS)
            if found is not None and abs(now_ms - found.at_ms) <= STALE_MS and _is_whole(minute, newest.version):
                difference = _difference(minute.classes, found.findings)
                if difference is not None:
                    told[board] = (found.findings.version, difference)
        signal = self.disagreement.add(now_ms, newest.version, newest.digest, told, learned=newest.origin == FEDERATED)
        if signal is not None:
            self._drifted(signal)

    def shown(self) -> dict[str, object]:
        """As /api/state has it."""
        signal = self.disagreement.signal
        return {
            "standing": self.disagreement.standing,
            "boards": self.disagreement.boards,
            "version": None if signal is None else signal.version,
            "score": None if signal is None else round(signal.score, 2),
            "limit": self.disagreement.limit,
            "since_ms": None if signal is None else signal.since,
        }


def _is_whole(minute: _Minute, version: int) -> bool:
    """Whether one boot of a board told it all, as it went, with this version."""
    same = minute.first.boots == minute.last.boots and minute.models == {version & 0xFFFF}
    return same and (minute.last.t_ms - minute.first.t_ms) % 2**32 <= _LONGEST_MS


def _difference(classes: Counter[int], findings: Findings) -> Difference | None:
    read = {code: (quality, value) for code, quality, value in findings.readings}
    if not all(code in read and read[code][1] != UNKNOWN for code in _CODES):
        return None
    counts = [read[code][1] for code in _CODES]
    total, known = classes.total(), sum(counts)
    if min(total, known) < LEAST_BEATS or min(read[code][0] for code in _CODES) < LEAST_QUALITY:
        return None
    return classes[_S] / total - counts[_S] / known, classes[_V] / total - counts[_V] / known
