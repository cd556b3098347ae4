"""What comes up from boards: every refusal is counted by its reason, nothing is lost, nothing crashes."""

import os
import random

import pytest
from bedside_rig import Rig

from qepa_gateway.boards import SEQ_BLOCK
from qepa_wire import frame, keys, payloads
from qepa_wire.topics import board_up


@pytest.fixture
def ward(tmp_path):
    return Rig(tmp_path, patients=3).begin()


def altered(data, at, value):
    return data[:at] + bytes([value]) + data[at + 1 :]


def test_boards_are_heard_and_acknowledged(ward):
    assert not any(board.outbox for board in ward.boards.values())
    assert not ward.site.refused
    assert {board.ring.highest for board in ward.site.gateway.boards.served()} == {1}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda data: data[:20], "truncated"),
        (lambda _data: b"", "truncated"),
        (lambda data: data[:-1], "length"),
        (lambda data: data + b"x", "length"),
        (lambda data: altered(data, 0, 0x52), "magic"),
        (lambda data: altered(data, 1, 2), "version"),
        (lambda data: altered(data, 2, frame.ACK), "type"),
        (lambda data: altered(data, 3, 3), "suite"),
        (lambda data: altered(data, 3, frame.SUITE_OTP), "mac"),
        (lambda data: altered(data, 4, 2), "topic"),
        (lambda data: altered(data, 8, 9), "unknown_epoch"),
        (lambda data: altered(data, 12, 77), "mac"),
        (lambda data: altered(data, 25, data[25] ^ 1), "mac"),
        (lambda data: altered(data, len(data) - 1, data[-1] ^ 1), "mac"),
    ],
)
def test_a_spoiled_frame_is_counted_by_reason(ward, spoil, reason):
    board = ward.boards[1]
    ward.up(board, spoil(board.alert()))
    ward.pump()
    assert ward.site.refused == {reason: 1}
    assert not ward.server.alerts
    ward.settle()
    assert len(ward.server.alerts) == 1


def test_random_bytes_are_refused_and_nothing_else(ward):
    rng = random.Random(7)
    good = ward.boards[1].alert()
    for _ in range(400):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        ward.up(ward.boards[1], bytes(data[: rng.randrange(len(data) + 1)]))
        ward.up(ward.boards[1], rng.randbytes(rng.randrange(200)))
    ward.site.gateway.receive("qepa/1/board/gw-1/zzzzzzzz/up", good)
    ward.site.gateway.receive("qepa/1/board/gw-1/000000001/up", good)
    ward.pump()
    assert sum(ward.site.refused.values()) >= 800
    assert ward.site.refused["topic"] >= 2


def test_an_unknown_board_is_not_served(ward):
    stranger = type(ward.boards[1])(99, "p-99", "gw-1", ward.kme)
    ward.up(stranger, stranger.boot())
    ward.pump()
    assert ward.site.refused == {"unknown_board": 1}
    assert ward.kme.calls == 3  # none for the stranger


def test_a_duplicate_is_acknowledged_again_and_used_once(ward):
    board = ward.boards[1]
    data = board.alert()
    ward.settle()
    board.received.clear()
    ward.up(board, data)
    ward.pump()
    ward.pump()
    assert [payloads.decode_ack(payload) for type_, payload in board.received if type_ == frame.ACK] == [(board.seq,)]
    assert len(ward.server.alerts) == 1
    assert not ward.site.refused


def test_other_bytes_under_a_number_seen_before_are_refused(ward):
    board = ward.boards[1]
    board.alert()
    ward.settle()
    board.seq -= 1
    ward.up(board, board.alert(kind=2))
    ward.pump()
    assert ward.site.refused == {"seq": 1}
    assert [alert.kind for alert in ward.server.alerts.values()] == [1]


def test_a_replayed_frame_is_no_sign_of_life(ward):
    board = ward.boards[1]
    data = board.alert()
    ward.settle()
    seen_ms = ward.site.gateway.boards.get(1).row.last_seen_ms
    ward.now_ms += 5000
    ward.up(board, data)
    ward.pump()
    assert ward.site.gateway.boards.get(1).row.last_seen_ms == seen_ms


