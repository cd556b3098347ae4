"""How fast a processor draws pulses and merges tags; on a board:

from link_terminal.speed import measure; measure()
"""

import time
from array import array

from .kernels import copy_ring
from .receiver import Receiver
from .transmitter import Transmitter

_BLOCKS = 10
_POLLS = 40
_CLICKS, _SYNCS = 50, 5  # of each detector, of the sync line, between two polls
_TAGS = 4 * _CLICKS + _SYNCS
_TICKS = 200_000  # between two polls


class _Pulses:
    block_slots = 2048
    ring_slots = 1 << 14

    def __init__(self):
        self._count = 0

    def random(self, buffer):
        self._count += 1
        buffer[0] = self._count & 255
        buffer[1] = 1
        return True

    def put(self, symbols):
        pass

    def start(self, settings):
        pass


class _Tags:
    tick_ps = 16_000

    def __init__(self):
        self._rings = [bytearray(256) for _ in range(5)]
        self._left = 0
        self.ticks = 0

    def read(self, channel, buffer):
        if not self._left >> channel & 1:
            return 0
        self._left &= ~(1 << channel)
        count = _SYNCS if channel == 4 else _CLICKS
        copy_ring(self._rings[channel], 0, 63, buffer, count)
        return count

    def start(self, settings):
        pass

    def now(self):
        return self.ticks

    def advance(self):
        for channel in range(5):
            count = _SYNCS if channel == 4 else _CLICKS
            first = self.ticks + 700 * channel
            words = array("I", (first + i * (_TICKS // count) for i in range(count)))
            self._rings[channel][: 4 * count] = bytes(words)
        self.ticks += _TICKS
        self._left = 31

    def lost(self):
        return 0


def measure():
    """Return nanoseconds for a pulse, for a click by slot and for a raw tag, random bits and USB not counted."""
    transmitter = Transmitter(_Pulses())
    transmitter.begin(0)
    began = time.ticks_us()
    for _ in range(_BLOCKS):
        transmitter._next_block()
    slot = time.ticks_diff(time.ticks_us(), began) * 1000 // (_BLOCKS * _Pulses.block_slots)
    return slot, _merging("slots"), _merging("tags")


def _merging(report):
    hardware = _Tags()
    receiver = Receiver(hardware)
    receiver.settings["report"] = report
    receiver.settings["sync_every"] = (1000,)
    receiver.begin(0)
    receiver.run = 1
    spent = 0
    for _ in range(_POLLS):
        hardware.advance()
        began = time.ticks_us()
        receiver._merge(hardware.now())
        spent += time.ticks_diff(time.ticks_us(), began)
        receiver.outgoing.clear()
    return spent * 1000 // (_POLLS * _TAGS)
