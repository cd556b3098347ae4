"""Alarms made from forecasts of models at the bedside. They rank below what a board measures, and end by themselves.

A forecast that says so begins one, one that says otherwise ends it, and so does the end of the consent. Unknown ends
nothing: what was foretold may still come, until its half hour is over.
"""

from collections.abc import Callable

from qepa_uplink.messages import Findings
from qepa_uplink.readings import HYPOGLYCAEMIA_AHEAD
from qepa_wire.measures import UNKNOWN

from .alarms import GLUCOSE_LOW_SOON, AlarmLog
from .arrival import source_of
from .consents import ConsentDesk

AHEAD_MS = 30 * 60_000


class ForeseenLows:
    """Watches findings that the server has accepted, and says when an alarm begins and ends."""

    def __init__(self, *, alarms: AlarmLog, consents: ConsentDesk, clock_ms: Callable[[], int]) -> None:
        self._alarms = alarms
        self._consents = consents
        self._clock_ms = clock_ms
        # When a low was foretold last. Who restarted knows of what lasts, not how old it is.
        self._foretold_ms = dict.fromkeys(alarms.lasting(GLUCOSE_LOW_SOON), clock_ms())

    def note(self, findings: Findings) -> None:
        """Take accepted findings."""
        value = next((value for code, _, value in findings.readings if code == HYPOGLYCAEMIA_AHEAD), UNKNOWN)
        if value == UNKNOWN or self._clock_ms() - findings.received_ms >= AHEAD_MS:
            return
        if not value:
            self._end(findings.board, source_of(findings))
        else:
            if findings.board not in self._foretold_ms:
                self._alarms.begin_foretold(findings.board, GLUCOSE_LOW_SOON, source_of(findings))
            self._foretold_ms[findings.board] = self._clock_ms()

    def tick(self) -> None:
        """End what has no consent any more, and what was not foretold again for half an hour."""
        now_ms = self._clock_ms()
        for board, foretold_ms in list(self._foretold_ms.items()):
            self._foretold_ms[board] = min(foretold_ms, now_ms)  # the clock may have been set back
            if not self._consents.watched(board, now_ms):
                self._end(board, "consent")
            elif now_ms - foretold_ms >= AHEAD_MS:
                self._end(board, "its time is over")

    def _end(self, board: int, why: str) -> None:
        if self._foretold_ms.pop(board, None) is not None:
            self._alarms.end_foretold(board, GLUCOSE_LOW_SOON, why)
