"""Bluetooth LE as :class:`qepa_gateway.transport.Transport`: one loop scans and connects, one task serves a board.

Scanning and connecting take turns, because adapters do one badly while they do the other. Nothing here acknowledges:
frames go up, and what the gateway says after its commit goes down.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from qepa_wire.errors import WireError
from qepa_wire.gatt import decode_info
from qepa_wire.topics import board_down, board_up

from ..clock import monotonic_ms
from ..domain.silence import Silence, Step
from ..errors import RadioError, Refused
from ..transport import Outgoing
from .channel import Channel
from .radio import Link, Radio
from .roster import STRANGER, Close, Connect, Roster

_LOG = logging.getLogger(__name__)
SCAN_S = 2.0
REST_S = 2.0  # between two scans while there are connections, whose radio time a scan takes
SETUP_S = 25.0  # from connecting to listening; a board drops who takes more than 30 s
WRITE_S = 10.0
_RADIO_AGAIN_S, _RADIO_LONGEST_S = 1.0, 30.0
_FAILURES_TO_CYCLE = 3
_ALIVE_EVERY_MS = 20_000
DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Report:
    """What metrics tell: devices known, connections that stand, how many were made, and why they ended."""

    devices: int
    connections: int
    connects: int
    ends: dict[str, int]
    power_cycles: int


class _Held:
    """A connection that stands."""

    def __init__(self, address: str, topic: str, link: Link, channel: Channel) -> None:
        self.address, self.topic, self.link, self.channel = address, topic, link, channel
        self.wake = asyncio.Event()
        self.reason: str | None = None

    def end(self, reason: str) -> None:
        """Have it closed; the first reason stands."""
        self.reason = self.reason or reason
        self.wake.set()


def _heed_cancellation() -> None:
    """Raise a CancelledError that a library swallowed: until Python 3.12 `asyncio.wait_for` loses some."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return error.reason
    return "info" if isinstance(error, WireError) else "failed"


