"""Alice: the transmitter terminal and its KME. `python -m qepa_qkd.alice --config FILE`."""

import asyncio
import contextlib
import secrets
from typing import Final

import numpy as np

from qepa_qkd.channel import HANDSHAKE_TIMEOUT_S, ClassicalChannel
from qepa_qkd.config import LinkConfig
from qepa_qkd.connections import listen
from qepa_qkd.distill_alice import AliceDistiller
from qepa_qkd.drivers.terminal import Terminal
from qepa_qkd.errors import NoKey, QkdError, TransientError
from qepa_qkd.link_end import (
    CONTROLLER_CHECK_S,
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
from qepa_qkd.messages import Aligned, KeepAlive, Message, Pause, Report, RunReady, RunStart, Sample, decode, encode
from qepa_qkd.serial_protocol import STATE_GONE, Nibbles, Slots
from qepa_qkd.slot_alignment import CANDIDATE_OFFSETS, far_range, find_far_offset, find_offset

NO_DETECTIONS_LIMIT_S: Final = 10.0
MISALIGNED: Final = 0.2
"""Error rate of a block from which the slots of the two ends may no longer be the same."""
_MOST_HANDSHAKES: Final = 8


async def run_alice(config: LinkConfig, on_ready: OnReady = lambda _: None) -> None:
    """Run until cancelled. Raises ConfigError, CorruptError or SecurityError when it cannot start."""
    end = LinkEnd(config, "alice")
    await end.open_terminal_once()
    program = _AliceProgram(end)
    listener = await listen(config, program.connected)
    kme = asyncio.ensure_future(end.kme_server.serve())
    try:
        await end.kme_server.wait_started()
        on_ready({"ready": True, "role": "alice", "kme": end.kme_server.url, "classical": listener.address})
        ends = [kme, program.failed] + ([] if listener.serving is None else [listener.serving])
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await listener.stop()
        await program.stop()
        listener.close()
        await end_task(kme)
        end.vault.close()


class _AliceProgram:
    """Accepts Bob. Only a peer that proves the channel key replaces the running connection."""

    def __init__(self, end: LinkEnd) -> None:
        self._end = end
        self._session: asyncio.Task[None] | None = None
        self._handshakes = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        end.status.state = "no key: waiting for Bob"

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._handshakes >= _MOST_HANDSHAKES:
            writer.close()
            return
        self._handshakes += 1
        try:
            nonce = secrets.token_bytes(32)
            channel = await ClassicalChannel.open(reader, writer, "alice", self._end.secret.channel_key, nonce)
            hello = decode(await channel.receive(HANDSHAKE_TIMEOUT_S))
        except QkdError as error:
            logger.warning("a connection is refused: %s", error)
            writer.close()
            return
        finally:
            self._handshakes -= 1
        await self.stop()
        self._session = asyncio.ensure_future(self._serve(channel, hello))
        self._session.add_done_callback(self._session_ended)

    async def stop(self) -> None:
        """End the running connection, if any."""
        if self._session is not None:
            await end_task(self._session)
            self._session = None

    def _session_ended(self, session: asyncio.Task[None]) -> None:
        """A fault that is no event of the link ends the program, rather than leave it there without a link."""
        error = None if session.cancelled() else session.exception()
        if error is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def _serve(self, channel: ClassicalChannel, hello: Message) -> None:
        terminal: Terminal | None = None
        try:
            channel.send(self._end.hello())
            await self._end.agree(channel, hello)
            terminal = await self._end.wait_for_terminal()
            session = _AliceSession(self._end, channel, terminal)
            await run_session(session.receive(), session.control(), keep_alive(channel), watch(terminal))
            self._end.status.state = "no key: waiting for Bob"
        except QkdError as error:
            logger.error("connection ends: %s", error)
        finally:
            if terminal is not None:
                terminal.close()
            channel.close()


class _AliceSession:
    """One connection with Bob: runs while key is needed, blocks in between."""

    def __init__(self, end: LinkEnd, channel: ClassicalChannel, terminal: Terminal) -> None:
        self._end, self._channel, self._terminal = end, channel, terminal
        self._store = end.config.store
        self._distiller = AliceDistiller(end.environment)
        self._loop = asyncio.get_running_loop()
        self._run: int | None = None
        self._offset: int | None = None
        self._ready = asyncio.Event()
        self._run_ends = asyncio.Event()
        self._stock_changed = asyncio.Event()
        self._last_report_s = 0.0
        end.vault.keys.on_change = self._stock_changed.set

    async def receive(self) -> None:
        """Answer Bob's messages, in order."""
        while True:
            raw = await self._channel.receive(SILENCE_LIMIT_S)
            match message := decode(raw):
                case KeepAlive():
                    continue
                case RunReady(run):
                    if run == self._run:
                        self._ready.set()
                case Sample():
                    await self._align(message)
                case Report():
                    await self._take(message, raw)
                case _:
                    self._say(self._distiller.on_message(message, raw))

    async def control(self) -> None:
        """Run the transmitter while the store is below its quota."""
        while True:
            await self._while_full()
            if not self._end.vault.pads.pads_left()[0]:
                self._pause("no key: too little authentication key")
                await asyncio.Event().wait()
            await self._one_run()

    async def _one_run(self) -> None:
        run = self._run = secrets.randbits(32)
        self._offset = None
        self._ready.clear()
        self._run_ends.clear()
        self._distiller.restart_filling()
        self._channel.send(encode(RunStart(run)))
        try:
            async with asyncio.timeout(SILENCE_LIMIT_S):
                await self._ready.wait()
        except TimeoutError:
            raise TransientError("Bob's receiver does not get ready") from None
        try:
            await self._start_transmitter(run)
            self._end.status.state = "running"
            self._last_report_s = self._loop.time()
            while not self._run_ends.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CONTROLLER_CHECK_S):
                        await self._run_ends.wait()
                if "state=running" not in await self._terminal.command("STATUS?"):
                    raise TransientError("the transmitter stopped by itself")
                self._end.status.frames_lost = self._terminal.frames_lost
                if self._loop.time() - self._last_report_s > NO_DETECTIONS_LIMIT_S:
                    self._end.status.state = "no key: no detections arrive"
                    return
        finally:
            self._run = None
            if not self._terminal.closed.done():
                with contextlib.suppress(QkdError):
                    await self._terminal.command("STOP")

    async def _start_transmitter(self, run: int) -> None:
        settings = self._end.settings
        await self._terminal.command("STOP")  # a run that a killed program left under way
        for name, value in (
            ("pulse_rate_hz", f"{settings.pulse_rate_hz:g}"),
            ("intensities", ",".join(f"{x:g}" for x in settings.source.intensities)),
            ("probabilities", ",".join(f"{x:g}" for x in settings.source.probabilities)),
            ("key_basis_probability", f"{settings.key_basis_probability:g}"),
        ):
            await self._terminal.command(f"SET {name}={value}")
        await self._terminal.command(f"START run={run:08x}")

    async def _align(self, sample: Sample) -> None:
        """Find the offset of a run's slots; Bob sends samples, and no reports, until he is told that it is known."""
        run = sample.run
        if run != self._run or self._offset is not None:
            return
        self._last_report_s = self._loop.time()
        candidates = {offset: await self._states(run, sample.slots - offset) for offset in CANDIDATE_OFFSETS}
        try:
            try:
                offset = find_offset(sample.symbols, candidates)
            except NoKey:
                first, end = far_range(sample.slots)
                states = await self._states(run, np.arange(first, end))
                offset = find_far_offset(sample.slots, sample.symbols, first, states)
        except NoKey as reason:
            self._end.status.state = f"no key: {reason}"
            return
        if run == self._run:  # it may have ended while the transmitter was asked
            self._offset = offset
            self._end.status.state = "running"
            self._channel.send(encode(Aligned(run)))

    async def _take(self, report: Report, raw: bytes) -> None:
        run = report.run
        if run != self._run or self._offset is None:
            return
        self._last_report_s = self._loop.time()
        states = await self._states(run, report.slots - self._offset)
        if run == self._run:
            self._distiller.on_report(report, raw, states)

    async def _states(self, run: int, slots: Slots) -> Nibbles:
        """States sent in transmitter slots; those before slot 0 were never sent."""
        known = slots >= 0
        states = np.full(len(slots), STATE_GONE, np.uint8)
        states[known] = await self._terminal.states(run, slots[known])
        return states

    def _say(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self._channel.send(payload)
        if self._distiller.outcomes:
            if any(o.sifted_bits and o.qber_z > MISALIGNED for o in self._distiller.outcomes):
                self._run_ends.set()  # slots may have shifted: a new run aligns them anew
            self._end.record(self._distiller.outcomes, running=self._run is not None)
            full = self._end.vault.keys.stock_bits() >= self._store.quota_bits
            if full or not self._end.vault.pads.pads_left()[0]:
                self._run_ends.set()

    async def _while_full(self) -> None:
        """Return at once below the quota; else wait until the stock has fallen to the low-water mark."""
        keys = self._end.vault.keys
        if keys.stock_bits() < self._store.quota_bits:
            return
        self._pause("idle: store full")
        while keys.stock_bits() > self._store.low_water_bits:
            self._stock_changed.clear()
            await self._stock_changed.wait()

    def _pause(self, state: str) -> None:
        self._end.status.state = state
        logger.info("%s", state)
        self._channel.send(encode(Pause(state)))


if __name__ == "__main__":
    raise SystemExit(main("alice", run_alice, None))
