"""When an emergency starts and when it is over, each exactly once, also across a power cut."""

from qepa_wire.payloads import ALERT_ASYSTOLE, ALERT_KINDS, ALERT_LEAD_OFF

from ..errors import CorruptError
from ..system.flash import read_record, write_record

FILE = "alerts"
LEAD_OFF_AFTER_MS = 500  # loose electrodes chatter
LEAD_ON_AFTER_MS = 2000


class AlertEdges:
    """Turns conditions into edges.

    A board that sees no signal cannot tell asystole: while a lead is off, asystole keeps the state it had.
    """

    def __init__(self, flash):
        self._flash = flash
        self._lead_since_ms = None
        try:
            body = read_record(flash, FILE)
        except CorruptError:
            flash.remove(FILE)
            body = None
        self._active = [kind for kind in ALERT_KINDS if body and kind in body]

    def is_active(self, kind):
        """Whether ``kind`` has started and not ended."""
        return kind in self._active

    def edges(self, t_ms, asystole, lead_off):
        """Changes at sample time ``t_ms``: a list of (kind, active). Each is to be queued, then confirm()ed.

        ``asystole`` is True, False, or None for not known.
        """
        changes = []
        if bool(lead_off) == self.is_active(ALERT_LEAD_OFF):
            self._lead_since_ms = None
        else:
            if self._lead_since_ms is None:
                self._lead_since_ms = t_ms
            if t_ms - self._lead_since_ms >= (LEAD_OFF_AFTER_MS if lead_off else LEAD_ON_AFTER_MS):
                changes.append((ALERT_LEAD_OFF, bool(lead_off)))
        unclear = lead_off or self.is_active(ALERT_LEAD_OFF)
        if not unclear and asystole is not None and asystole != self.is_active(ALERT_ASYSTOLE):
            changes.append((ALERT_ASYSTOLE, asystole))
        return changes

    def confirm(self, kind, active):
        """The alert is in the outbox: remember the new state. A power cut in between repeats it, never loses it."""
        if active:
            self._active.append(kind)
        else:
            self._active.remove(kind)
        write_record(self._flash, FILE, bytes([0]) + bytes(self._active))
