"""MQTT 3.1.1 client core, as much as a board needs: QoS 0 both ways, one subscription. Sans-IO.

Delivery is acknowledged end to end by frames, so QoS 0 does. Section numbers are those of the OASIS standard
"MQTT Version 3.1.1", 29 October 2014.
"""

import struct

MAX_PACKET = 12288  # a model release with a two-level HSS signature is under 8 kB
KEEP_ALIVE_S = 30
ANSWER_MS = 10000  # how long the broker may take to answer anything

_CONNECT = 0x10
_CONNACK = 0x20
_PUBLISH = 0x30
_SUBSCRIBE = 0x82
_SUBACK = 0x90
_PINGREQ = b"\xc0\x00"
_PINGRESP = 0xD0
_PACKET_ID = 1
_FROM_BROKER = (_CONNACK, _PUBLISH, _SUBACK, _PINGRESP)  # known by the first byte, before the rest is waited for

IDLE = 0
CONNECTING = 1
SUBSCRIBING = 2
READY = 3


class MqttError(Exception):
    """The broker sent what this client does not accept, or nothing in time: connect anew."""


def _packet(first, body):
    length = len(body)
    head = bytearray((first,))
    while True:
        digit = length & 0x7F
        length >>= 7
        if not length:
            head.append(digit)
            return bytes(head) + body
        head.append(digit | 0x80)


def _text(value):
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(data)) + data


class MqttCore:
    """One connection's worth of protocol: packets to send out, bytes received in, messages back.

    ``state`` moves IDLE, CONNECTING, SUBSCRIBING, READY; any fault raises MqttError, after which the object is to be
    thrown away.
    """

    def __init__(self, client_id, topic_down, user=None, password=None):
        self._client_id = client_id
        self._topic_down = topic_down.encode()
        self._user = user
        self._password = password
        self._buffer = bytearray()
        self._heard_ms = 0
        self._sent_ms = 0
        self._deadline_ms = None
        self.state = IDLE

    def connect(self, now_ms):
        """CONNECT packet (3.1), clean session."""
        self.state = CONNECTING
        self._deadline_ms = now_ms + ANSWER_MS
        self._sent_ms = now_ms
        flags = 0x02
        tail = b""
        if self._user is not None:
            flags |= 0x80
            tail += _text(self._user)
            if self._password is not None:
                flags |= 0x40
                tail += _text(self._password)
        body = _text("MQTT") + struct.pack(">BBH", 4, flags, KEEP_ALIVE_S) + _text(self._client_id) + tail
        return _packet(_CONNECT, body)

    def publish(self, topic, payload, now_ms):
        """PUBLISH packet (3.3) with QoS 0."""
        self._sent_ms = now_ms
        return _packet(_PUBLISH, _text(topic) + payload)

    def poll(self, now_ms):
        """Packet that time asks for (PINGREQ, 3.12), or None; raises MqttError when the broker has fallen silent."""
        if self._deadline_ms is not None:
            if now_ms >= self._deadline_ms:
                raise MqttError("no answer from the broker")
        elif self.state == READY and now_ms - min(self._sent_ms, self._heard_ms) >= KEEP_ALIVE_S * 500:
            self._deadline_ms = now_ms + ANSWER_MS
            self._sent_ms = now_ms
            return _PINGREQ
        return None

    def receive(self, data, now_ms):
        """Take received bytes; returns (packets to send, payloads that came on the subscribed topic)."""
        self._heard_ms = now_ms
        self._buffer.extend(data)
        replies = []
        payloads = []
        start = 0
        while True:
            span = self._whole_packet(start)
            if span is None:
                break
            body_start, end = span
            first = self._buffer[start]
            body = bytes(self._buffer[body_start:end])
            start = end
            reply = self._handle(first, body, payloads, now_ms)
            if reply is not None:
                replies.append(reply)
        if start:
            self._buffer = self._buffer[start:]
        return replies, payloads

    def _whole_packet(self, start):
        """(start of body, end) of the packet at ``start`` if it is all there; 2.2.3 for the length."""
        buffer = self._buffer
        if start < len(buffer) and buffer[start] & 0xF0 not in _FROM_BROKER:
            raise MqttError("unexpected packet 0x%02x" % buffer[start])
        length = shift = 0
        at = start + 1
        while True:
            if at >= len(buffer):
                return None
            digit = buffer[at]
            at += 1
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                break
            if shift > 21:
                raise MqttError("malformed length")
        if length > MAX_PACKET:
            raise MqttError("packet of %d bytes" % length)
        return (at, at + length) if at + length <= len(buffer) else None

    def _handle(self, first, body, payloads, now_ms):
        """Act on one packet; returns a packet to send or None."""
        state = self.state
        if first == _CONNACK and state == CONNECTING and len(body) == 2:
            if body[1]:
                raise MqttError("refused with code %d" % body[1])
            self.state = SUBSCRIBING
            self._deadline_ms = now_ms + ANSWER_MS
            return _packet(_SUBSCRIBE, struct.pack(">H", _PACKET_ID) + _text(self._topic_down) + b"\x00")
        if first == _SUBACK and state == SUBSCRIBING and len(body) == 3:
            if body[2] > 2 or body[0] << 8 | body[1] != _PACKET_ID:
                raise MqttError("subscription refused")
            self.state = READY
            self._deadline_ms = None
            return None
        if first == _PINGRESP and state == READY and not body:
            self._deadline_ms = None
            return None
        # A retained or repeated message is one like any other: frames tell old from new themselves.
        if first & 0xF6 == _PUBLISH and state in (SUBSCRIBING, READY):
            payloads.append(self._published(body))
            return None
        raise MqttError("unexpected packet 0x%02x" % first)

    def _published(self, body):
        if len(body) < 2:
            raise MqttError("malformed PUBLISH")
        (length,) = struct.unpack_from(">H", body)
        if body[2 : 2 + length] != self._topic_down:
            raise MqttError("message on a topic that was not asked for")
        return body[2 + length :]
