"""A block of events as 16-bit words: the gap to the event before, and in the low bits which channel."""

from array import array

from .kernels import pack


class EventWords:
    """A preallocated block from `first` on, in slots or ticks; `last` is where its last event was."""

    def __init__(self, shift, skip, capacity):
        self._words = bytearray(2 * capacity)
        self._state = array("i", (0, 0, 0, 2 * capacity, 0, 0, 0, shift, skip))
        self.begin(0)

    def begin(self, first):
        """Empty the block; events before `first` are dropped and counted."""
        self.first = self.last = first
        self.length = 0  # bytes

    def put(self, values, channels, start, stop, base):
        """Append events start to stop, each at `base` plus its value; returns the first one that does not fit."""
        state = self._state
        state[0], state[1], state[2] = start, stop, self.length
        state[4], state[5] = self.last - base, self.first - base
        reached = pack(values, channels, self._words, state)
        self.length, self.last = state[2], base + state[4]
        return reached

    def take_dropped(self):
        """Return how many events have been dropped, and count from 0 again."""
        dropped, self._state[6] = self._state[6], 0
        return dropped

    def bytes(self):
        """Return the words."""
        return bytes(memoryview(self._words)[: self.length])
