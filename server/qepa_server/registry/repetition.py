"""Saying something again, less and less often, until it shows that it arrived."""

from collections.abc import Hashable
from dataclasses import dataclass

_FIRST_MS, _LONGEST_MS = 4000, 600_000


@dataclass(slots=True)
class _Last:
    version: int
    due_ms: int
    every_ms: int


class Repetition:
    """What was said to whom, and when it is due again.

    ``said_before``: what is new was said already when it is asked for the first time.
    """

    def __init__(self, *, said_before: bool = False) -> None:
        self._said_before = said_before
        self._last: dict[Hashable, _Last] = {}

    def is_due(self, whom: Hashable, version: int, now_ms: int) -> bool:
        """Tell whether ``version`` is to be said now; it counts as said then."""
        last = self._last.get(whom)
        same = last is not None and last.version == version
        if last is not None and same and last.due_ms - last.every_ms <= now_ms < last.due_ms:
            return False  # before it was said, a clock was set back
        every_ms = min(2 * last.every_ms, _LONGEST_MS) if last is not None and same else _FIRST_MS
        self._last[whom] = _Last(version, now_ms + every_ms, every_ms)
        return same or not self._said_before

    def arrived(self, whom: Hashable) -> None:
        """It did: what is said next is said at once."""
        self._last.pop(whom, None)
