"""The gateway's clock: wall time in ms that never goes back, and says when the system's did."""

import time
from collections.abc import Callable

STEP_MS = 5000
"""A difference from the time that passed beyond which the system's clock was set, not slewed."""


def wall_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds of a clock that nobody sets."""
    return time.monotonic_ns() // 1_000_000


class SteadyClock:
    """Call it for the time. Small steps back are waited out; ``stepped_back_ms`` tells of a large one.

    Times of the future are then in every table, so the process that sees it is to end and start again from the spool.
    A step forward is taken as it is and counted in ``steps``: a Raspberry Pi learns the time after it has started.
    """

    def __init__(self, wall: Callable[[], int] = wall_ms, monotonic: Callable[[], int] = monotonic_ms) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._last_ms = self._seen_ms = wall()
        self._at_ms = monotonic()
        self.steps = 0
        self.stepped_back_ms = 0

    def __call__(self) -> int:
        """Return ms since the epoch, never less than before."""
        now_ms, at_ms = self._wall(), self._monotonic()
        moved_ms = now_ms - self._seen_ms - (at_ms - self._at_ms)
        self._seen_ms, self._at_ms = now_ms, at_ms
        if abs(moved_ms) > STEP_MS:
            self.steps += 1
            if moved_ms < 0:
                self.stepped_back_ms = -moved_ms
        self._last_ms = max(self._last_ms, now_ms)
        return self._last_ms