def test_frames_left_of_the_window_are_replays(ward):
    board = ward.boards[1]
    early = board.frame(frame.ALERT, bytes(10))
    board.seq += 2000
    board.alert()
    ward.settle()
    ward.up(board, early)
    ward.pump()
    assert ward.site.refused == {"replay": 1}


def test_a_rekeyed_board_goes_on_and_old_hellos_are_refused(ward):
    board = ward.boards[1]
    old = board.hello()
    board.outbox.clear()
    board.rekey()
    ward.settle()
    assert ward.site.gateway.boards.get(1).ring.highest == 2
    ward.up(board, old)
    ward.pump()
    assert ward.site.refused == {"epoch": 1}


def test_frames_of_the_epoch_before_are_still_taken(ward):
    board = ward.boards[1]
    alert = board.alert()
    hello = board.rekey()
    board.outbox.clear()
    ward.up(board, hello)
    ward.pump()
    ward.settle(3)
    ward.up(board, alert)
    ward.settle(3)
    assert len(ward.server.alerts) == 1
    assert not ward.site.refused


def test_without_pads_the_ratchet_carries_on(ward):
    board = ward.boards[1]
    for _ in range(3):
        ward.now_ms += 5000
        board.boot(pad=False)
        ward.settle()
    assert not board.outbox
    served = ward.site.gateway.boards.get(1)
    assert served.key_source == "ratchet"
    assert ward.site.gateway.status().boards[0].key_source == "ratchet"
    ward.now_ms += 5000
    board.boot()
    ward.settle()
    assert served.key_source == "qkd"


def test_hellos_that_were_lost_do_not_break_the_chain(ward):
    board = ward.boards[1]
    board.boot()
    board.outbox.clear()  # lost for ever: the gateway never asked for that pad
    for _ in range(2):
        board.boot(pad=False)
        board.outbox.clear()
    board.boot(pad=False)
    ward.settle()
    assert not board.outbox
    assert ward.site.gateway.boards.get(1).ring.highest == board.epoch


def test_frames_behind_a_hello_wait_for_its_key(ward):
    board = ward.boards[1]
    board.boot()
    board.alert()
    ward.flush()
    ward.pump()
    ward.pump()
    ward.pump()
    assert len(ward.server.alerts) == 1
    assert not ward.site.refused


def test_a_hello_without_key_is_not_acknowledged_until_there_is_one(ward):
    board = ward.boards[1]
    ward.kme.down = True
    board.boot()
    ward.settle(3)
    assert board.outbox
    assert ward.site.refused["kme_down"] >= 1
    ward.kme.down = False
    ward.now_ms += 10_000
    ward.settle()
    assert not board.outbox


def test_key_lookups_are_limited_for_each_board(ward):
    board = ward.boards[1]
    calls = ward.kme.calls
    for i in range(50):
        record = payloads.Hello(os.urandom(16), 4096, 1, 0, 0, 1, 900, 1, 0)
        ward.up(board, frame.encode(frame.HELLO, 1, 100 + i, 100 + i, payloads.encode_hello(record), bytes(32)))
    ward.settle(3)
    assert ward.kme.calls - calls <= 5
    assert ward.site.refused["rate"] >= 45
    other = ward.boards[2]
    other.boot()
    ward.settle()
    assert not other.outbox


def test_a_pad_survives_a_forged_hello(ward):
    """dec_keys consumes a key: it must not be lost because somebody else named it first."""
    board = ward.boards[1]
    hello = board.boot()
    forged = bytearray(hello)
    forged[-1] ^= 1
    ward.up(board, bytes(forged))
    ward.pump()
    ward.pump()
    assert ward.site.refused == {"mac": 1}
    assert ward.site.gateway.boards.get(1).ring.highest == 1
    ward.settle()
    assert not board.outbox
    assert ward.site.gateway.boards.get(1).ring.highest == 2


