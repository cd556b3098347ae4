"""The event loop around the core: batches arrivals, fetches keys, publishes, tells systemd that it lives."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from .core import Gateway
from .errors import KeyUnavailable
from .key_source import KeySource, link_down
from .transport import Transport

_LOG = logging.getLogger(__name__)
BATCH_S = 0.003  # frames that arrive within it share one commit
TICK_S = 0.1
LINK_STATUS_S = 2.0
WATCHDOG_S = 10.0
FRAMES_FLOW_MS = 120_000
_MAX_FETCHES = 4
_LAST_FETCH_S = 2.0


def sd_notify(state: str) -> None:
    """Send ``state`` to systemd, if it started us (sd_notify(3): a datagram to the socket in NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        try:
            notify.sendto(state.encode(), address)
        except OSError as error:
            _LOG.warning("sd_notify failed error=%s", error)


class Daemon:
    """Runs one :class:`Gateway` until cancelled. A SpoolError ends it."""

    def __init__(self, gateway: Gateway, transport: Transport, keys: KeySource, clock: Callable[[], int]) -> None:
        self.gateway = gateway
        self._transport = transport
        self._keys = keys
        self._clock = clock
        self._arrived = asyncio.Event()
        self._fetching = asyncio.Semaphore(_MAX_FETCHES)
        self._fetches: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until cancelled; raises SpoolError if the spool fails."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._transport.run(self._receive))
                tasks.create_task(self._work())
                tasks.create_task(self._watch_link())
                tasks.create_task(self._feed_watchdog())
        except* Exception as group:
            # One cause is enough for the log and the exit code; the others followed from it.
            raise group.exceptions[0] from None
        finally:
            await self._finish_fetches()
            await self._keys.close()

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
            self.gateway.step()
            for message in self.gateway.drain():
                self._transport.publish(message)
            for key_id in self.gateway.take_key_requests():
                fetch = asyncio.create_task(self._fetch(key_id))
                self._fetches.add(fetch)
                fetch.add_done_callback(self._fetches.discard)

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

    async def _feed_watchdog(self) -> None:
        sd_notify("READY=1")
        while True:
            idle_ms = self._clock() - self.gateway.last_frame_ms
            if idle_ms < FRAMES_FLOW_MS or not self.gateway.boards.served():
                sd_notify("WATCHDOG=1")
            await asyncio.sleep(WATCHDOG_S)
