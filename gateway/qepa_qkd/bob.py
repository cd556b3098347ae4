"""Bob: the receiver terminal and its KME. `python -m qepa_qkd.bob --config FILE`."""

import asyncio
import contextlib
import secrets
from collections import deque
from typing import Final

import numpy as np

from qepa_qkd.alarms import CLEAR_WINDOWS, CLICK_KINDS
from qepa_qkd.channel import ClassicalChannel
from qepa_qkd.coincidence import TagSlots
from qepa_qkd.config import LinkConfig
from qepa_qkd.connections import Caller
from qepa_qkd.distill_bob import BobDistiller
from qepa_qkd.drivers.receiver import Receiver
from qepa_qkd.errors import NoKey, QkdError, TransientError
from qepa_qkd.link_end import (
    CONTROLLER_CHECK_S,
    RETRY_S,
    SILENCE_LIMIT_S,
    LinkEnd,
    OnReady,
    end_task,
    keep_alive,
    logger,
    main,
    run_session,
    watch,
)
from qepa_qkd.messages import Aligned, KeepAlive, Pause, RunReady, RunStart, decode, encode
from qepa_qkd.serial_protocol import Detections, Nibbles, Slots, TimeTags

REPORT_INTERVAL_S: Final = 0.2
REPORT_EVENTS: Final = 50_000
"""Detections after which a report is sent early."""
MOST_LOST: Final = 0.01
"""Share of detections dropped between receiver and host above which their rate says nothing."""
MOST_RETRY_S: Final = 5.0
RETAINED_QUOTAS: Final = 4
"""Bob keeps at most this many quotas: what Alice handed out long ago and nobody redeemed is destroyed, oldest first."""


