"""Driver of the S-Fifteen TDC1 time tagger: four inputs, 2 ns, on a USB serial port, commands in ASCII.

Commands end with `;` or a line end; those with `?` answer one line. `counts?` in mode `timestamp` with `time 0` streams
binary records (tdc1_words.py) until `abort`. Source: the vendor's "TDC1 Documentation" and pyS15.

The TDC1 has as many inputs as we have detectors. With all four in use there is no sync input: clock recovery then works
from the clicks alone, or both ends hang on one 10 MHz reference (`reference`).
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final

import numpy as np

from qepa_qkd.drivers.answer import answer_to
from qepa_qkd.drivers.errors import PortError, TagStreamError, WrongDeviceError
from qepa_qkd.drivers.receiver import OnEvents
from qepa_qkd.drivers.serial_port import SerialPort
from qepa_qkd.drivers.tdc1_words import INPUTS, STEP_PS, RecordDecoder
from qepa_qkd.serial_protocol import SYNC_CHANNEL, TimeTags

ANSWER_TIMEOUT_S: Final = 5.0
_SETTLE_S: Final = 0.15
"""Without an answer to wait for, the device is given this long, as the vendor's driver does."""
_SILENCE_CHECK_S: Final = 0.1
_BAUD: Final = 115_200  # of no effect on USB
_READ_BYTES: Final = 1 << 16


class Reference(IntEnum):
    """`REFCLK`: where the TDC1 takes its clock from."""

    AUTOMATIC = 0
    EXTERNAL = 1
    INTERNAL = 2


