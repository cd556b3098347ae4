"""Slots from time tags: the sync pulses say where slots begin, interpolation between two of them says the rest.

Nothing here trusts a clock: each sync interval is measured in ticks of the same counter as the clicks in it.
"""

from array import array

from .kernels import take_clicks, to_slots

PENDING = 1024  # clicks between two sync pulses; more are dropped and counted
MOST_INTERVALS = 10  # without a sync pulse
_TOLERANCE = 64  # an interval may differ from the last by a 64th
_LONGEST_TICKS = 1 << 30
_OPEN = 0x7FFFFFFF


class SlotClock:
    """Feed it every tag in order; after a sync pulse `slots` and `detectors` are the clicks before it.

    They are counted from slot `begin`. Clicks before the second interval has confirmed the first are dropped: had a
    pulse been missed there, their slots would be wrong.
    """

    def __init__(self, sync_every, gate_from=0, gate_length=0):
        self._every = sync_every
        self.slots = array("I", bytes(4 * PENDING))
        self.detectors = bytearray(PENDING)
        self._take = array("i", (0, 0, 0, 0))
        self._gate = array("i", (0, 0, gate_from, gate_from + gate_length if gate_length else _OPEN))
        if not gate_length:
            self._gate[2] = 0
        self._pending = 0
        self._sync = -1  # tick of the last sync pulse
        self._interval = 0
        self._intervals = 0
        self.begin = 0  # slot of the sync pulse before the last
        self.end = 0  # slot of the last sync pulse: clicks before it have been told
        self.covered = -1  # the first slot whose clicks are told, -1 while there is none
        self.dropped = 0

    def clicks(self, times, channels, start, stop, base):
        """Take detectors' tags start to stop, each at tick `base` plus its time."""
        if self._sync < 0 or start == stop:
            return
        if base + times[stop - 1] - self._sync >= _LONGEST_TICKS:
            self.dropped += stop - start
            return
        fit = min(stop, start + PENDING - self._pending)
        self.dropped += stop - fit
        take = self._take
        take[0], take[1], take[2], take[3] = start, fit, base - self._sync, self._pending
        take_clicks(times, channels, self.slots, self.detectors, take)
        self._pending = take[3]

    def sync(self, tick):
        """Take a sync pulse; returns how many clicks are told, or -1 when it is not where one can be.

        Then the run is lost, not shifted.
        """
        if self._sync < 0:
            self._sync = tick
            return 0
        length = tick - self._sync
        count = 1 if not self._interval else (length + self._interval // 2) // self._interval
        if length < self._every or length >= _LONGEST_TICKS or not 0 < count <= MOST_INTERVALS:
            return -1
        if self._interval and abs(length - count * self._interval) * _TOLERANCE > length:
            return -1
        told = 0
        self.begin = self.end
        if self._intervals:
            if self.covered < 0:
                self.covered = self.begin
            self._gate[0], self._gate[1] = count * self._every, length
            told = to_slots(self.slots, self.detectors, self._pending, self._gate)
        self._pending = 0
        self._interval = length // count
        self._intervals += 1
        self.end += count * self._every
        self._sync = tick
        return told

    def late(self, tick):
        """Whether the sync pulses have stopped."""
        return self._interval > 0 and tick - self._sync > MOST_INTERVALS * self._interval
