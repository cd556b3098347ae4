"""Milliseconds since boot. A board has no other clock: nothing sets its date, so nobody can set it wrong."""

import time


class Clock:
    """Milliseconds that do not wrap, from ticks that do: ask at least once a day.

    ticks_ms: time.ticks_ms, which wraps after 12 days (MicroPython docs, library/time).
    """

    def __init__(self, ticks_ms=None):
        self._ticks_ms = ticks_ms or time.ticks_ms
        self._last = self._ticks_ms()
        self._now = 0

    def __call__(self):
        """Now, in ms."""
        ticks = self._ticks_ms()
        self._now += time.ticks_diff(ticks, self._last)
        self._last = ticks
        return self._now