class Tdc1:
    """An open TDC1; a Receiver that gives TimeTags. Use `open`. A lost one stays lost."""

    def __init__(
        self, path: str, on_events: OnEvents | None, channels: Sequence[int], clock: Callable[[], float]
    ) -> None:
        """Open `path` without asking who is there. Raises PortError, ValueError for `channels` that are none."""
        if len(channels) != INPUTS or not all(0 <= channel <= SYNC_CHANNEL for channel in channels):
            raise ValueError("channels are four numbers: 0 H, 1 V, 2 D, 3 A, 4 sync")
        self._channels = np.array(channels, np.uint8)
        self._on_events = on_events
        self._clock = clock
        self._lines: deque[asyncio.Future[str]] = deque()
        self._text = bytearray()
        self._run: int | None = None
        self._decoder = RecordDecoder(clock())
        self._covered_ps = 0
        self._watch: asyncio.Task[None] | None = None
        self.frames_lost = 0
        """Runs that ended because their tags were lost or shifted."""
        self.last_fault = ""
        self._port = SerialPort(path, _BAUD, self._received)
        self._port.closed.add_done_callback(lambda _: self._lost())

    @classmethod
    async def open(
        cls,
        path: str,
        on_events: OnEvents | None = None,
        *,
        channels: Sequence[int] = (0, 1, 2, 3),
        threshold_v: float = 1.0,
        reference: Reference = Reference.AUTOMATIC,
        clock: Callable[[], float] = time.monotonic,
    ) -> "Tdc1":
        """Open `path`, check who answers, set levels and clock. `channels` say what is on the inputs 1 to 4.

        `threshold_v` (-3.3 to 3.3): negative for pulses that go down. Raises PortError, WrongDeviceError.
        """
        if not -3.3 <= threshold_v <= 3.3:
            raise ValueError("a TDC1's threshold is from -3.3 to 3.3 V")
        device = cls(path, on_events, channels, clock)
        try:
            await device._identify()
            level = "NEG" if threshold_v < 0 else "POS"
            await device._order(f"{level} {threshold_v:.3f}")
            await device._order(f"REFCLK {int(reference)}")
        except BaseException:
            device.close("no TDC1 answered")
            raise
        return device

    @property
    def closed(self) -> asyncio.Future[str]:
        """Completes with the reason once the port is lost."""
        return self._port.closed

    async def counts(self, integration_ms: int = 100) -> tuple[int, int, int, int]:
        """Return how often each input was seen in `integration_ms` (1 to 65,535). Not during a run."""
        if not 1 <= integration_ms <= 65_535:
            raise ValueError("a TDC1 counts for 1 to 65,535 ms")
        await self.stop()
        await self._order(f"time {integration_ms}")
        line = await self._ask("singles;counts?", ANSWER_TIMEOUT_S + integration_ms / 1000)
        try:
            one, two, three, four = (int(word) for word in line.split())
        except ValueError:
            raise PortError(f"the TDC1 on {self._port.path} answers {line!r} instead of four counts") from None
        return one, two, three, four

    async def start(self, run: int) -> None:
        """Begin run `run`: time 0 is the first record's wrap."""
        await self.stop()
        self._decoder, self._covered_ps, self._run = RecordDecoder(self._clock()), 0, run
        self._port.send(b"INPKT;time 0;timestamp;counts?;\r\n")
        self._watch = asyncio.ensure_future(self._watch_silence())

    async def stop(self) -> None:
        """End the run, if any, and throw away what is still on its way."""
        self._end_run()
        self.last_fault = ""
        await self._order("abort")
        self._text.clear()

    async def running(self) -> bool:
        """Whether the run is still under way. Raises TagStreamError, the reason, if its tags were lost or shifted."""
        self._port.check_open()
        if self._run is None and self.last_fault:
            raise TagStreamError(self.last_fault)
        return self._run is not None

    def close(self, reason: str = "closed") -> None:
        """Give the port back, silent; whoever waits for an answer gets PortError."""
        if not self._port.closed.done():
            with contextlib.suppress(PortError):
                self._port.send(b"abort\r\n")
        self._port.close(reason)
        self._lost()

    async def _identify(self) -> None:
        # A stream left on by a program that died would be taken for an answer.
        await self.stop()
        identity = await self._ask("*IDN?", ANSWER_TIMEOUT_S)
        if "TDC1" not in identity:
            raise WrongDeviceError(f"serial port {self._port.path} answers {identity!r}, which is no TDC1")

    async def _order(self, command: str) -> None:
        self._port.send(command.encode() + b"\r\n")
        await asyncio.sleep(_SETTLE_S)
        self._port.check_open()

    async def _ask(self, command: str, timeout_s: float) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._text.clear()
        self._port.send(command.encode() + b"\r\n")
        self._lines.append(answer)
        try:
            return await answer_to(answer, timeout_s)
        except TimeoutError:
            raise PortError(f"the device on {self._port.path} does not answer {command!r}") from None
        finally:
            with contextlib.suppress(ValueError):
                self._lines.remove(answer)

    async def _watch_silence(self) -> None:
        while self._run is not None:
            await asyncio.sleep(_SILENCE_CHECK_S)
            self._guard(lambda: self._decoder.check_silence(self._clock()))

    def _received(self, data: bytes) -> None:
        if self._run is not None:
            self._guard(lambda: self._tags(data))
            return
        self._text += data
        while (end := self._text.find(b"\n")) >= 0:
            line = self._text[:end].decode("ascii", "replace").strip()
            del self._text[: end + 1]
            if line and self._lines and not (answer := self._lines.popleft()).done():
                answer.set_result(line)
        if len(self._text) > _READ_BYTES:
            self._text.clear()

    def _tags(self, data: bytes) -> None:
        raw = self._decoder.feed(data, self._clock(), drained=len(data) < _READ_BYTES)
        # A record of its own for each step: the step of the last one is complete.
        first_ps, self._covered_ps = self._covered_ps, (raw.end_step + 1) * STEP_PS
        if self._on_events is not None and self._run is not None:
            times_ps, channels = raw.steps * STEP_PS, self._channels[raw.inputs]
            tags = TimeTags(self._run, first_ps, self._covered_ps, 0, STEP_PS, times_ps, channels)
            self._on_events(tags)

    def _guard(self, part: Callable[[], None]) -> None:
        """Do `part`; lost or shifted tags end the run, never the connection."""
        try:
            part()
        except TagStreamError as error:
            self.frames_lost += 1
            self.last_fault = str(error)
            self._end_run()
            with contextlib.suppress(PortError):
                self._port.send(b"abort\r\n")

    def _end_run(self) -> None:
        self._run = None
        if self._watch is not None and self._watch is not asyncio.current_task():
            self._watch.cancel()
        self._watch = None

    def _lost(self) -> None:
        self._end_run()
        for answer in self._lines:
            if not answer.done():
                answer.set_exception(self._port.lost())
