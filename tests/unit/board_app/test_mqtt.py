"""MQTT core: what a broker may send, in whatever pieces, and what it may not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_board.transport.mqtt import ANSWER_MS, KEEP_ALIVE_S, MAX_PACKET, READY, MqttCore, MqttError

CONNACK = b"\x20\x02\x00\x00"
SUBACK = b"\x90\x03\x00\x01\x00"
PINGRESP = b"\xd0\x00"


def message(payload, topic=b"down"):
    body = len(topic).to_bytes(2, "big") + topic + payload
    assert len(body) < 16384
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
    return b"\x30" + length + body


def ready():
    core = MqttCore("me", "down")
    core.connect(0)
    core.receive(CONNACK + SUBACK, 0)
    assert core.state == READY
    return core


def test_connect_packet_follows_the_standard():
    packet = MqttCore("me", "down", "user", "pass").connect(0)
    assert packet == b"\x10\x1a\x00\x04MQTT\x04\xc2\x00\x1e\x00\x02me\x00\x04user\x00\x04pass"


def test_subscribes_once_connected():
    core = MqttCore("me", "down")
    core.connect(0)
    assert core.receive(CONNACK, 0) == ([b"\x82\x09\x00\x01\x00\x04down\x00"], [])
    assert core.receive(SUBACK + message(b"x"), 0) == ([], [b"x"])


@given(st.lists(st.binary(max_size=400), max_size=5), st.lists(st.integers(1, 50), min_size=1))
def test_pieces_do_not_matter(payloads, sizes):
    core = MqttCore("me", "down")
    core.connect(0)
    stream = CONNACK + SUBACK + b"".join(message(payload) for payload in payloads) + PINGRESP
    seen, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        seen += core.receive(stream[at : at + size], 0)[1]
        at, turn = at + size, turn + 1
    assert seen == payloads


@settings(max_examples=300)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_raises_one_error_and_nothing_else(data, connected):
    core = ready() if connected else MqttCore("me", "down")
    try:
        core.receive(data, 0)
    except MqttError:
        return
    assert len(core._buffer) <= MAX_PACKET + 5


@pytest.mark.parametrize(
    "data",
    [
        b"\x20\x02\x00\x05",  # CONNACK where none is due
        message(b"x", b"elsewhere"),
        b"\x30\x01\x00",
        b"\x32\x08\x00\x04down\x00\x01",  # QoS 1 was not asked for
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30\xff\xff\x7f",
    ],
)
def test_refuses(data):
    with pytest.raises(MqttError):
        ready().receive(data, 0)


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x05", CONNACK + b"\x90\x03\x00\x01\x80"])
def test_a_broker_that_refuses_is_an_error(answer):
    core = MqttCore("me", "down")
    core.connect(0)
    with pytest.raises(MqttError):
        core.receive(answer, 0)


def test_pings_and_gives_up_on_silence():
    core = ready()
    half = KEEP_ALIVE_S * 500
    assert core.poll(half - 1) is None
    assert core.poll(half) == b"\xc0\x00"
    core.receive(PINGRESP, half + 5)
    assert core.poll(half + ANSWER_MS) is None
    assert core.poll(2 * half + 5) == b"\xc0\x00"
    with pytest.raises(MqttError):
        core.poll(2 * half + 5 + ANSWER_MS)


def test_long_messages_get_a_long_length():
    packet = MqttCore("me", "down").publish("up", bytes(1000), 0)
    assert packet[:5] == b"\x30\xec\x07\x00\x02"
    assert len(packet) == 3 + 4 + 1000
