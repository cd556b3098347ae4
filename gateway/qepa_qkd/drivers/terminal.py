"""Host side of our optical controllers: commands, state queries, detections and time tags over a serial port."""

import asyncio
import contextlib
from collections import deque
from typing import Any, Final

import numpy as np

from qepa_qkd.drivers.answer import answer_to
from qepa_qkd.drivers.errors import PortError, RefusedError, WrongDeviceError, WrongVersionError
from qepa_qkd.drivers.receiver import OnEvents
from qepa_qkd.drivers.serial_port import SerialPort
from qepa_qkd.serial_protocol import (
    STATE_GONE,
    Command,
    Detections,
    Event,
    FrameDecoder,
    FrameEncoder,
    Nibbles,
    Reply,
    Slots,
    States,
    TimeTags,
    split_queries,
)
from qepa_wire.link_frames import PROTOCOL_VERSION

BAUD: Final = 921_600
COMMAND_TIMEOUT_S: Final = 5.0
"""A controller answers in milliseconds; its host, or a virtual one, may be busy for seconds."""
STATES_TIMEOUT_S: Final = 2.0
_STALE_SETTLE_S: Final = 0.3
_STALE_ANSWERS: Final = 2
"""Answers to a program that was killed, which may come before the first to this one."""


class Terminal:
    """A controller on an open port; a Receiver where its role is that. Use `open`. A lost terminal stays lost."""

    def __init__(self, path: str, on_events: OnEvents | None = None) -> None:
        """Open `path` without asking who is there. Raises PortError."""
        self._loop = asyncio.get_running_loop()
        self._on_events = on_events
        self._decoder = FrameDecoder()
        self._encoder = FrameEncoder()
        self._replies: deque[asyncio.Future[str]] = deque()
        self._queries: dict[int, asyncio.Future[Nibbles]] = {}
        self._next_tag = 0
        self._command_lock = asyncio.Lock()
        self.role = ""
        """`transmitter` or `receiver`, once opened."""
        self._port = SerialPort(path, BAUD, self._received)
        self._port.closed.add_done_callback(lambda _: self._lost())

    @classmethod
    async def open(cls, path: str, on_events: OnEvents | None = None, *, role: str | None = None) -> "Terminal":
        """Open `path` and check who answers.

        Raises PortError when nobody does, WrongDeviceError when it is no controller, or not one of this `role`, and
        WrongVersionError.
        """
        terminal = cls(path, on_events)
        try:
            terminal.role = await terminal._identify(role)
        except BaseException:
            terminal.close("no controller answered")
            raise
        return terminal

    @property
    def closed(self) -> asyncio.Future[str]:
        """Completes with the reason once the port is lost."""
        return self._port.closed

    @property
    def frames_lost(self) -> int:
        """Frames known to be missing or damaged since the port was opened."""
        return self._decoder.frames_lost + self._decoder.frames_damaged

    async def command(self, text: str) -> str:
        """Send one command, return what follows `OK`. Raises PortError without answer, RefusedError on `ERR`."""
        async with self._command_lock:
            reply: asyncio.Future[str] = self._loop.create_future()
            self._port.send(self._encoder.encode(Command(text)))
            self._replies.append(reply)
            try:
                answer = await answer_to(reply, COMMAND_TIMEOUT_S)
            except TimeoutError:
                # A reply that comes later would be taken for the next one's: only a fresh start is safe.
                self.close(f"no answer to {text!r}")
                raise PortError(f"the controller on {self._port.path} does not answer {text!r}") from None
            finally:
                with contextlib.suppress(ValueError):
                    self._replies.remove(reply)
        status, _, rest = answer.partition(" ")
        if status != "OK":
            raise RefusedError(f"the controller on {self._port.path} refuses {text!r}: {rest}")
        return rest

    async def status(self) -> dict[str, str]:
        """The fields of `STATUS?`."""
        return dict(field.partition("=")[::2] for field in (await self.command("STATUS?")).split())

    async def start(self, run: int) -> None:
        """Begin run `run`; one that a killed program left under way ends."""
        await self.command("STOP")
        await self.command(f"START run={run:08x}")

    async def stop(self) -> None:
        """End the run, if any."""
        await self.command("STOP")

    async def running(self) -> bool:
        """Whether a run is under way."""
        return (await self.status()).get("state") == "running"

    async def states(self, run: int, slots: Slots) -> Nibbles:
        """Return the transmitter's state nibble for each of `slots` (not decreasing); STATE_GONE where unknown.

        An answer lost on the wire makes its slots unknown, nothing else.
        """
        parts = []
        for query in split_queries(run, self._next_tag, slots):
            self._next_tag = (query.tag + 1) & 0xFFFF
            answer: asyncio.Future[Nibbles] = self._loop.create_future()
            self._port.send(self._encoder.encode(query))
            self._queries[query.tag] = answer
            try:
                states = await answer_to(answer, STATES_TIMEOUT_S)
            except TimeoutError:
                states = np.empty(0, np.uint8)
            finally:
                self._queries.pop(query.tag, None)
            if len(states) != len(query.slots):
                states = np.full(len(query.slots), STATE_GONE, np.uint8)
            parts.append(states)
        return np.concatenate(parts) if parts else np.empty(0, np.uint8)

    def close(self, reason: str = "closed") -> None:
        """Close the port; whoever waits for an answer gets PortError."""
        self._port.close(reason)
        self._lost()

    async def _identify(self, role: str | None) -> str:
        for _ in range(1 + _STALE_ANSWERS):
            try:
                answer = await self.command("*IDN?")
            except RefusedError as error:
                raise WrongDeviceError(f"serial port {self._port.path} is no controller: {error}") from None
            words = answer.split()
            if words[:1] == ["QEPA"]:
                break
            await asyncio.sleep(_STALE_SETTLE_S)  # nobody waits now: what else comes is dropped
        if len(words) < 3 or words[0] != "QEPA" or words[1] not in ("transmitter", "receiver"):
            raise WrongDeviceError(f"serial port {self._port.path} answers {answer!r}, which is no controller")
        if f"protocol={PROTOCOL_VERSION}" not in words[2:]:
            raise WrongVersionError(
                f"the {words[1]} on {self._port.path} answers {answer!r}, this program speaks protocol "
                f"{PROTOCOL_VERSION}: update one of them"
            )
        if role is not None and words[1] != role:
            raise WrongDeviceError(f"serial port {self._port.path} is the {words[1]}, not the {role}")
        return words[1]

    def _lost(self) -> None:
        waiting: list[asyncio.Future[Any]] = [*self._replies, *self._queries.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(self._port.lost())

    def _received(self, data: bytes) -> None:
        for event in self._decoder.feed(data):
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case Reply(text):
                if self._replies and not (reply := self._replies.popleft()).done():
                    reply.set_result(text)
            case States(tag=tag, states=states):
                if (answer := self._queries.get(tag)) is not None and not answer.done():
                    answer.set_result(states)
            case Detections() | TimeTags():
                if self._on_events is not None:
                    self._on_events(event)
            case _:
                pass  # the decoder counts what is lost or damaged, and a host is sent no commands
