"""Link: order of sending, resending, and what is refused coming down."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qepa_board.keys.counters import Counters
from qepa_board.keys.keyring import Epoch
from qepa_board.transport.link import HANDOVER_MS, HELLO_AGAIN_AFTER, RESEND_FIRST_MS, RESEND_LONGEST_MS, Link
from qepa_board.transport.outbox import Outbox
from qepa_wire import frame as wire
from qepa_wire.keys import LINK_MAC_DOWN, derive
from qepa_wire.payloads import WAVE_ECG, Alert, Care, Hello, Wave, decode_care, decode_wave, encode_ack, encode_revoke

BOARD = 7
KEYS = [bytes([n]) * 32 for n in range(5)]


def begin(link, counters, key):
    counters.start_epoch(bytes(16), 0, key)
    link.begin(Epoch(counters.epoch, bytes(16), 0, key), lambda: Hello(bytes(16), 0, 1, 0, 0, 1, 0xFFFF, 0, 0))


@pytest.fixture
def counters(flash):
    return Counters.create(flash)


@pytest.fixture
def link(flash, counters):
    link = Link(BOARD, counters, Outbox(flash))
    begin(link, counters, KEYS[1])
    return link


def down(type_, payload, seq=1, epoch=1, key=KEYS[1], board=BOARD):
    return wire.encode(type_, board, epoch, seq, payload, derive(key, LINK_MAC_DOWN))


def drain(link, now_ms):
    frames = []
    while (data := link.next_frame(now_ms)) is not None:
        frames.append(wire.parse(data, wire.UP_TYPES))
    return frames


def types(frames):
    return [frame.type for frame in frames]


def test_hello_goes_first_then_alerts_vectors_and_the_newest_care_record(link):
    for t_ms in (1000, 2000):
        link.send_care(KEYS[2], b"c" * 16, Care(t_ms, 1, 0, 255, 0, 0, ()))
    link.send_vector(1, 1, 0, bytes(4 * 16 + 16))
    link.send_alert(Alert(1, 1, 1, 1, 0))
    frames = drain(link, 0)
    assert types(frames) == [wire.HELLO, wire.ALERT, wire.VECTOR, wire.CARE]
    assert decode_care(KEYS[2], BOARD, frames[-1].seq, frames[-1].payload).t_ms == 2000


def wave(first):
    return Wave(WAVE_ECG, 1, 360, 1, first, (), bytes(720))


def test_waveforms_go_when_nothing_else_does_and_only_the_newest(link):
    for first in (0, 360):
        link.send_waves(KEYS[2], b"c" * 16, [wave(first), wave(first + 7)])
    link.send_care(KEYS[2], b"c" * 16, Care(1000, 1, 0, 255, 0, 0, ()))
    link.send_alert(Alert(1, 1, 1, 1, 0))
    frames = drain(link, 0)
    assert types(frames) == [wire.HELLO, wire.ALERT, wire.CARE, wire.WAVE, wire.WAVE]
    opened = [decode_wave(KEYS[2], BOARD, frame.seq, frame.payload) for frame in frames[-2:]]
    assert opened == [wave(360), wave(367)]
    assert wire.WAVE not in types(drain(link, RESEND_LONGEST_MS))


@pytest.mark.parametrize("end", ["withdrawal", "connection", "epoch"])
def test_waveforms_do_not_outlive(end, link, counters):
    link.send_waves(KEYS[2], b"c" * 16, [wave(0)])
    if end == "withdrawal":
        link.drop_care()
    elif end == "connection":
        link.connected()
    else:
        begin(link, counters, KEYS[2])
    assert wire.WAVE not in types(drain(link, 0))


def reboot(flash, key):
    counters = Counters.load(flash)
    link = Link(BOARD, counters, Outbox(flash))
    begin(link, counters, key)
    return link


def test_frames_of_an_earlier_boot_go_before_hello_whose_epoch_ends_their_key(flash, link):
    link.receive(down(wire.ACK, encode_ack([drain(link, 0)[0].seq])))
    link.send_vector(1, 1, 0, bytes(4 * 16 + 16))
    link.send_alert(Alert(1, 1, 1, 1, 0))
    again = reboot(flash, KEYS[2])
    frames = drain(again, 0)
    assert [(frame.type, frame.epoch) for frame in frames] == [(wire.ALERT, 1), (wire.VECTOR, 1)]
    # The gateway acknowledges them before it has read HELLO, under the old key; that key is good for nothing else.
    assert again.receive(down(wire.CARE_REVOKE, bytes(16), seq=9)) is None
    assert again.refused == {"epoch": 1}
    again.receive(down(wire.ACK, encode_ack([frames[0].seq, frames[1].seq]), seq=10))
    assert again.backlog() == 0
    assert [(frame.type, frame.epoch) for frame in drain(again, 0)] == [(wire.HELLO, 2)]


def test_hello_does_not_wait_for_ever_for_frames_of_an_earlier_boot(flash, link):
    link.send_alert(Alert(1, 1, 1, 1, 0))
    again = reboot(flash, KEYS[2])
    assert types(drain(again, 0)) == [wire.HELLO, wire.ALERT]
    assert drain(again, HANDOVER_MS - 1) == []
    assert (wire.HELLO, 2) in [(frame.type, frame.epoch) for frame in drain(again, HANDOVER_MS)]


def test_an_alert_of_a_boot_that_never_met_its_gateway_brings_its_own_hello(flash, link):
    link.send_alert(Alert(1, 1, 1, 1, 0))
    reboot(flash, KEYS[2]).send_alert(Alert(2, 2, 1, 1, 0))
    frames = drain(reboot(flash, KEYS[3]), 0)
    assert [(frame.type, frame.epoch) for frame in frames] == [
        (wire.HELLO, 1), (wire.ALERT, 1), (wire.HELLO, 2), (wire.ALERT, 2),
    ]  # fmt: skip


def test_until_hello_is_acknowledged_orders_under_the_last_key_still_count(link, counters):
    drain(link, 0)
    begin(link, counters, KEYS[2])
    (hello,) = drain(link, 0)
    order = down(wire.ROUND, b"order", seq=3)
    assert link.receive(order).payload == b"order"
    assert link.receive(order) is None
    link.receive(down(wire.ACK, encode_ack([hello.seq]), epoch=2, key=KEYS[2]))
    assert link.receive(down(wire.ROUND, b"order", seq=4)) is None
    assert link.refused == {"replay": 1, "epoch": 1}


def test_resends_the_same_bytes_with_back_off_until_acknowledged(link):
    link.send_vector(1, 1, 0, bytes(4 * 16 + 16))
    first = [link.next_frame(0), link.next_frame(0)]
    assert link.next_frame(RESEND_FIRST_MS - 1) is None
    assert [link.next_frame(RESEND_FIRST_MS), link.next_frame(RESEND_FIRST_MS)] == first
    assert link.next_frame(2 * RESEND_FIRST_MS) is None
    seqs = [wire.parse(data, wire.UP_TYPES).seq for data in first]
    assert link.receive(down(wire.ACK, encode_ack(seqs))) is None
    assert link.is_settled()
    assert link.next_frame(10**9) is None
    assert link.acknowledged == 2


def test_says_hello_again_to_a_gateway_that_acknowledges_nothing(link):
    hello = drain(link, 0)[0]
    link.receive(down(wire.ACK, encode_ack([hello.seq])))
    link.send_vector(1, 1, 0, bytes(4 * 16 + 16))
    seen = []
    for now_ms in range(0, 100 * RESEND_LONGEST_MS, 1000):
        seen += types(drain(link, now_ms))
        if wire.HELLO in seen:
            break
    assert seen.count(wire.VECTOR) == 1 + HELLO_AGAIN_AFTER


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (down(wire.ACK, bytes(4), board=8), "board"),
        (down(wire.ACK, bytes(4), epoch=2), "epoch"),
        (down(wire.ACK, bytes(4), key=KEYS[2]), "mac"),
        (down(wire.ACK, bytes(3)), "payload"),
        (down(wire.ACK, bytes(4), seq=0), "replay"),
        (wire.encode(wire.HELLO, BOARD, 1, 1, b"", KEYS[1]), "type"),
    ],
)
def test_refuses_and_counts(link, data, reason):
    assert link.receive(data) is None
    assert link.refused == {reason: 1}


def test_a_replayed_frame_is_refused(link):
    data = down(wire.CARE_REVOKE, encode_revoke(bytes(16)), seq=5)
    assert link.receive(data).type == wire.CARE_REVOKE
    assert link.receive(data) is None
    assert link.receive(down(wire.CARE_REVOKE, bytes(16), seq=4)) is None
    assert link.refused == {"replay": 2}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=120))
def test_nothing_that_comes_down_raises(link, data):
    link.receive(data)
    link.receive(down(wire.ACK, data))


def test_nothing_is_sent_without_a_key(flash, counters):
    link = Link(BOARD, counters, Outbox(flash))
    link.connected()
    assert link.next_frame(0) is None
    assert link.receive(down(wire.ACK, bytes(4))) is None
    assert link.refused == {"epoch": 1}
