"""The state once a second, to all who watch: each of them would otherwise cost the server a reading of its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

EVERY_S = 1.0


class Feed:
    """Server-sent events. ``text()`` is the state now; ``stopping`` ends them."""

    def __init__(
        self, text: Callable[[], str], stopping: asyncio.Event, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._text = text
        self._stopping = stopping
        self._clock = clock
        self._event = ""
        self._made_s = float("-inf")

    def latest(self) -> str:
        """The state as an event, at most half a period old."""
        now_s = self._clock()
        if now_s - self._made_s >= EVERY_S / 2:
            self._event, self._made_s = f"data: {self._text()}\n\n", now_s
        return self._event

    async def events(self) -> AsyncIterator[str]:
        """For one who watches."""
        while not self._stopping.is_set():
            yield self.latest()
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._stopping.wait()
            except TimeoutError:
                continue