def test_a_pad_serves_one_board(ward):
    thief, victim = ward.boards[2], ward.boards[1]
    thief.epoch += 1
    thief.key_id, thief.link = victim.key_id, victim.link
    thief.hello()
    ward.settle(3)
    assert ward.site.refused["key_unknown"] >= 1
    assert ward.site.gateway.boards.get(2).ring.highest == 1


def test_numbers_down_never_repeat_over_restarts(ward):
    seen = []

    def tap(message):
        if message.topic.endswith("/00000001/down"):
            seen.append(int.from_bytes(message.payload[12:16], "little"))
        return False

    ward.lose = tap
    for _ in range(4):
        for _ in range(5):
            ward.boards[1].alert()
            ward.settle(3)
        ward.site.crash()
        ward.site.start()
    assert len(seen) > 15
    assert seen == sorted(set(seen))
    assert max(seen) >= 3 * SEQ_BLOCK


def test_a_restart_keeps_keys_and_windows(ward):
    board = ward.boards[1]
    data = board.alert()
    ward.settle()
    ward.site.crash()
    ward.site.start()
    ward.up(board, data)
    board.alert(active=0)
    ward.settle()
    assert not board.outbox
    assert len(ward.server.alerts) == 2
    assert not ward.site.refused
    assert ward.kme.calls == 3


def test_the_topic_must_be_the_boards(ward):
    board = ward.boards[1]
    data = board.alert()
    ward.site.gateway.receive(board_up("gw-1", 2), data)
    ward.site.gateway.receive(board_up("gw-1", 1) + "/x", data)
    ward.pump()
    assert ward.site.refused == {"topic": 2}


def test_frames_down_cannot_be_sent_up_again(ward):
    taken = []
    ward.lose = lambda message: message.topic.endswith("down") and not taken.append(message.payload)
    board = ward.boards[1]
    board.alert()
    ward.settle(2)
    ward.lose = lambda _message: False
    reflected = bytearray(taken[0])
    reflected[2] = frame.ALERT
    ward.up(board, taken[0])
    ward.up(board, bytes(reflected))
    ward.pump()
    assert ward.site.refused["type"] == 1
    assert ward.site.refused["length" if len(taken[0]) < 36 else "mac"] == 1
    assert keys.LINK_MAC_UP != keys.LINK_MAC_DOWN


def test_a_board_whose_numbers_are_used_up_is_refused(ward):
    board = ward.site.gateway.boards.get(1)
    board.next_seq = board.row.seq_down = 2**32 - 1
    ward.boards[1].alert()
    ward.settle(2)
    assert board.exhausted
    ward.boards[1].alert(kind=2)
    ward.settle(2)
    assert ward.site.refused["exhausted"] >= 1
    assert not ward.site.gateway.status().boards[0].online


def test_a_forged_hello_that_comes_first_does_not_hold_the_real_one_up(ward):
    hello = ward.boards[1].boot()
    ward.up(ward.boards[1], hello[:-1] + bytes([hello[-1] ^ 1]))
    ward.up(ward.boards[1], hello)
    ward.pump()
    ward.pump()
    assert ward.site.gateway.boards.get(1).ring.highest == 2


def test_a_flood_is_cut_off(ward):
    for _ in range(20_010):
        ward.site.gateway.receive("qepa/1/board/gw-1/00000001/up", b"")
    ward.pump()
    assert ward.site.refused == {"overload": 10, "truncated": 20_000}


def test_a_flood_of_long_frames_is_cut_off_before_memory_is(ward, monkeypatch):
    monkeypatch.setattr("qepa_gateway.core.MAX_QUEUED_BYTES", 1000)
    for _ in range(50):
        ward.site.gateway.receive("qepa/1/board/gw-1/00000001/up", bytes(100))
    ward.pump()
    assert ward.site.refused["overload"] == 40
    ward.boards[2].alert()
    ward.settle(2)
    assert not ward.boards[2].outbox  # all is as it was
