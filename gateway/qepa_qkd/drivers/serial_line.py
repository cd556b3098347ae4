"""Connections over a serial line as asyncio knows them: a stream reader and a stream writer for each."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterable
from typing import Any, Final

from qepa_qkd.drivers.errors import PortError
from qepa_qkd.drivers.reconnect import open_when_there
from qepa_qkd.drivers.serial_port import SerialPort
from qepa_qkd.line_connection import CHUNK_BYTES, WINDOW, Ended, Event, LineConnection, Opened, Received

logger = logging.getLogger(__name__)

_READ_LIMIT: Final = 1 << 16
_PORT_BUSY_S: Final = 0.1


class SerialLine:
    """One end of a line. A port that is unplugged ends the connection and is opened again when it is back."""

    def __init__(self, path: str, bits_per_s: int) -> None:
        self._path, self._bits_per_s = path, bits_per_s
        self._loop = asyncio.get_running_loop()
        self._port: SerialPort | None = None
        self._line = LineConnection(lambda: secrets.randbits(64), bits_per_s)
        self._timer: asyncio.TimerHandle | None = None
        self._transport: LineTransport | None = None
        self._opened: asyncio.Future[LineTransport] | None = None
        self._over = asyncio.Event()
        self._over.set()

    def open_port(self) -> None:
        """Open the port. Raises PortError."""
        port = SerialPort(self._path, self._bits_per_s, self._arrived)
        port.closed.add_done_callback(lambda _: self._lost(port))
        self._port = port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the next connection, once the one before has ended and the other end wants one, too."""
        await self._over.wait()
        while True:
            if self._port is None:
                await open_when_there(self._reopen, on_failure=lambda error: logger.warning("%s", error))
            self._opened = self._loop.create_future()
            try:
                self._line.begin(self._loop.time())
                self._pump()
                transport = await self._opened
            except ConnectionResetError:
                continue
            finally:
                self._opened = None
                if self._transport is None:  # cancelled, too: nobody waits for a connection any more
                    self._take(self._line.end(self._loop.time()))
            reader = transport.reader
            return reader, asyncio.StreamWriter(transport, transport.protocol, reader, self._loop)

    def close(self) -> None:
        """End the connection without waiting for what is under way, and close the port."""
        self._take(self._line.end(self._loop.time(), at_once=True))
        self._pump()
        if self._port is not None:
            self._port.close()

    @property
    def unsent_bytes(self) -> int:
        """Bytes of this connection that the other end does not have."""
        return self._line.unsent_bytes

    @property
    def high_water(self) -> int:
        """What the line carries in a tenth of a second: more than that waiting to go out is a queue."""
        return max(WINDOW * CHUNK_BYTES, self._bits_per_s // 100)

    def send(self, data: bytes) -> None:
        """Queue bytes of the connection."""
        self._line.send(data, self._loop.time())
        self._pump()

    def hold(self, *, held: bool) -> None:
        """Let the other end wait, or go on."""
        self._line.hold(held=held)
        self._pump()

    def end(self) -> None:
        """End the connection once all has arrived, or after a while."""
        self._take(self._line.end(self._loop.time()))
        self._pump()

    async def _reopen(self) -> None:
        self.open_port()

    def _arrived(self, data: bytes) -> None:
        self._take(self._line.feed(data, self._loop.time()))
        self._pump()

    def _lost(self, port: SerialPort) -> None:
        if port is not self._port:
            return
        self._port = None
        self._take(self._line.lost(str(port.lost())))
        self._schedule()

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            match event:
                case Opened():
                    self._over.clear()
                    self._transport = LineTransport(self)
                    if self._opened is not None and not self._opened.done():
                        self._opened.set_result(self._transport)
                case Received(data):
                    if self._transport is not None:
                        self._transport.protocol.data_received(data)
                case Ended(reason):
                    self._ended(reason)

    def _ended(self, reason: str) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.ended()
            logger.info("line %s: %s", self._path, reason)
        elif self._opened is not None and not self._opened.done():
            self._opened.set_exception(ConnectionResetError(reason))
        self._over.set()

    def _pump(self) -> None:
        if self._port is not None and not self._port.closed.done() and (data := self._line.outgoing()):
            with contextlib.suppress(PortError):  # `_lost` is told, too
                self._port.send(data)
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due_s = self._line.due_s
        self._timer = None if due_s is None else self._loop.call_at(due_s, self._tick)

    def _tick(self) -> None:
        if self._port is not None and self._port.unsent_bytes:
            # Nobody reads at the other side: saying it once more would only fill the queue.
            self._timer = self._loop.call_later(_PORT_BUSY_S, self._tick)
            return
        self._take(self._line.tick(self._loop.time()))
        self._pump()


class LineTransport(asyncio.Transport):
    """What asyncio's streams need of a connection."""

    def __init__(self, line: SerialLine) -> None:
        super().__init__()
        self._line = line
        self._closing = False
        self._reading = True
        self.reader = asyncio.StreamReader(limit=_READ_LIMIT)
        self.protocol = asyncio.StreamReaderProtocol(self.reader)
        self.protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue `data`."""
        if not self._closing:
            self._line.send(bytes(data))

    def get_write_buffer_size(self) -> int:
        """Bytes that the other end does not have."""
        return self._line.unsent_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Below the second number the line keeps up."""
        return 0, self._line.high_water

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing

    def close(self) -> None:
        """End the connection once all that was written has arrived."""
        if not self._closing:
            self._closing = True
            self._line.end()

    abort = close

    def is_reading(self) -> bool:
        """Whether bytes are taken."""
        return self._reading

    def pause_reading(self) -> None:
        """Let the other end wait."""
        self._reading = False
        self._line.hold(held=True)

    def resume_reading(self) -> None:
        """Go on."""
        self._reading = True
        if not self._closing:
            self._line.hold(held=False)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The streams' own."""
        return self.protocol

    def can_write_eof(self) -> bool:
        """A line has no half-closed connections."""
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002 (there is none)
        """There is none."""
        return default

    def ended(self) -> None:
        """The connection is over, whoever ended it."""
        self._closing = True
        self.protocol.connection_lost(None)
