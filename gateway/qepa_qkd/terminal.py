"""Host side of one optical controller: commands, state queries and detections over a serial port.

The port may be native USB, a UART or a pseudo-terminal; nothing here knows which.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import serial

from qepa_qkd.errors import ProtocolError, TransientError
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
    split_queries,
)

BAUD: Final = 921_600
ANSWER_TIMEOUT_S: Final = 2.0


class Terminal:
    """An open port. `closed` completes with the reason once the port is lost; a lost terminal stays lost."""

    def __init__(self, port: serial.Serial, on_detections: Callable[[Detections], None] | None = None) -> None:
        """Use `open`; `on_detections` is called in the event loop for every block that arrives."""
        self._loop = asyncio.get_running_loop()
        self._port = port
        self._fd: int = port.fileno()
        self._on_detections = on_detections
        self._decoder = FrameDecoder()
        self._encoder = FrameEncoder()
        self._unsent = bytearray()
        self._replies: deque[asyncio.Future[str]] = deque()
        self._queries: dict[int, asyncio.Future[Nibbles]] = {}
        self._next_tag = 0
        self._command_lock = asyncio.Lock()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self._loop.add_reader(self._fd, self._readable)

    @classmethod
    async def open(cls, path: str, on_detections: Callable[[Detections], None] | None = None) -> "Terminal":
        """Open `path` and check that a controller answers. Raises TransientError when either fails."""
        try:
            port = serial.Serial(path, BAUD, timeout=0, exclusive=True)
            port.reset_input_buffer()
        except (OSError, ValueError, serial.SerialException) as error:
            raise TransientError(f"serial port {path} cannot be opened: {error}") from error
        terminal = cls(port, on_detections)
        try:
            identity = await terminal.command("*IDN?")
            if not identity.startswith("QEPA ") or "protocol=1" not in identity:
                raise ProtocolError(f"serial port {path} answers {identity!r}, which is no controller of protocol 1")
        except BaseException:
            terminal.close("no controller answered")
            raise
        return terminal

    @property
    def frames_lost(self) -> int:
        """Frames known to be missing or damaged since the port was opened."""
        return self._decoder.frames_lost + self._decoder.frames_damaged

    async def command(self, text: str) -> str:
        """Send one command, return what follows `OK`. TransientError without answer, ProtocolError on `ERR`."""
        async with self._command_lock:
            reply: asyncio.Future[str] = self._loop.create_future()
            self._replies.append(reply)
            self._send(self._encoder.encode(Command(text)))
            try:
                answer = await asyncio.wait_for(reply, ANSWER_TIMEOUT_S)
            except TimeoutError:
                raise TransientError(f"the controller on {self._port.name} does not answer {text!r}") from None
            finally:
                with contextlib.suppress(ValueError):
                    self._replies.remove(reply)
        status, _, rest = answer.partition(" ")
        if status != "OK":
            raise ProtocolError(f"the controller on {self._port.name} refuses {text!r}: {rest}")
        return rest

    async def states(self, run: int, slots: Slots) -> Nibbles:
        """Return the transmitter's state nibble for each of `slots` (not decreasing); STATE_GONE where unknown.

        An answer lost on the wire makes its slots unknown, nothing else.
        """
        parts = []
        for query in split_queries(run, self._next_tag, slots):
            self._next_tag = (query.tag + 1) & 0xFFFF
            answer: asyncio.Future[Nibbles] = self._loop.create_future()
            self._queries[query.tag] = answer
            self._send(self._encoder.encode(query))
            try:
                states = await asyncio.wait_for(answer, ANSWER_TIMEOUT_S)
            except TimeoutError:
                states = np.empty(0, np.uint8)
            finally:
                self._queries.pop(query.tag, None)
            if len(states) != len(query.slots):
                states = np.full(len(query.slots), STATE_GONE, np.uint8)
            parts.append(states)
        return np.concatenate(parts) if parts else np.empty(0, np.uint8)

    def close(self, reason: str = "closed") -> None:
        """Close the port; whoever waits for an answer gets TransientError."""
        if self.closed.done():
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        with contextlib.suppress(OSError, serial.SerialException):
            self._port.close()
        self.closed.set_result(reason)
        lost = TransientError(f"serial port {self._port.name}: {reason}")
        waiting: list[asyncio.Future[Any]] = [*self._replies, *self._queries.values()]
        for answer in waiting:
            if not answer.done():
                answer.set_exception(lost)

    def _send(self, data: bytes) -> None:
        if self.closed.done():
            raise TransientError(f"serial port {self._port.name}: {self.closed.result()}")
        self._unsent += data
        self._writable()

    def _writable(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: os.write(self._fd, self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._writable)
            return
        except OSError as error:
            self.close(str(error))
            return
        self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(str(error))
            return
        if not data:
            self.close("the other end hung up")
            return
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
            case Detections():
                if self._on_detections is not None:
                    self._on_detections(event)
            case _:
                pass  # the decoder counts what is lost or damaged, and a host is sent no commands
