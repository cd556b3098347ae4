"""One-time blocks on the board: what is used, what is left to alerts, what the gateway is told and believed."""

import hashlib
import itertools

import pytest

from qepa_board.errors import BoardError
from qepa_board.keys.blocks import ALERT_RESERVE, MAX_BLOCKS, PREFIX, BlockStore
from qepa_board.keys.counters import Counters
from qepa_board.keys.keyring import Epoch
from qepa_board.transport.link import PADS_AGAIN_MS, Link
from qepa_board.transport.outbox import Outbox
from qepa_wire import frame as wire
from qepa_wire import one_time
from qepa_wire.keys import LINK_ALERT, LINK_MAC_DOWN, derive
from qepa_wire.payloads import (
    BLOCK_GONE,
    Alert,
    HeldBlock,
    Hello,
    decode_alert,
    decode_pads,
    encode_ack,
    encode_held,
)

BOARD = 7
KEY = bytes([9]) * 32
ALERT = Alert(1, 1, 4, 1, 52)
ALERT_BYTES = 42


def block(number, size=512):
    return bytes([number]) * 16 + hashlib.shake_128(bytes([number])).digest(size)


def id_of(number):
    return bytes([number]) * 16


def store_with(flash, *numbers, size=512, held=True):
    store = BlockStore(flash)
    if numbers:
        store.load(b"".join(block(number, size) for number in numbers), size)
    if held:
        store.confirm([HeldBlock(key_id, 0) for key_id in store.key_ids()])
    return store


def test_bytes_come_in_order_once_and_are_gone_from_flash(flash):
    store = store_with(flash, 1)
    first, second = store.take_alert(), store.take_alert()
    whole = block(1)[16:]
    assert (first.key_id, first.offset, first.key, first.pad) == (id_of(1), 0, whole[:32], whole[32:42])
    assert (second.offset, second.key + second.pad) == (42, whole[42:84])
    assert not any(whole[:84][i : i + 16] in flash.files[PREFIX + "00000001"] for i in range(0, 68))
    again = store_with(flash)
    assert again.take_alert().offset == 84


@pytest.mark.parametrize("applied", [False, True])
def test_no_byte_is_taken_twice_whenever_the_power_fails(flash, power_cut, applied):
    for moment in itertools.count(1):
        flash.__init__()
        store_with(flash, 1, 2)
        used = set()
        flash.operations, flash.dies_at, flash.applied = 0, moment, applied
        died = False
        try:
            drain(store_with(flash), used)
        except power_cut:
            died = True
        flash.dies_at = None
        drain(store_with(flash), used)
        if not died:
            assert moment > 5
            assert len(used) == 2 * 512 - 2 * (512 % ALERT_BYTES)
            return


def drain(store, used):
    while (taken := store.take_alert()) is not None:
        these = {(taken.key_id, i) for i in range(taken.offset, taken.offset + ALERT_BYTES)}
        assert not these & used
        used |= these


def test_only_blocks_that_the_gateway_holds_are_used(flash):
    store = store_with(flash, 1, 2, held=False)
    assert store.take_alert() is None
    store.confirm([HeldBlock(id_of(2), 0)])
    assert store.take_alert().key_id == id_of(2)
    assert not store.all_held()
    assert store_with(flash, held=False).take_alert() is None, "a new boot waits for the gateway's word"


def test_vectors_leave_the_end_of_the_last_block_to_alerts(flash):
    store = store_with(flash, 1, 2)
    vectors = []
    while (taken := store.take_vector(68)) is not None:
        vectors.append((taken.key_id[0], taken.offset))
    assert vectors == [(1, 0), (1, 100), (1, 200), (1, 300), (1, 400), (2, 0), (2, 100)]
    assert store.left() == 12 + 312
    assert ALERT_RESERVE > 312 - 100
    alerts = 0
    while store.take_alert() is not None:
        alerts += 1
    assert alerts == 312 // ALERT_BYTES


def test_a_flash_that_refuses_costs_no_alert(flash, monkeypatch):
    store = store_with(flash, 1)

    def full(name, data):
        raise BoardError("flash", "full")

    monkeypatch.setattr(flash, "write", full)
    assert store.take_alert() is None


def test_an_altered_block_is_dropped(flash):
    store = store_with(flash, 1, 2)
    flash.files[PREFIX + "00000001"] = flash.files[PREFIX + "00000001"][:-1] + b"?"
    assert store.take_alert().key_id == id_of(2)
    assert store.key_ids() == [id_of(2)]
    assert store.changed


def test_a_flash_that_went_back_in_time_goes_on_where_the_gateway_says(flash):
    store = store_with(flash, 1)
    before = dict(flash.files)
    for _ in range(3):
        store.take_alert()
    flash.files = before
    old = store_with(flash, held=False)
    old.confirm([HeldBlock(id_of(1), 3 * ALERT_BYTES)])
    assert old.take_alert().offset == 3 * ALERT_BYTES
    assert BlockStore(flash).left() == 512 - 4 * ALERT_BYTES


def test_a_block_that_the_gateway_will_never_hold_is_removed(flash):
    store = store_with(flash, 1, 2, held=False)
    store.confirm([HeldBlock(id_of(1), BLOCK_GONE), HeldBlock(id_of(2), 0)])
    assert store.key_ids() == [id_of(2)]