class BleTransport:
    """Takes boards that ``serves`` says are the gateway's; refusals go to ``count`` (reason, origin).

    most: connections that the adapter holds; hold_s: for how long one is kept at least while others wait.
    """

    def __init__(
        self,
        gateway: str,
        radio: Radio,
        *,
        serves: Callable[[int], bool],
        count: Callable[[str, str], None],
        most: int,
        hold_s: float,
        clock: Callable[[], int] = monotonic_ms,
        uniform: Callable[[], float] = random.random,
        scan_s: float = SCAN_S,
        rest_s: float = REST_S,
    ) -> None:
        self._gateway = gateway
        self._radio = radio
        self._serves = serves
        self._count = count
        self._clock = clock
        self._uniform = uniform
        self._scan_s, self._rest_s = scan_s, rest_s
        self._roster = Roster(most=most, hold_ms=round(1000 * hold_s), serves=serves, uniform=uniform)
        self._silence = Silence(clock())
        self._alive = 0
        self._held: dict[str, _Held] = {}
        self._turn = asyncio.Event()
        self._failures = 0
        self._cycle_due = True  # BlueZ keeps connections of a process that was killed
        self._connects = self._power_cycles = 0
        self._ends: Counter[str] = Counter()

    @property
    def faults(self) -> tuple[str, ...]:
        """``bluetooth`` while the adapter does not scan."""
        return ("bluetooth",) if self._failures else ()

    def report(self) -> Report:
        """How it is."""
        ends = dict(sorted(self._ends.items()))
        return Report(len(self._roster), self._roster.open, self._connects, ends, self._power_cycles)

    def publish(self, message: Outgoing) -> None:
        """Queue a frame for the board's connection; dropped where there is none."""
        for held in self._held.values():
            if held.topic == message.topic:  # of several, perhaps: a board's number is what a device says of itself
                if held.channel.answer(message.payload):
                    self._roster.answered(held.address, self._clock())
                held.wake.set()

    async def recover(self, step: Step) -> None:
        """End all connections and begin anew, for POWER_CYCLE from the adapter up."""
        self._cycle_due = self._cycle_due or step is Step.POWER_CYCLE
        self._roster.forgive(self._clock())
        for held in self._held.values():
            held.end("recovery")
        self._turn.set()

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Scan, connect and serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                _heed_cancellation()
                await self._watch()
                try:
                    if self._cycle_due:
                        self._cycle_due = False
                        self._power_cycles += 1
                        await self._radio.power_cycle()
                    await self._scan()
                    self._failures = 0
                except RadioError as error:
                    await self._failed(error)
                    continue
                while (action := self._roster.plan(self._clock())) is not None:
                    if isinstance(action, Connect):
                        await self._connect(action.address, receive, tasks)
                    else:
                        self._give_up(action)

    async def _watch(self) -> None:
        """Some adapters stop finding anything and say nothing; the daemon's silence ends with any board on MQTT."""
        now_ms = self._clock()
        self._alive += self._roster.open > 0
        step = self._silence.judge(
            now_ms, self._alive, _ALIVE_EVERY_MS if self._roster.expects_boards(now_ms) else None
        )
        if step in (Step.RESCAN, Step.POWER_CYCLE):
            _LOG.warning("no board is connected step=%s", step.value)
            await self.recover(step)

    async def _failed(self, error: RadioError) -> None:
        self._failures += 1
        if self._failures == 1:
            _LOG.error("the Bluetooth adapter does not work error=%s", error)
        self._cycle_due = self._cycle_due or self._failures % _FAILURES_TO_CYCLE == 0
        delay_s = min(_RADIO_AGAIN_S * 2 ** min(self._failures - 1, 8), _RADIO_LONGEST_S)
        await asyncio.sleep(delay_s * (1 + self._uniform()) / 2)

    async def _scan(self) -> None:
        """Until there is something to do, or the window is over; then rest."""
        self._turn.clear()
        async with self._radio.scanning(self._seen):
            await self._wait_for_turn(self._scan_s)
        if self._roster.connections and not self._turn.is_set():
            await self._wait_for_turn(self._rest_s)

    async def _wait_for_turn(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._turn.wait()
        except TimeoutError:
            pass

    def _seen(self, address: str) -> None:
        now_ms = self._clock()
        self._roster.sighted(address, now_ms)
        if not self._turn.is_set() and self._roster.has_work(now_ms):
            self._turn.set()

    async def _connect(self, address: str, receive: Callable[[str, bytes], None], tasks: asyncio.TaskGroup) -> None:
        gone = asyncio.Event()
        link: Link | None = None
        board: int | None = None
        try:
            async with asyncio.timeout(SETUP_S):
                link = await self._radio.connect(address, gone.set)
                info = decode_info(await link.info())
                board = info.board
                if not self._serves(board):
                    raise Refused(STRANGER, f"{board:08x}")
                channel = Channel(link.mtu, info.max_down, lambda reason: self._refuse(reason, address))
                held = self._held[address] = _Held(address, board_down(self._gateway, board), link, channel)
                topic = board_up(self._gateway, board)
                await link.listen(lambda fragment: self._received(held, fragment, topic, receive))
                _heed_cancellation()
        except BaseException as error:
            self._held.pop(address, None)
            if link is not None:
                await link.close()
            if not isinstance(error, RadioError | TimeoutError | WireError | Refused):
                raise
            self._refuse(_reason(error), address)
            self._end(address, _reason(error), board)
            return
        self._connects += 1
        self._roster.opened(address, board, self._clock())
        tasks.create_task(self._serve(held, gone))

    def _received(self, held: _Held, fragment: bytes, topic: str, receive: Callable[[str, bytes], None]) -> None:
        if held.reason is not None:
            return
        try:
            frame = held.channel.received(fragment, self._clock())
        except Refused as error:
            self._refuse(error.reason, held.address)
            held.end(error.reason)
            return
        if frame is not None:
            receive(topic, frame)

    async def _serve(self, held: _Held, gone: asyncio.Event) -> None:
        """Send down what there is until the connection ends; then tell the roster."""
        watcher = asyncio.create_task(gone.wait())
        watcher.add_done_callback(lambda _: held.end(DROPPED))
        try:
            while held.reason is None:
                held.wake.clear()
                while held.reason is None and (fragment := held.channel.next_fragment()) is not None:
                    async with asyncio.timeout(WRITE_S):
                        await held.link.write(fragment)
                if held.reason is None:
                    _heed_cancellation()
                    await held.wake.wait()
        except (RadioError, TimeoutError):
            held.end(DROPPED)
        finally:
            watcher.cancel()
            del self._held[held.address]
            await held.link.close()
            self._end(held.address, held.reason or DROPPED)

    def _give_up(self, action: Close) -> None:
        if (held := self._held.get(action.address)) is not None:
            held.end(action.reason)

    def _end(self, address: str, reason: str, board: int | None = None) -> None:
        self._ends[reason] += 1
        self._roster.closed(address, self._clock(), reason, board)
        self._turn.set()

    def _refuse(self, reason: str, address: str) -> None:
        self._count(f"ble_{reason}", f"device {address}")
