"""The event loop around the core: batches arrivals, fetches keys, publishes, watches, tells systemd that it lives."""

import asyncio
import logging
from collections.abc import Callable

from .clock import SteadyClock, monotonic_ms
from .core import Gateway
from .domain.silence import Silence, Step
from .errors import ClockError, KeyUnavailable
from .health import faults
from .key_source import KeySource, link_down
from .systemd import notify
from .transport import Transport

_LOG = logging.getLogger(__name__)
BATCH_S = 0.001  # frames that arrive within it share one commit, with all that came while the last one was written
TICK_S = 0.1
LINK_STATUS_S = 2.0
WATCH_S = 10.0
_MAX_FETCHES = 4
_LAST_FETCH_S = 2.0


class Daemon:
    """Runs one :class:`Gateway` until cancelled. A SpoolError, a ClockError or a fault that nobody foresaw ends it."""

    def __init__(
        self,
        gateway: Gateway,
        transport: Transport,
        keys: KeySource,
        *,
        clock: SteadyClock | None = None,
        monotonic: Callable[[], int] = monotonic_ms,
        watch_s: float = WATCH_S,
    ) -> None:
        self.gateway = gateway
        self._transport = transport
        self._keys = keys
        self._clock = clock
        self._monotonic = monotonic
        self._watch_s = watch_s
        self._silence = Silence(monotonic())
        self._arrived = asyncio.Event()
        self._fetching = asyncio.Semaphore(_MAX_FETCHES)
        self._fetches: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None  # of a fetch
        self.recoveries: dict[str, int] = {step.value: 0 for step in Step}

    async def run(self) -> None:
        """Serve until cancelled; raises SpoolError if the spool fails, ClockError if the time went back."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._transport.run(self._receive))
                tasks.create_task(self._work())
                tasks.create_task(self._watch_link())
                tasks.create_task(self._watch())
        except* Exception as group:
            # One cause is enough for the log and the exit code; the others followed from it.
            raise group.exceptions[0] from None
        finally:
            await self._finish_fetches()
            await self._keys.close()

    def faults(self) -> tuple[str, ...]:
        """Reasons why the gateway is degraded (health.py); () if it is not."""
        silent = ("boards_silent",) if self._silence.taken else ()
        return self._transport.faults + faults(self.gateway) + silent

    async def _finish_fetches(self) -> None:
        # A key under way has been consumed at the KME: give it a moment to come, and keep it.
        if self._fetches:
            await asyncio.wait(self._fetches, timeout=_LAST_FETCH_S)
        for fetch in self._fetches:
            fetch.cancel()
        self.gateway.save_keys()

    def wake(self) -> None:
        """Something was put into the core from outside the broker: step soon."""
        self._arrived.set()

    def _receive(self, topic: str, data: bytes) -> None:
        self.gateway.receive(topic, data)
        self._arrived.set()

    async def _work(self) -> None:
        while True:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._arrived.wait()
                await asyncio.sleep(BATCH_S)
            except TimeoutError:
                pass  # the tick
            self._arrived.clear()
            if self._fault is not None:
                raise self._fault
            self.gateway.step()
            for message in self.gateway.drain():
                self._transport.publish(message)
            for key_id in self.gateway.take_key_requests():
                fetch = asyncio.create_task(self._fetch(key_id))
                self._fetches.add(fetch)
                fetch.add_done_callback(self._fetched)

    def _fetched(self, fetch: asyncio.Task[None]) -> None:
        self._fetches.discard(fetch)
        if not fetch.cancelled() and (fault := fetch.exception()) is not None:
            self._fault = fault  # else a board would wait for its key for ever
            self._arrived.set()

    async def _fetch(self, key_id: bytes) -> None:
        async with self._fetching:
            try:
                key = await self._keys.fetch(key_id)
            except KeyUnavailable as error:
                self.gateway.key_failed(key_id, error.reason)
                return
        self.gateway.key_arrived(key_id, key)
        self._arrived.set()

    async def _watch_link(self) -> None:
        while True:
            try:
                self.gateway.optical_link = await self._keys.link_status()
            except KeyUnavailable as error:
                self.gateway.optical_link = link_down(error.reason)
            await asyncio.sleep(LINK_STATUS_S)

    async def _watch(self) -> None:
        notify("READY=1")
        while True:
            if self._clock is not None and self._clock.stepped_back_ms:
                raise ClockError(f"the clock was set back by {self._clock.stepped_back_ms / 1000:.0f} s")
            expected_ms = self.gateway.expected_every_ms()
            step = self._silence.judge(self._monotonic(), self.gateway.intake.authentic, expected_ms)
            if step is not None:
                self.recoveries[step.value] += 1
                _LOG.warning("no board is heard step=%s", step.value)
                if step is not Step.RESTART:
                    await self._transport.recover(step)
            # A watchdog that is not fed any more is how a restart is asked for: systemd then ends and starts us.
            if not self._silence.given_up:
                notify("WATCHDOG=1\nSTATUS=" + (", ".join(self.faults()) or "well"))
            await asyncio.sleep(self._watch_s)
