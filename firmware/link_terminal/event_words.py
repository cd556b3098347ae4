"""A block of events as 16-bit words: the gap to the event before, and in the low bits which channel."""


class EventWords:
    """A preallocated block. Words are `gap << shift | channel`; the gap `skip` stands for no event."""

    def __init__(self, shift, skip, capacity):
        self._shift, self._skip = shift, skip
        self._words = bytearray(2 * capacity)
        self.length = 0  # bytes

    def put(self, gap, channel):
        """Append one event; False, and nothing appended, when the block is full."""
        skip = self._skip
        words = self._words
        at = self.length
        if at + 2 * (gap // skip + 1) > len(words):
            return False
        while gap >= skip:
            word = skip << self._shift
            words[at] = word & 0xFF
            words[at + 1] = word >> 8
            at += 2
            gap -= skip
        word = gap << self._shift | channel
        words[at] = word & 0xFF
        words[at + 1] = word >> 8
        self.length = at + 2
        return True

    def take(self):
        """Return the block's bytes and empty it."""
        taken = bytes(memoryview(self._words)[: self.length])
        self.length = 0
        return taken
