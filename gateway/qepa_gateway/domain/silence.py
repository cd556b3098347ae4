"""What to do when no board is heard although some are expected: ever stronger means, the last of them a restart."""

from enum import StrEnum
from typing import Final

FIRST_MS: Final = 60_000
"""No silence shorter than this is one."""
MISSED: Final = 3
"""Nor one in which fewer frames than these are missing."""


class Step(StrEnum):
    """In the order in which they are tried."""

    RESCAN = "rescan"
    POWER_CYCLE = "power_cycle"
    RESTART = "restart"


_DUE: Final = ((1, Step.RESCAN), (2, Step.POWER_CYCLE), (4, Step.RESTART))  # multiples of the first limit


class Silence:
    """Follows a count of authentic frames. Times are ms of a clock that nobody sets."""

    def __init__(self, now_ms: int) -> None:
        self._heard_ms = now_ms
        self._frames = 0
        self.taken: tuple[Step, ...] = ()
        """Steps taken in the present silence."""

    @property
    def given_up(self) -> bool:
        """A restart is due: the watchdog is not to be fed any more."""
        return Step.RESTART in self.taken

    def judge(self, now_ms: int, frames: int, every_ms: int | None) -> Step | None:
        """Return the step that has become due, each once in a silence.

        ``frames`` counts up with each authentic frame, ``every_ms`` is the longest time between two of them that is
        usual now, None while no board is expected to say anything.
        """
        if frames != self._frames or every_ms is None:
            self._frames, self._heard_ms, self.taken = frames, now_ms, ()
            return None
        limit_ms = max(FIRST_MS, MISSED * every_ms)
        for times, step in _DUE:
            if step not in self.taken and now_ms - self._heard_ms >= times * limit_ms:
                self.taken += (step,)
                return step
        return None
