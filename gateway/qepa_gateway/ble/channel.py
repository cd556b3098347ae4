"""One board's connection: fragments to frames and back (PROTOCOL.md, 14), and how much of what it may send. Sans-IO."""

from collections import deque
from collections.abc import Callable
from typing import Final

from qepa_wire.errors import WireError
from qepa_wire.fragments import Fragmenter, Reassembler

from ..domain.rate import TokenBucket
from ..errors import Refused

MAX_UP: Final = 4 * 65535 + 256
"""The longest vector, with header, check values and MAC."""
MAX_UNANSWERED: Final = 512
"""Frames in a row of which none was authentic. A board whose key cannot be had repeats what it holds less and less, and
needs a quarter of an hour for so many."""
MAX_GARBAGE: Final = 1024
"""Fragments refused since a frame was answered: more than any frame has that a board can hold, at MTU 23."""
BURST_BYTES: Final = 1 << 20
BYTES_PER_S: Final = 16_384
"""Several times what a board with all sensors streams; the burst lets it hand over what it has kept meanwhile."""
FRAGMENT_COST: Final = 32
"""Bytes that a fragment counts beyond its own, so that a flood of empty ones is a flood."""
MAX_QUEUED_BYTES: Final = 128 * 1024
MAX_QUEUED: Final = 256


class Channel:
    """``mtu`` is the ATT MTU in force, ``max_down`` the longest frame the board takes; ``count`` counts refusals."""

    def __init__(self, mtu: int, max_down: int, count: Callable[[str], None]) -> None:
        self._max_down = max_down
        self._count = count
        self._up = Reassembler(MAX_UP)
        self._down = Fragmenter()
        self._down.reset(mtu)
        self._budget = TokenBucket(burst=BURST_BYTES, refill_ms=1000 / BYTES_PER_S)
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._unanswered = 0
        self._garbage = 0

    def received(self, fragment: bytes, now_ms: int) -> bytes | None:
        """Return the frame that ``fragment`` completes, if it does.

        Raises Refused("flood"), ("garbage") or ("unanswered") where the connection is to be ended.
        """
        if not self._budget.take(now_ms, len(fragment) + FRAGMENT_COST):
            raise Refused("flood", "more than a board has to say")
        try:
            frame = self._up.push(fragment)
        except WireError as error:
            self._count(error.reason)
            self._garbage += 1
            if self._garbage > MAX_GARBAGE:
                raise Refused("garbage", f"{self._garbage} fragments") from error
            return None
        if not frame:
            return None
        self._unanswered += 1
        if self._unanswered > MAX_UNANSWERED:
            raise Refused("unanswered", f"{MAX_UNANSWERED} frames, none of them authentic")
        return frame

    def answer(self, frame: bytes) -> bool:
        """Queue a frame down; True if it answers something that came up, which makes that authentic.

        What the board does not take, or has no room for because it is slow, is dropped and counted: the gateway repeats
        what matters.
        """
        answers = self._unanswered > 0
        self._unanswered = self._garbage = 0
        if not frame or len(frame) > self._max_down:
            self._count("too_long")
        elif len(self._queue) >= MAX_QUEUED or self._queued_bytes + len(frame) > MAX_QUEUED_BYTES:
            self._count("slow")
        else:
            self._queue.append(frame)
            self._queued_bytes += len(frame)
        return answers

    def next_fragment(self) -> bytes | None:
        """The next fragment down, frames in order; None while there is none."""
        if self._down.is_idle:
            if not self._queue:
                return None
            frame = self._queue.popleft()
            self._queued_bytes -= len(frame)
            self._down.load(frame)
        fragment = self._down.next()
        return None if fragment is None else bytes(fragment)
