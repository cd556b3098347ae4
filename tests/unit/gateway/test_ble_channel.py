"""One board's connection: frames survive cutting and joining; loss, floods and garbage cost what they should."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_gateway.ble.channel import (
    BYTES_PER_S,
    FRAGMENT_COST,
    MAX_GARBAGE,
    MAX_QUEUED,
    MAX_QUEUED_BYTES,
    MAX_UNANSWERED,
    Channel,
)
from qepa_gateway.errors import Refused
from qepa_wire import frame as wire
from qepa_wire import measures, payloads
from qepa_wire.fragments import ATT_BYTES, MAX_MTU, MIN_MTU, Fragmenter, Reassembler

mtus = st.integers(MIN_MTU, MAX_MTU)
frames = st.lists(st.binary(min_size=1, max_size=600), min_size=1, max_size=6)


def cut(frame_list, mtu):
    cutter, fragments = Fragmenter(), []
    cutter.reset(mtu)
    for frame in frame_list:
        cutter.load(frame)
        while (fragment := cutter.next()) is not None:
            fragments.append(bytes(fragment))
    return fragments


class End:
    def __init__(self, mtu=MAX_MTU, max_down=8192):
        self.counts = Counter()
        self.channel = Channel(mtu, max_down, lambda reason: self.counts.update([reason]))

    def take(self, fragments, now_ms=0):
        return [frame for each in fragments if (frame := self.channel.received(each, now_ms)) is not None]

    def down(self):
        fragments = []
        while (fragment := self.channel.next_fragment()) is not None:
            fragments.append(fragment)
        return fragments


def a_second_of(*waves):
    """What a board sends in a second: its longest care record, and ``waves``, each (channel, axes, fs_hz, peaks)."""
    care = payloads.Care(1, 1, 0, 0, 0, 0, ((measures.HEART_RATE, 100, 72),) * payloads.MAX_MEASURES)
    sealed = [(wire.CARE, payloads.encode_care(bytes(32), bytes(16), 1, 1, care))]
    for channel, axes, fs_hz, peaks in waves:
        wave = payloads.Wave(channel, axes, fs_hz, 1, 0, peaks, bytes(2 * axes * fs_hz))
        sealed.append((wire.WAVE, payloads.encode_wave(bytes(32), bytes(16), 1, 1, wave)))
    return [wire.encode(type_, 1, 1, 1, payload, bytes(32)) for type_, payload in sealed]


ECG = (payloads.WAVE_ECG, 2, 250, (50, 130, 210))
MOTION = (payloads.WAVE_ACCEL, 3, 104, ())
LONGEST_INTERVAL_S = 0.05  # le_conn_max_interval of Linux, 0x28; net/bluetooth/hci_core.c


@pytest.mark.parametrize("mtu", [MIN_MTU, 185, MAX_MTU])
def test_two_leads_at_250_hz_are_well_below_what_a_board_may_send(mtu):
    sent = a_second_of(ECG, MOTION)
    fragments = cut(sent, mtu)
    on_air = sum(len(each) + ATT_BYTES for each in fragments)
    print(f"MTU {mtu}: {sum(map(len, sent))} bytes/s of frames, {len(fragments)} notifications/s, {on_air} bytes/s")
    assert sum(len(each) + FRAGMENT_COST for each in fragments) < BYTES_PER_S / 2


def test_at_the_mtu_that_boards_ask_for_one_notification_in_a_connection_event_is_enough_for_them():
    assert len(cut(a_second_of(ECG, MOTION), MAX_MTU)) * LONGEST_INTERVAL_S < 0.75


@given(mtus, frames)
def test_frames_up_arrive_byte_for_byte_and_in_order(mtu, sent):
    assert End().take(cut(sent, mtu)) == sent


@given(mtus, frames)
def test_frames_down_fit_the_mtu_and_arrive_byte_for_byte_and_in_order(mtu, sent):
    end = End(mtu)
    for frame in sent:
        end.channel.answer(frame)
    board, got = Reassembler(8192), []
    for fragment in end.down():
        assert len(fragment) <= mtu - 3
        if (frame := board.push(fragment)) is not None:
            got.append(frame)
    assert got == sent


@given(mtus, frames, st.lists(st.tuples(st.integers(0, 200), st.sampled_from(["drop", "repeat", "swap"])), max_size=8))
def test_lost_repeated_and_swapped_fragments_make_no_frame_that_was_not_sent(mtu, sent, faults):
    fragments = cut(sent, mtu)
    for index, fault in faults:
        if index >= len(fragments):
            continue
        if fault == "drop":
            del fragments[index]
        elif fault == "repeat":
            fragments.insert(index, fragments[index])
        elif index + 1 < len(fragments):
            fragments[index : index + 2] = reversed(fragments[index : index + 2])
    got = End().take(fragments)
    # A frame of one fragment may be handed up twice, when its swapped neighbour hides the repetition: MACs, numbers
    # and windows tell. What comes up is one of those that were sent, unless 64 fragments were lost in one place.
    assert set(got) <= set(sent)


@given(st.lists(st.binary(max_size=MAX_MTU), max_size=80))
def test_garbage_is_counted_and_raises_nothing_but_refused(fragments):
    end = End()
    end.take(fragments)
    assert all(reason in ("truncated", "fragment", "length") for reason in end.counts)


def test_a_garbage_sender_is_ended():
    end = End()
    with pytest.raises(Refused) as caught:
        end.take([b"\x05garbage"] * (MAX_GARBAGE + 1))
    assert caught.value.reason == "garbage"


def test_who_is_never_answered_is_ended_and_an_answer_starts_anew():
    end = End()
    fragments = cut([b"x"] * (2 * MAX_UNANSWERED), MAX_MTU)
    end.take(fragments[:MAX_UNANSWERED])
    assert end.channel.answer(b"ack")
    assert not end.channel.answer(b"order")  # answers nothing new
    end.take(fragments[MAX_UNANSWERED:])
    with pytest.raises(Refused) as caught:
        end.take(cut([b"y"] * 1, MAX_MTU))
    assert caught.value.reason == "unanswered"


def test_a_flood_is_ended_and_what_a_board_kept_for_hours_is_none():
    kept = cut([bytes(140)] * 540, MIN_MTU)  # a full ring of care records at the smallest MTU
    end = End()
    for start in range(0, len(kept), 100):
        end.take(kept[start : start + 100])
        end.channel.answer(b"ack")
    streaming = Fragmenter()
    streaming.reset(MAX_MTU)
    now_ms = 0
    for _ in range(3600):  # an hour of a kilobyte a second
        now_ms += 1000
        streaming.load(bytes(1024))
        while (fragment := streaming.next()) is not None:
            end.channel.received(bytes(fragment), now_ms)
        end.channel.answer(b"ack")
    fragments = [bytes([0xC0 | number % 64]) + bytes(200) for number in range(20_000)]
    assert flooded(end, fragments, now_ms, bytes_per_s=2 * BYTES_PER_S) == "flood"


def flooded(end, fragments, now_ms, *, bytes_per_s):
    """Why the connection is ended under so much a second, every frame answered; None if it is not."""
    for number, fragment in enumerate(fragments):
        end.channel.answer(b"ack")
        try:
            end.channel.received(fragment, now_ms + 1000 * len(fragment) * number // bytes_per_s)
        except Refused as error:
            return error.reason
    return None


def test_what_a_slow_board_has_no_room_for_is_dropped_and_counted_and_never_cut():
    end = End(max_down=4096)
    for number in range(MAX_QUEUED + 5):
        end.channel.answer(number.to_bytes(2, "big"))
    end.channel.answer(bytes(4097))
    assert end.counts == {"slow": 5, "too_long": 1}
    board = Reassembler(4096)
    got = [frame for each in end.down() if (frame := board.push(each)) is not None]
    assert got == [number.to_bytes(2, "big") for number in range(MAX_QUEUED)]
    for _ in range(MAX_QUEUED_BYTES // 4096 + 3):
        end.channel.answer(bytes(4096))
    assert end.counts["slow"] == 8
