"""Sliding window over the sequence numbers of one board in one epoch (the idea of RFC 4303 section 3.4.3, with marks).

One window for each epoch, because a board skips up to a block of numbers at each boot while frames of the epoch
before are still on their way; an epoch's own numbers stay close together.
"""

from collections.abc import Mapping
from enum import Enum

WIDTH = 1024


class Verdict(Enum):
    """What a number and its frame are to the window."""

    NEW = "new"
    DUPLICATE = "duplicate"  # the same bytes again: acknowledge, else ignore
    CONFLICT = "conflict"  # other bytes under a number seen before
    TOO_OLD = "too_old"  # left of the window: can't be told from a replay


class Window:
    """Numbers seen, each with the mark (MAC) of its frame; numbers at or below ``highest - WIDTH`` are refused."""

    def __init__(self, marks: Mapping[int, bytes] | None = None) -> None:
        self._marks = dict(marks or {})
        self.highest = max(self._marks, default=-1)

    @property
    def floor(self) -> int:
        """The highest number that is too old."""
        return self.highest - WIDTH

    def judge(self, seq: int, mark: bytes) -> Verdict:
        """Tell what a frame with number ``seq`` and MAC ``mark`` is; changes nothing."""
        if seq <= self.floor:
            return Verdict.TOO_OLD
        seen = self._marks.get(seq)
        if seen is None:
            return Verdict.NEW
        return Verdict.DUPLICATE if seen == mark else Verdict.CONFLICT

    def admit(self, seq: int, mark: bytes) -> bool:
        """Note a NEW frame. True if numbers fell out of the window's memory: up to ``floor`` they may be deleted."""
        self._marks[seq] = mark
        self.highest = max(self.highest, seq)
        if len(self._marks) <= 2 * WIDTH:
            return False
        self._marks = {number: mark for number, mark in self._marks.items() if number > self.floor}
        return True
