"""Slots from time tags: the sync pulses say where slots begin, interpolation between two of them says the rest.

Nothing here trusts a clock: each sync interval is measured in ticks of the same counter as the clicks in it.
"""

from array import array

PENDING = 1024  # clicks between two sync pulses; more are dropped and counted
_TOLERANCE = 64  # an interval may differ from the last by a 64th


class SlotClock:
    """Feed it every tag in order; after each sync pulse the clicks before it have slots.

    `deliver(slot, phase, detector)` is called for each; `phase` is ticks since the slot began. Clicks before the second
    interval has confirmed the first are dropped: had a pulse been missed there, their slots would be wrong.
    """

    def __init__(self, sync_every, deliver):
        self._every, self._deliver = sync_every, deliver
        self._ticks = array("I", bytes(4 * PENDING))
        self._detectors = bytearray(PENDING)
        self._pending = 0
        self._sync = -1  # tick of the last sync pulse
        self._interval = 0
        self._intervals = 0
        self.slot = 0  # of the last sync pulse: clicks before it have been delivered
        self.covered = -1  # the first slot whose clicks are delivered, -1 while there is none
        self.dropped = 0

    def click(self, tick, detector):
        """Take a detector's tag."""
        if self._sync < 0:
            return
        if self._pending == PENDING or tick - self._sync >= 1 << 30:
            self.dropped += 1
            return
        self._ticks[self._pending] = tick - self._sync
        self._detectors[self._pending] = detector
        self._pending += 1

    def sync(self, tick):
        """Take a sync pulse. Return False when it is not where one can be: the run is lost, not shifted."""
        if self._sync < 0:
            self._sync = tick
            return True
        length = tick - self._sync
        count = 1 if not self._interval else (length + self._interval // 2) // self._interval
        if length < self._every or (
            self._interval and (not count or abs(length - count * self._interval) * _TOLERANCE > length)
        ):
            return False
        if self._intervals:
            if self.covered < 0:
                self.covered = self.slot
            self._deliver_pending(length, count * self._every)
        self._pending = 0
        self._interval = length // count
        self._intervals += 1
        self.slot += count * self._every
        self._sync = tick
        return True

    def late(self, tick):
        """Whether the sync pulses have stopped: none for ten intervals."""
        return self._interval > 0 and tick - self._sync > 10 * self._interval

    def _deliver_pending(self, length, slots):
        for i in range(self._pending):
            scaled = self._ticks[i] * slots
            slot = scaled // length
            self._deliver(self.slot + slot, (scaled - slot * length) // slots, self._detectors[i])