def test_the_dock_loads_while_the_application_runs(flash):
    running = store_with(flash)
    assert BlockStore(flash).load(block(1) + block(2) + block(1), 512) == (2, 1)
    assert running.key_ids() == []
    running.refresh()
    assert running.key_ids() == [id_of(1), id_of(2)]
    assert BlockStore(flash).load(block(2) + block(3), 512) == (1, 1)
    running.refresh()
    assert running.key_ids() == [id_of(1), id_of(2), id_of(3)]


@pytest.mark.parametrize(
    ("data", "size"), [(b"", 512), (block(1)[:-1], 512), (block(1, 32), 32), (block(1, 8192), 8192)]
)
def test_what_is_no_block_is_refused(flash, data, size):
    with pytest.raises(BoardError) as refused:
        BlockStore(flash).load(data, size)
    assert refused.value.reason == "blocks"
    assert not flash.files


def test_there_is_room_for_so_many(flash):
    with pytest.raises(BoardError, match="no room"):
        BlockStore(flash).load(b"".join(block(n, 64) for n in range(1, MAX_BLOCKS + 2)), 64)
    assert not flash.files


# The link


def make_link(flash, *numbers):
    counters = Counters.create(flash)
    counters.start_epoch(bytes(16), 0, KEY)
    link = Link(BOARD, counters, Outbox(flash), store_with(flash, *numbers, held=False))
    link.begin(Epoch(counters.epoch, bytes(16), 0, KEY), lambda: Hello(bytes(16), 0, 1, 0, 0, 1, 0xFFFF, 0, 0))
    link.connected()
    return link


def drained(link, now_ms):
    frames = []
    while (data := link.next_frame(now_ms)) is not None:
        frames.append(wire.parse(data, wire.UP_TYPES))
    return frames


class Gateway:
    def __init__(self, link):
        self.link, self.seq = link, 0

    def say(self, type_, payload):
        self.seq += 1
        self.link.receive(wire.encode(type_, BOARD, 1, self.seq, payload, derive(KEY, LINK_MAC_DOWN)))

    def acknowledge(self, frames):
        self.say(wire.ACK, encode_ack([frame.seq for frame in frames]))

    def hold(self, *numbers):
        self.say(wire.PADS_HELD, encode_held([HeldBlock(id_of(number), 0) for number in numbers]))


def test_the_gateway_is_told_of_blocks_after_hello_until_it_holds_them_all(flash):
    link = make_link(flash, 1, 2)
    gateway = Gateway(link)
    assert [frame.type for frame in drained(link, 0)] == [wire.HELLO]
    gateway.acknowledge([wire.parse(link._hello[1], wire.UP_TYPES)])
    (pads,) = drained(link, 0)
    assert (pads.type, decode_pads(pads.payload)) == (wire.PADS, [id_of(1), id_of(2)])
    gateway.hold(1)
    assert drained(link, PADS_AGAIN_MS - 1) == []
    assert [frame.type for frame in drained(link, PADS_AGAIN_MS)] == [wire.PADS]
    gateway.hold(1, 2)
    assert drained(link, 10**9) == []
    BlockStore(flash).load(block(3), 512)
    link.blocks.refresh()
    (pads,) = drained(link, 10**9)
    assert decode_pads(pads.payload) == [id_of(1), id_of(2), id_of(3)]


def test_a_board_without_blocks_says_nothing_of_them(flash):
    link = make_link(flash)
    Gateway(link).acknowledge(drained(link, 0))
    assert drained(link, 10**9) == []


def test_an_alert_goes_under_one_time_pads_if_some_are_held_and_at_once_if_not(flash):
    link = make_link(flash, 1)
    gateway = Gateway(link)
    gateway.acknowledge(drained(link, 0))
    link.send_alert(ALERT)
    plain = drained(link, 0)[0]
    assert plain.suite == wire.SUITE_AES256
    assert decode_alert(derive(KEY, LINK_ALERT), plain.seq, plain.payload) == ALERT
    gateway.hold(1)
    link.send_alert(ALERT)
    masked = drained(link, 0)[0]
    assert masked.suite == wire.SUITE_OTP
    assert one_time.reference(masked) == (id_of(1), 0, ALERT_BYTES)
    opened = one_time.open_one_time(masked, block(1)[16 : 16 + ALERT_BYTES])
    assert one_time.unmask_alert(opened) == ALERT


def test_a_spent_block_is_listed_until_what_used_it_is_acknowledged(flash):
    link = make_link(flash, 1)
    gateway = Gateway(link)
    gateway.acknowledge(drained(link, 0))
    gateway.hold(1)
    for _ in range(512 // ALERT_BYTES):
        link.send_alert(ALERT)
    waiting = [frame for frame in drained(link, 0) if frame.type == wire.ALERT]
    assert link.blocks.left() < ALERT_BYTES
    gateway.acknowledge(waiting[:-1])
    assert link.blocks.key_ids() == [id_of(1)]
    gateway.acknowledge(waiting[-1:])
    assert link.blocks.key_ids() == []
    (pads,) = drained(link, 0)
    assert decode_pads(pads.payload) == []
