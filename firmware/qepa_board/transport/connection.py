"""Keeps one MQTT connection to the broker: connects, reconnects with back-off and jitter, moves packets."""

import asyncio
import errno
import os
import select
import socket

from ..errors import BoardError
from .mqtt import READY, MqttCore, MqttError

POLL_MS = 50
CONNECT_MS = 10000
BACKOFF_FIRST_MS = 500
BACKOFF_LONGEST_MS = 30000
_READ_BYTES = 512  # what comes down is short, and a heap that has been in use has no large hole
_NOT_YET = (errno.EAGAIN, errno.EINPROGRESS, errno.EALREADY, getattr(errno, "ENOTCONN", 128), 107, 128)


class ConnectionLostError(Exception):
    """The broker closed the connection, or it never stood, or is not who it should be."""


class Connection:
    """Publishes what ``source`` has and hands what comes down to ``sink``.

    source: next_frame(now_ms) -> bytes or None, connected(), disconnected(reason); sink: called with each payload;
    clock() -> now_ms; tls: a BrokerTls, or None for a connection in clear. Neither ever stands in for the other.
    """

    def __init__(
        self, host, port, client_id, topic_up, topic_down, source, sink, clock, user=None, password=None, tls=None
    ):
        self._address = (host, port)
        self._client_id = client_id
        self._topic_up = topic_up
        self._topic_down = topic_down
        self._source = source
        self._sink = sink
        self._clock = clock
        self._login = (user, password)
        self._tls = tls
        self._inbox = bytearray(_READ_BYTES)
        self.ready = False
        self.connects = 0
        self.faults = 0
        self.last_fault = ""

    async def run(self):
        """Stay connected for ever."""
        backoff_ms = BACKOFF_FIRST_MS
        while True:
            before = self.connects
            try:
                await self._session()
            except (OSError, MqttError, ConnectionLostError, BoardError) as error:
                self.faults += 1
                self.last_fault = "%s: %s" % (type(error).__name__, error)
                self._source.disconnected(self.last_fault)
            self.ready = False
            if self.connects != before:
                backoff_ms = BACKOFF_FIRST_MS
            # Half of it at random: boards of a ward must not all come back in the same instant.
            await asyncio.sleep_ms(backoff_ms // 2 + int.from_bytes(os.urandom(2), "big") * backoff_ms // 131072)
            backoff_ms = min(2 * backoff_ms, BACKOFF_LONGEST_MS)

    def show_heart_rate(self, hr_bpm, contact):
        """Bluetooth's alone; here it is not shown."""

    def hide_heart_rate(self):
        """Likewise."""

    async def _session(self):
        host, port = self._address
        address = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)[0][-1]
        sock = socket.socket()
        try:
            sock.setblocking(False)
            try:
                sock.connect(address)
            except OSError as error:
                if error.errno not in _NOT_YET:
                    raise
            if self._tls is not None:
                await self._converse_in_tls(sock)
            else:
                await self._converse(sock if hasattr(sock, "readinto") else sock.makefile("rwb", buffering=0))
        finally:
            sock.close()

    async def _converse_in_tls(self, sock):
        await self._stands(sock)  # TLS takes a connection that is not there yet for a broken one
        stream = self._tls.wrap(sock)
        try:
            await self._converse(stream)
        except ValueError as error:
            raise ConnectionLostError("the broker's certificate is refused: " + str(error).strip())  # noqa: B904
        finally:
            stream.close()

    async def _stands(self, sock):
        poller = select.poll()
        poller.register(sock, select.POLLOUT)
        deadline_ms = self._clock() + CONNECT_MS
        while True:
            found = poller.poll(0)
            if found and found[0][1] & (select.POLLERR | select.POLLHUP):
                raise ConnectionLostError("nobody listens at %s port %d" % self._address)
            if found:
                return
            if self._clock() >= deadline_ms:
                raise ConnectionLostError("no answer from %s port %d" % self._address)
            await asyncio.sleep_ms(POLL_MS)

    async def _converse(self, stream):
        core = MqttCore(self._client_id, self._topic_down, *self._login)
        view = memoryview(self._inbox)
        await self._write(stream, core.connect(self._clock()), CONNECT_MS)
        while True:
            count = stream.readinto(self._inbox)
            if count == 0:
                raise ConnectionLostError("closed by the broker")
            if count:
                await self._received(core, stream, view[:count])
            busy = bool(count)
            now_ms = self._clock()
            packet = core.poll(now_ms)
            if packet is None and core.state == READY:
                payload = self._source.next_frame(now_ms)
                if payload is not None:
                    packet = core.publish(self._topic_up, payload, now_ms)
            if packet is not None:
                await self._write(stream, packet, CONNECT_MS)
                busy = True
            await asyncio.sleep_ms(0 if busy else POLL_MS)

    async def _received(self, core, stream, data):
        replies, payloads = core.receive(data, self._clock())
        for reply in replies:
            await self._write(stream, reply, CONNECT_MS)
        if core.state == READY and not self.ready:
            self.ready = True
            self.connects += 1
            self._source.connected()
        for payload in payloads:
            self._sink(payload)

    async def _write(self, stream, packet, patience_ms):
        """Write all of ``packet``; a connection that takes nothing for ``patience_ms`` is lost."""
        rest = memoryview(packet)
        deadline_ms = self._clock() + patience_ms
        while len(rest) > 0:
            try:
                count = stream.write(rest)
            except OSError as error:
                if error.errno not in _NOT_YET or self.ready:
                    raise
                count = None
            if count:
                rest = rest[count:]
                deadline_ms = self._clock() + patience_ms
            elif self._clock() >= deadline_ms:
                raise ConnectionLostError("the broker takes no data")
            else:
                await asyncio.sleep_ms(POLL_MS)
