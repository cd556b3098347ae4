"""Just enough MQTT 3.1.1 to load a broker without being the load: packets made ahead, written and read in bulk."""

import asyncio
import struct
from collections.abc import Callable, Iterable

from ..errors import ToolError

_CONNACK, _PUBLISH, _PUBACK, _SUBACK, _PINGREQ = 0x20, 0x30, 0x40, 0x90, 0xC0
_QOS_1 = 0x02
_MAX_ID = 0xFFFF
_PATIENCE_S = 60.0
_PING_S = 20.0
_KEEPALIVE_S = 60


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def _packet(first: int, body: bytes) -> bytes:
    length, size = bytearray(), len(body)
    while True:
        size, low = divmod(size, 128)
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes([first]) + bytes(length) + body


class RawMqtt(asyncio.Protocol):
    """One connection. ``received`` gets (topic, payload); ``acknowledged`` counts PUBACKs of what was published."""

    def __init__(self, received: Callable[[str, bytes], None]) -> None:
        self._received = received
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next_id = 0
        self._ping: asyncio.TimerHandle | None = None
        self.acknowledged = 0
        self.moved = asyncio.Event()

    @classmethod
    async def connect(
        cls, port: int, user: str, password: str, received: Callable[[str, bytes], None] = lambda _t, _p: None
    ) -> "RawMqtt":
        """Log in at the loopback; raises ToolError if the broker refuses."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: cls(received), "127.0.0.1", port)
        hello = _text("MQTT") + bytes([4, 0xC2]) + struct.pack(">H", _KEEPALIVE_S)
        answer = await protocol._ask(_CONNACK, _packet(0x10, hello + _text(user) + _text(user) + _text(password)))
        if answer[1]:
            raise ToolError(f"the broker refuses {user}: code {answer[1]}")
        protocol._keep_alive()
        return protocol

    async def subscribe(self, *filters: str, qos: int = 1) -> None:
        """Subscribe; raises ToolError if the broker refuses one."""
        body = struct.pack(">H", 1) + b"".join(_text(each) + bytes([qos]) for each in filters)
        answer = await self._ask(_SUBACK, _packet(0x82, body))
        if max(answer[2:]) > 2:
            raise ToolError(f"the broker refuses {filters}")

    def packet(self, topic: str, payload: bytes) -> bytes:
        """A PUBLISH of QoS 1, made ahead."""
        self._next_id = self._next_id % _MAX_ID + 1
        return _packet(_PUBLISH | _QOS_1, _text(topic) + struct.pack(">H", self._next_id) + payload)

    def write(self, packets: Iterable[bytes]) -> None:
        """Send packets that are ready."""
        if self._transport is not None:
            self._transport.write(b"".join(packets))

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1."""
        self.write([self.packet(topic, payload)])

    def close(self) -> None:
        """Hang up."""
        if self._ping is not None:
            self._ping.cancel()
        if self._transport is not None:
            self._transport.close()

    async def _ask(self, answer: int, packet: bytes) -> bytes:
        future = asyncio.get_running_loop().create_future()
        self._waiting[answer] = future
        self.write([packet])
        async with asyncio.timeout(_PATIENCE_S):
            result: bytes = await future
        return result

    def _keep_alive(self) -> None:
        self.write([bytes([_PINGREQ, 0])])
        self._ping = asyncio.get_running_loop().call_later(_PING_S, self._keep_alive)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # of create_connection
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Of asyncio: take all whole packets."""
        buffer, at, answers = self._buffer, 0, bytearray()
        buffer += data
        while True:
            size, shift, body = 0, 0, at + 1
            while body < len(buffer):
                size |= (buffer[body] & 0x7F) << shift
                shift += 7
                body += 1
                if not buffer[body - 1] & 0x80:
                    break
            else:
                break
            if body + size > len(buffer):
                break
            self._take(buffer[at], bytes(buffer[body : body + size]), answers)
            at = body + size
        del buffer[:at]
        if answers and self._transport is not None:
            self._transport.write(answers)
        self.moved.set()

    def _take(self, first: int, body: bytes, answers: bytearray) -> None:
        kind = first & 0xF0
        if kind == _PUBACK:
            self.acknowledged += 1
        elif kind == _PUBLISH:
            length = 2 + int.from_bytes(body[:2], "big")
            topic = body[2:length].decode()
            if first & _QOS_1:
                answers += bytes([_PUBACK, 2]) + body[length : length + 2]
                length += 2
            self._received(topic, body[length:])
        elif (future := self._waiting.pop(kind, None)) is not None and not future.done():
            future.set_result(body)
