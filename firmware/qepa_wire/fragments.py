"""Frames in pieces that fit one ATT packet, and back: PROTOCOL.md, section 14. Sans-IO.

A fragment is one header byte, then up to MTU - 4 bytes of the frame. The header holds FIRST, LAST and a number that
goes on from fragment to fragment, mod 64.
"""

import io

from .errors import WireError

FIRST = 0x80
LAST = 0x40
_NUMBER = 0x3F
_USUAL = 512  # bytes of all frames but those with models, labels or many acknowledgements

MIN_MTU = 23
MAX_MTU = 247
ATT_BYTES = 3  # opcode and handle of a notification or write (Bluetooth Core 5.4, vol. 3, part F, 3.4.5 and 3.4.7)
OPEN = bytes([FIRST | LAST])  # the empty frame: a central that has subscribed listens from here on


class Fragmenter:
    """Cuts one frame after the other. Numbers start at 1 on a new connection: 0 is OPEN's."""

    def __init__(self) -> None:
        self._buffer = bytearray(MAX_MTU - ATT_BYTES)
        self._view = memoryview(self._buffer)
        self._frame = io.BytesIO(b"")
        self.reset(MIN_MTU)

    def reset(self, mtu: int) -> None:
        """A new connection: forget the frame under way. ``mtu`` is cut to what this protocol uses."""
        self._number = 0
        self._left = 0
        self._fresh = False
        self.resize(mtu)

    def resize(self, mtu: int) -> None:
        """Use ``mtu`` for the fragments to come."""
        size = min(max(mtu, MIN_MTU), MAX_MTU) - ATT_BYTES
        self._room = size - 1
        self._whole = self._view[:size]
        self._body = self._view[1:size]

    @property
    def is_idle(self) -> bool:
        """Whether all of the last frame has been taken."""
        return self._left == 0

    def load(self, frame: "bytes | bytearray") -> None:
        """Start with ``frame``, which is not empty."""
        self._frame = io.BytesIO(frame)
        self._left = len(frame)
        self._fresh = True

    def next(self) -> "memoryview | None":
        """The next fragment, or None; the next call overwrites it. Only a frame's last one allocates."""
        left = self._left
        if not left:
            return None
        self._number = (self._number + 1) & _NUMBER
        header = self._number
        if self._fresh:
            header |= FIRST
            self._fresh = False
        if left > self._room:
            self._frame.readinto(self._body)
            self._left = left - self._room
            self._buffer[0] = header
            return self._whole
        self._frame.readinto(self._view[1 : 1 + left])
        self._left = 0
        self._buffer[0] = header | LAST
        return self._view[: 1 + left]


class Reassembler:
    """Puts frames of at most ``max_frame`` bytes together again, in a buffer that grows for a long one.

    What is lost, repeated or out of order costs the frame it belongs to, and no other. A gap of a multiple of 64
    fragments goes unnoticed here: the frame's length and MAC show it.
    """

    def __init__(self, max_frame: int) -> None:
        self._usual = min(_USUAL, max_frame)
        self._buffer = bytearray(self._usual)
        self._max = max_frame
        self.cut_off = 0  # frames whose end never came
        self.reset()

    def reset(self) -> None:
        """A new connection: nothing is expected."""
        self._filled = -1  # no frame under way
        self._last = -1

    def push(self, fragment: "bytes | memoryview") -> "bytes | None":
        """Take a fragment; returns the frame it completes, b"" for OPEN, else None.

        Raises WireError with reason truncated (no header), fragment (not the one that was due) or length (more than
        ``max_frame``, or than there is memory for). A frame under way is lost then, unless the fragment was an exact
        repetition of the last one's number: that is refused alone.
        """
        if not fragment:
            raise WireError("truncated", "an empty fragment")
        header = fragment[0]
        number = header & _NUMBER
        if number == self._last:
            raise WireError("fragment", "number %d repeated" % number)
        due = self._last < 0 or number == (self._last + 1) & _NUMBER
        self._last = number
        if header & FIRST:
            cut_off = self._filled >= 0 or not due
            self._filled = 0
        else:
            cut_off = False
            if self._filled < 0 or not due:
                self._filled = -1
                raise WireError("fragment", "number %d was not due" % number)
        end = self._filled + len(fragment) - 1
        if end > self._max:
            self._filled = -1
            raise WireError("length", "a frame of more than %d bytes" % self._max)
        if end > len(self._buffer):
            self._grow(end)
        self._buffer[self._filled : end] = memoryview(fragment)[1:]
        self._filled = end
        if cut_off:
            self.cut_off += 1
        if not header & LAST:
            return None
        self._filled = -1
        frame = bytes(memoryview(self._buffer)[:end])
        if len(self._buffer) > self._usual:
            self._buffer = bytearray(self._usual)
        return frame

    def _grow(self, size: int) -> None:
        """Make room for ``size`` bytes, and for as many again unless that is too many."""
        try:
            buffer = bytearray(min(2 * size, self._max))
        except MemoryError:
            self._filled = -1
            raise WireError("length", "no memory for a frame of %d bytes" % size)  # noqa: B904  MicroPython has no chains
        buffer[: self._filled] = memoryview(self._buffer)[: self._filled]
        self._buffer = buffer
