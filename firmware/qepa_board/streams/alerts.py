"""When an emergency starts and when it is over, each exactly once, also across a power cut."""

from qepa_wire.payloads import (
    ALERT_ASYSTOLE,
    ALERT_BATTERY_LOW,
    ALERT_KINDS,
    ALERT_LEAD_OFF,
    ALERT_LOW_SPO2,
    ALERT_SENSOR_FAULT,
)

from ..errors import CorruptError
from ..system.flash import read_record, write_record

FILE = "alerts"
LEAD_OFF_AFTER_MS = 500  # loose electrodes chatter
LEAD_ON_AFTER_MS = 2000
# How long a condition has to last before it starts an alert, and to be over before it ends one. Others: no time.
HOLD_MS = {
    ALERT_LEAD_OFF: (LEAD_OFF_AFTER_MS, LEAD_ON_AFTER_MS),
    ALERT_LOW_SPO2: (10000, 10000),  # a finger that moves, a breath held
    ALERT_SENSOR_FAULT: (5000, 5000),  # a driver brings its chip back
    ALERT_BATTERY_LOW: (60000, 60000),  # a radio burst pulls the voltage down
}
_LEVEL_SHIFT = 6  # in a byte of the file: kind, level above it

LOW_SPO2_STARTS = 900  # below, in tenths of a percent
LOW_SPO2_ENDS = 920  # at or above


def falls_below(value, starts, ends, active):
    """True below ``starts``, False from ``ends`` on, between them as it was; None for None."""
    if value is None:
        return None
    return value < starts or (active and value < ends)


class AlertEdges:
    """Turns conditions into edges.

    A condition is a level: 0 or False for none, 1 or True, 2 for worse than that, None where there is no telling, which
    keeps the state. An alert starts with a level and is told again when that rises; it ends at 0. A board that sees no
    signal cannot tell asystole: while a lead is off, asystole keeps the state it had.
    """

    def __init__(self, flash):
        self._flash = flash
        self._since_ms = {}
        try:
            body = read_record(flash, FILE) or b""
        except CorruptError:
            flash.remove(FILE)
            body = b""
        mask = (1 << _LEVEL_SHIFT) - 1
        self._levels = {byte & mask: byte >> _LEVEL_SHIFT for byte in body[1:] if byte & mask in ALERT_KINDS}

    def is_active(self, kind):
        """Whether ``kind`` has started and not ended."""
        return kind in self._levels

    def is_calm(self):
        """Whether no alert is active but those of a board that nobody wears, or that is broken itself."""
        return all(kind in (ALERT_LEAD_OFF, ALERT_SENSOR_FAULT) for kind in self._levels)

    def edges(self, t_ms, conditions):
        """Changes at sample time ``t_ms``: a list of (kind, level). Each is to be queued, then confirm()ed.

        ``conditions`` gives the level of each kind that this board watches.
        """
        changes = []
        unclear = conditions.get(ALERT_LEAD_OFF) or self.is_active(ALERT_LEAD_OFF)
        for kind, condition in conditions.items():
            if condition is None or (kind == ALERT_ASYSTOLE and unclear):
                continue
            level = int(condition)
            known = self._levels.get(kind, 0)
            if level == known or 0 < level < known:
                self._since_ms.pop(kind, None)
                continue
            starts_ms, ends_ms = HOLD_MS.get(kind, (0, 0))
            since_ms = self._since_ms.setdefault(kind, t_ms)
            if t_ms - since_ms >= (starts_ms if level else ends_ms):
                changes.append((kind, level))
        return changes

    def confirm(self, kind, level):
        """The alert is in the outbox: remember the new state. A power cut in between repeats it, never loses it."""
        self._since_ms.pop(kind, None)
        if level:
            self._levels[kind] = level
        else:
            self._levels.pop(kind, None)
        record = [kind | level << _LEVEL_SHIFT for kind, level in self._levels.items()]
        write_record(self._flash, FILE, bytes([0]) + bytes(record))