async def run_bob(config: LinkConfig, on_ready: OnReady = lambda _: None) -> None:
    """Run until cancelled. Raises ConfigError, CorruptError or SecurityError when it cannot start."""
    end = LinkEnd(config, "bob")
    await end.open_terminal_once()
    caller = Caller(config)
    kme = asyncio.ensure_future(end.kme_server.serve())
    link = asyncio.ensure_future(_keep_connected(end, caller))
    try:
        await end.kme_server.wait_started()
        on_ready({"ready": True, "role": "bob", "kme": end.kme_server.url, "classical": caller.address})
        done, _ = await asyncio.wait([kme, link], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (link, kme):
            await end_task(task)
        caller.close()
        end.vault.close()


async def _keep_connected(end: LinkEnd, caller: Caller) -> None:
    delay_s = RETRY_S
    while True:
        end.status.state = "no key: Alice is not reachable"
        with contextlib.suppress(TransientError):
            reader, writer = await caller.connect()
            try:
                if await _serve(end, reader, writer):
                    delay_s = RETRY_S
            finally:
                writer.close()
        await asyncio.sleep(delay_s)
        delay_s = min(MOST_RETRY_S, 1.5 * delay_s)


async def _serve(end: LinkEnd, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One connection; returns whether Alice agreed to it."""
    receiver: Receiver | None = None
    agreed = False
    try:
        nonce = secrets.token_bytes(32)
        channel = await ClassicalChannel.open(reader, writer, "bob", end.secret.channel_key, nonce)
        channel.send(end.hello())
        await end.agree(channel, decode(await channel.receive(SILENCE_LIMIT_S)))
        agreed = True
        session = _BobSession(end, channel)
        receiver = await end.wait_for_receiver(session.detected)
        await run_session(session.serve(receiver), session.control(receiver), keep_alive(channel), watch(receiver))
    except QkdError as error:
        logger.error("connection ends: %s", error)
    finally:
        if receiver is not None:
            if not receiver.closed.done():
                with contextlib.suppress(QkdError):
                    await receiver.stop()
            receiver.close()
    return agreed


class _BobSession:
    """One connection with Alice: reports what the receiver detects and follows her through the blocks."""

    def __init__(self, end: LinkEnd, channel: ClassicalChannel) -> None:
        self._end, self._channel = end, channel
        rng = np.random.default_rng(secrets.randbits(128))
        self._distiller = BobDistiller(end.environment, rng, self._alarm)
        self._monitor = end.click_monitor
        self._loop = asyncio.get_running_loop()
        self._run: int | None = None
        self._aligned = False
        self._overflow = 0
        self._tag_slots: TagSlots | None = None
        self._clock_fault = ""
        self._running = asyncio.Event()
        self._gathered: list[Detections] = []
        self._waiting: deque[bytes] = deque()
        """Reports, and the bases that close a block, in order."""
        self._crowded = False
        """Whether the newest report fills the channel for longer than a moment."""
        self._last_report_s = 0.0

    def detected(self, events: Detections | TimeTags) -> None:
        """Gather a block of detections; report when enough time or events have come together."""
        if events.run != self._run:
            return
        detections = events if isinstance(events, Detections) else self._recover(events)
        if detections is None:
            return
        self._gathered.append(detections)
        now_s = self._loop.time()
        count = sum(len(d.slots) for d in self._gathered)
        if not count or (now_s - self._last_report_s < REPORT_INTERVAL_S and count < REPORT_EVENTS):
            return
        lost, self._overflow = self._gathered[-1].overflow - self._overflow, self._gathered[-1].overflow
        pulses = sum(d.end_slot - d.first_slot for d in self._gathered)
        slots = np.concatenate([d.slots for d in self._gathered])
        detectors = np.concatenate([d.detectors for d in self._gathered])
        self._gathered.clear()
        self._last_report_s = now_s
        if lost > MOST_LOST * len(slots):
            self._monitor.forget()  # a host that was too slow is no change of light
        else:
            self._watch(pulses, slots, detectors)
        with contextlib.suppress(TransientError):  # the receiving side of the session sees the loss too
            self._send_waiting()
            if self._waiting or (self._crowded and self._distiller.correcting):
                return  # the channel does not keep up, or would not while errors are corrected: detections are lost
            if self._aligned:
                self._waiting += self._distiller.report(detections.run, slots, detectors)
            else:
                self._waiting.append(self._distiller.sample(detections.run, slots, detectors))
            self._send_waiting()
            self._crowded = self._channel.congested

    def _send_waiting(self) -> None:
        """Send of what is said about detections as much as the channel takes at once; all else goes before it."""
        while self._waiting and not self._channel.congested:
            self._channel.send(self._waiting.popleft())

    def _new_tag_slots(self) -> TagSlots | None:
        receiver = self._end.config.receiver
        sync_every = receiver.sync_every if receiver.device == "controller" else None
        period_ps = 1e12 / self._end.settings.pulse_rate_hz
        return TagSlots(period_ps, 1000 * receiver.gate_ns, sync_every) if receiver.tags else None

    def _recover(self, tags: TimeTags) -> Detections | None:
        """Find the slots of time tags. A clock that is lost is an alarm and ends the connection: slots count anew."""
        if self._tag_slots is None or self._clock_fault:
            return None
        alarms = self._end.status.alarms
        try:
            detections = self._tag_slots.feed(tags)
        except NoKey as reason:
            self._clock_fault = str(reason)
            alarms.update({"timing": self._clock_fault})
            self._end.status.state = f"no key: {alarms.reason(['timing'])}"
            return None
        if detections is not None:
            alarms.update({"timing": None})
        return detections

    def _watch(self, pulses: int, slots: Slots, detectors: Nibbles) -> None:
        alarms = self._end.status.alarms
        before = alarms.reason(CLICK_KINDS)
        alarms.update(self._monitor.observe(pulses, slots, detectors), CLEAR_WINDOWS)
        if reason := alarms.reason(CLICK_KINDS):
            self._end.status.state = f"no key: {reason}"
        elif before:
            self._end.status.state = "running"

    def _alarm(self, full: bool) -> str | None:
        """What is wrong with the detections so far; those that end a block are judged to the last."""
        if full:
            self._end.status.alarms.update(self._monitor.flush(), CLEAR_WINDOWS)
        return self._end.status.alarms.reason(CLICK_KINDS)

    async def serve(self, receiver: Receiver) -> None:
        """Answer Alice's messages, in order."""
        while True:
            raw = await self._channel.receive(SILENCE_LIMIT_S)
            match message := decode(raw):
                case KeepAlive():
                    continue
                case RunStart(run):
                    await self._start(receiver, run)
                case Aligned(run):
                    self._aligned = run == self._run
                case Pause(state):
                    self._running.clear()
                    self._run = None
                    self._end.status.state = state
                    logger.info("%s", state)
                    await receiver.stop()
                case _:
                    for payload in self._distiller.on_message(message, raw):
                        self._channel.send(payload)
                    self._send_waiting()
            if self._distiller.outcomes:
                self._end.record(self._distiller.outcomes, running=self._run is not None)
                self._end.vault.keys.prune(RETAINED_QUOTAS * self._end.config.store.quota_bits)

    async def control(self, receiver: Receiver) -> None:
        """While a run lasts, keep the receiver's watchdog quiet and notice when it stopped by itself."""
        while True:
            await self._running.wait()
            await asyncio.sleep(CONTROLLER_CHECK_S)
            if self._clock_fault:
                raise TransientError(self._clock_fault)
            if self._running.is_set() and not await receiver.running():
                raise TransientError("the receiver stopped by itself")
            self._end.status.frames_lost = receiver.frames_lost

    async def _start(self, receiver: Receiver, run: int) -> None:
        self._gathered.clear()
        self._distiller.restart_filling()
        self._monitor.forget()
        self._run, self._aligned, self._overflow = run, False, 0
        self._tag_slots = self._new_tag_slots()
        await receiver.start(run)
        self._running.set()
        self._end.status.state = "running"
        self._channel.send(encode(RunReady(run)))


if __name__ == "__main__":
    raise SystemExit(main("bob", run_bob, None))
