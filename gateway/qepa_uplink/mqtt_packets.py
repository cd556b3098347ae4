"""MQTT 3.1.1 (OASIS, 2014) as far as a client needs it here: packets to bytes and back, no I/O.

QoS 0 and 1, no will, no retained messages, always a clean session: the broker is transport only.
"""

import struct
from collections.abc import Iterator, Sequence

from .errors import UplinkError

CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP = 0x20, 0x30, 0x40, 0x90, 0xD0
PINGREQ_PACKET, DISCONNECT_PACKET = b"\xc0\x00", b"\xe0\x00"
MAX_PACKET = 16 << 20
_CLEAN_SESSION, _PASSWORD, _USERNAME = 0x02, 0x40, 0x80
_REFUSED = {
    1: "it does not speak MQTT 3.1.1",
    2: "it refuses the client identifier",
    3: "it is not available",
    4: "bad user name or password",
    5: "not authorised",
}


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def _packet(first: int, *parts: bytes) -> bytes:
    size = sum(map(len, parts))
    length = bytearray()
    while True:
        size, low = divmod(size, 128)
        if not size:
            length.append(low)
            return b"".join((bytes((first,)), length, *parts))
        length.append(low | 0x80)


def connect(client_id: str, username: str | None, password: str | None, keepalive_s: int) -> bytes:
    """CONNECT (3.1)."""
    flags, login = _CLEAN_SESSION, b""
    if username is not None:
        flags, login = flags | _USERNAME, _text(username)
        if password is not None:
            flags, login = flags | _PASSWORD, login + _text(password)
    head = _text("MQTT") + struct.pack(">BBH", 4, flags, keepalive_s)
    return _packet(0x10, head, _text(client_id), login)


def subscribe(packet_id: int, topics: Sequence[tuple[str, int]]) -> bytes:
    """SUBSCRIBE (3.8) to (filter, QoS)."""
    return _packet(0x82, struct.pack(">H", packet_id), *(_text(topic) + bytes((qos,)) for topic, qos in topics))


def publish(topic: str, payload: bytes, packet_id: int = 0) -> bytes:
    """PUBLISH (3.3); with a ``packet_id`` of QoS 1."""
    if packet_id:
        return _packet(PUBLISH | 0x02, _text(topic), struct.pack(">H", packet_id), payload)
    return _packet(PUBLISH, _text(topic), payload)


def puback(packet_id: bytes) -> bytes:
    """PUBACK (3.4)."""
    return b"\x40\x02" + packet_id


def refusal(connack: bytes) -> str:
    """Why a CONNACK's body refuses; "" if it does not."""
    if len(connack) != 2:
        return "its CONNACK is malformed"
    return _REFUSED.get(connack[1], f"code {connack[1]}") if connack[1] else ""


def open_publish(first: int, body: bytes) -> tuple[str, bytes, bytes]:
    """Return (topic, payload, packet identifier or b"" at QoS 0); raises UplinkError("mqtt")."""
    length = 2 + int.from_bytes(body[:2], "big")
    after = length + 2 if first & 0x06 else length
    if len(body) < after or len(body) < 2 or first & 0x04:
        raise UplinkError("mqtt", "a malformed PUBLISH")
    try:
        return body[2:length].decode(), body[after:], body[length:after]
    except UnicodeDecodeError as error:
        raise UplinkError("mqtt", "a topic that is not UTF-8") from error


class Packets:
    """Cuts a stream of bytes into packets."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (first byte, body) of each packet that is whole; raises UplinkError("mqtt") for what can be none."""
        buffer, at = self._buffer + data if self._buffer else data, 0
        self._buffer = b""
        end = len(buffer)
        while at < end:
            size, shift, body = 0, 0, at + 1
            while body < end and buffer[body] & 0x80 and shift < 21:
                size |= (buffer[body] & 0x7F) << shift
                shift += 7
                body += 1
            if body == end:
                break
            size |= (buffer[body] & 0x7F) << shift
            if buffer[body] & 0x80 or size > MAX_PACKET:
                raise UplinkError("mqtt", "a packet of more than 16 MB")
            body += 1
            if body + size > end:
                break
            yield buffer[at], buffer[body : body + size]
            at = body + size
        self._buffer = buffer[at:]
