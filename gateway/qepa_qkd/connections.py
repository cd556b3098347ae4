"""Where connections of the classical channel come from: TCP, where Bob calls and Alice answers, or a serial line."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final

from qepa_qkd.channel import HANDSHAKE_TIMEOUT_S
from qepa_qkd.config import LinkConfig, SerialChannel, split_address
from qepa_qkd.drivers.errors import PortError
from qepa_qkd.drivers.serial_line import SerialLine
from qepa_qkd.errors import ConfigError, TransientError

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
OnConnection = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_QUEUE_BYTES: Final = 1 << 20
"""Unsent bytes of a TCP connection from which it does not keep up."""
_RESET: Final = struct.pack("ii", 1, 0)
"""Linger on, for no time: closing forgets the connection."""


class Listener:
    """Alice's side: `on_connection` is called with each connection; over a line with one at a time."""

    def __init__(self, address: str) -> None:
        """Use `listen`."""
        self.address = address
        self.server: asyncio.Server | None = None
        self.line: SerialLine | None = None
        self.serving: asyncio.Task[None] | None = None
        """Completes, with an error, when a line's connections are taken no more."""

    async def stop(self) -> None:
        """Take no more connections."""
        if self.server is not None:
            self.server.close()
        if self.serving is not None:
            self.serving.cancel()
            await asyncio.wait([self.serving])

    def close(self) -> None:
        """Give the line back, once connections have ended."""
        if self.line is not None:
            self.line.close()


async def listen(config: LinkConfig, on_connection: OnConnection) -> Listener:
    """Begin to take connections. Raises ConfigError when the address or the line cannot be used."""
    if config.channel is not None:
        listener = Listener(str(config.channel))
        listener.line = _open_line(config.channel)
        listener.serving = asyncio.ensure_future(_serve_line(listener.line, on_connection))
        return listener

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=_QUEUE_BYTES)
        await on_connection(reader, writer)

    host, port = split_address(config.listen or "")
    try:
        server = await asyncio.start_server(connected, host.strip("[]"), port)
    except OSError as error:
        raise ConfigError(f"Address {config.listen} cannot be used: {error.strerror}.") from None
    listener = Listener(f"{host}:{server.sockets[0].getsockname()[1]}")
    listener.server = server
    return listener


class Caller:
    """Bob's side."""

    def __init__(self, config: LinkConfig) -> None:
        """Raises ConfigError when the line cannot be used."""
        self._line = None if config.channel is None else _open_line(config.channel)
        self._tcp_address = config.connect or ""
        self.address = self._tcp_address if config.channel is None else str(config.channel)

    async def connect(self) -> Streams:
        """Return a connection: of a line when the other end is there, else at once. Raises TransientError."""
        if self._line is not None:
            return await self._line.connect()
        host, port = split_address(self._tcp_address)
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(host.strip("[]"), port)
        except (OSError, TimeoutError) as error:
            raise TransientError(f"Alice is not reachable at {self._tcp_address}") from error
        if writer.get_extra_info("sockname") == writer.get_extra_info("peername"):
            # Alice's port is one that the kernel gives to outgoing connections, and this one got it: it is connected
            # with itself (simultaneous open, RFC 9293, section 3.5) and would keep her from listening, a minute longer
            # if it ended without a reset.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
            raise TransientError(f"Alice is not reachable at {self._tcp_address}")
        writer.transport.set_write_buffer_limits(high=_QUEUE_BYTES)
        return reader, writer

    def close(self) -> None:
        """Give the line back."""
        if self._line is not None:
            self._line.close()


async def _serve_line(line: SerialLine, on_connection: OnConnection) -> None:
    while True:
        await on_connection(*await line.connect())


def _open_line(channel: SerialChannel) -> SerialLine:
    line = SerialLine(str(channel.path), channel.bits_per_s)
    try:
        line.open_port()
    except PortError as error:
        raise ConfigError(f"The classical channel's {error}.") from None
    return line
