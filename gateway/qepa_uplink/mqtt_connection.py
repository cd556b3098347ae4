"""One connection to an MQTT broker on asyncio, which reads and writes many messages at a time.

A library that calls the kernel several times a message spends more time there than a gateway does on the message.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from . import mqtt_packets as mqtt
from .errors import UplinkError

_TIMEOUT_S = 10.0
_MAX_BUFFERED = 16 << 20
Receive = Callable[[str, bytes], None]


class BrokerLostError(Exception):
    """The connection broke, was refused or could not be made; the message says why."""


class MqttConnection(asyncio.Protocol):
    """Made by :meth:`open`. Messages go to ``receive`` in order of arrival; what it raises, :meth:`wait` raises."""

    def __init__(self, receive: Receive, keepalive_s: float) -> None:
        self._receive = receive
        self._keepalive_s = keepalive_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._packets = mqtt.Packets()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._outgoing: list[bytes] = []
        self._pending_bytes = 0
        self._next_id = 0
        self._heard = True
        self._ticking: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()

    @classmethod
    async def open(
        cls,
        address: tuple[str, int],
        client_id: str,
        login: tuple[str | None, str | None],
        tls: ssl.SSLContext | None,
        receive: Receive,
        *,
        keepalive_s: int = 15,
    ) -> "MqttConnection":
        """Connect and log in within ten seconds; raises BrokerLostError."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                _, connection = await loop.create_connection(lambda: cls(receive, keepalive_s), *address, ssl=tls)
        except (OSError, TimeoutError) as error:
            raise BrokerLostError(f"no connection: {error or type(error).__name__}") from error
        try:
            hello = mqtt.connect(client_id, *login, keepalive_s)
            if reason := mqtt.refusal(await connection._ask(mqtt.CONNACK, hello)):
                raise BrokerLostError(f"the broker refuses: {reason}")
        except BaseException:
            connection.close()
            raise
        connection._tick()
        return connection

    async def subscribe(self, topics: Sequence[tuple[str, int]]) -> None:
        """Subscribe to (filter, QoS); raises BrokerLostError if there is no answer. A refused filter stays silent."""
        await self._ask(mqtt.SUBACK, mqtt.subscribe(self._new_id(), topics))

    def publish(self, topic: str, payload: bytes, qos: int) -> bool:
        """Send with what else is sent in this turn of the loop; False if too much waits already."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._pending_bytes + self._transport.get_write_buffer_size() > _MAX_BUFFERED:
            return False
        self._write(mqtt.publish(topic, payload, self._new_id() if qos else 0))
        return True

    async def wait(self) -> None:
        """Wait until the connection ends: raises BrokerLostError, or what ``receive`` raised."""
        await asyncio.shield(self._ended)

    def close(self) -> None:
        """Say goodbye and hang up."""
        if self._transport is not None and not self._transport.is_closing():
            self._write(mqtt.DISCONNECT_PACKET)
            self._flush()
            self._transport.close()
        self._end(BrokerLostError("closed"))

    def _new_id(self) -> int:
        self._next_id = self._next_id % 0xFFFF + 1
        return self._next_id

    async def _ask(self, answer: int, packet: bytes) -> bytes:
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[answer] = future
        self._write(packet)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                either: set[asyncio.Future[Any]] = {future, self._ended}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError as error:
            raise BrokerLostError("the broker does not answer") from error
        if not future.done():
            await self.wait()
        return future.result()

    def _write(self, packet: bytes) -> None:
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packet)
        self._pending_bytes += len(packet)

    def _flush(self) -> None:
        outgoing, self._outgoing, self._pending_bytes = self._outgoing, [], 0
        if outgoing and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(outgoing))

    def _tick(self) -> None:
        """Twice a keepalive: the broker must have been heard since the last time, if only with an answer to a ping."""
        if not self._heard:
            self._end(BrokerLostError("the broker is silent"))
            return
        self._heard = False
        self._write(mqtt.PINGREQ_PACKET)
        self._ticking = self._loop.call_later(self._keepalive_s / 2, self._tick)

    def _end(self, error: BaseException) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        if self._transport is not None and not isinstance(error, BrokerLostError):
            self._transport.abort()
        elif self._transport is not None:
            self._transport.close()
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # noted: not everybody waits for it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._end(BrokerLostError(str(exc or "the broker hung up")))

    def data_received(self, data: bytes) -> None:
        """Of asyncio."""
        self._heard = True
        if self._ended.done():
            return
        acknowledgements = []
        try:
            for first, body in self._packets.feed(data):
                kind = first & 0xF0
                if kind == mqtt.PUBLISH:
                    topic, payload, packet_id = mqtt.open_publish(first, body)
                    self._receive(topic, payload)
                    if packet_id:
                        acknowledgements.append(mqtt.puback(packet_id))
                elif (future := self._waiting.pop(kind, None)) is not None and not future.done():
                    future.set_result(body)
        except UplinkError as error:
            self._end(BrokerLostError(str(error)))
        except Exception as error:  # of the owner's, who gets it from wait()
            self._end(error)
        if acknowledgements:
            self._write(b"".join(acknowledgements))
