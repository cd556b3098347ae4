"""One-time blocks: fetched ahead of use, each byte used once, deleted as it is used, whatever comes and dies when."""

import pytest
from bedside_rig import STREAMS, Rig
from hypothesis import given
from hypothesis import strategies as st

from qepa_gateway.domain.pads import Block, used_up_to
from qepa_gateway.errors import Refused
from qepa_gateway.one_time import GIVEN_UP_AFTER
from qepa_gateway.spool.blocks import BlockStore
from qepa_uplink.messages import AlertReport
from qepa_wire import frame, keys, payloads
from qepa_wire.payloads import BLOCK_GONE

ALERT_BYTES = 42


@pytest.fixture
def ward(tmp_path):
    return Rig(tmp_path, patients=3).begin()


def list_blocks(rig, board):
    rig.up(board, board.pads())
    for _ in range(4):
        rig.pump()


@pytest.fixture
def docked(ward):
    """A ward whose board 1 has one block that the gateway holds too."""
    board = ward.boards[1]
    board.load_block()
    list_blocks(ward, board)
    assert set(board.held) == set(board.blocks)
    return ward


def only_block(board):
    (key_id,) = board.blocks
    return key_id


def free(rig, key_id):
    row = BlockStore(rig.site.spool).find(key_id)
    return None if row is None else row.free


def reports(rig) -> list[AlertReport]:
    return list(rig.server.alerts.values())


def test_a_block_is_fetched_once_ahead_of_use_and_named_to_its_board(docked):
    board, calls = docked.boards[1], docked.kme.calls
    assert board.held == {only_block(board): 0}
    list_blocks(docked, board)
    assert docked.kme.calls == calls
    assert board.held == {only_block(board): 0}


def test_an_alert_under_one_time_pads_arrives_and_its_bytes_are_deleted(docked):
    board = docked.boards[1]
    key_id = only_block(board)
    docked.up(board, board.masked_alert(key_id, kind=4, value=52))
    docked.settle(3)
    (report,) = reports(docked)
    assert (report.board, report.kind, report.active, report.value) == (1, 4, True, 52)
    assert not board.outbox
    assert free(docked, key_id) == [(ALERT_BYTES, 1024)]
    store = BlockStore(docked.site.spool)
    block = store.open(store.find(key_id))
    assert block.key[:ALERT_BYTES] == bytes(ALERT_BYTES)
    assert block.key[ALERT_BYTES:] == board.blocks[key_id][ALERT_BYTES:]


def test_frames_may_overtake_each_other(docked):
    board = docked.boards[1]
    first, second = (board.masked_alert(only_block(board), kind=kind) for kind in (2, 3))
    for data in (second, first):
        docked.up(board, data)
    docked.settle(3)
    assert sorted(report.kind for report in reports(docked)) == [2, 3]
    assert not docked.site.refused


def test_a_round_under_one_time_pads_opens_to_the_exact_sum(tmp_path):
    rig = Rig(tmp_path).begin()
    for board in rig.boards.values():
        board.load_block(2048)
        board.one_time = True
        list_blocks(rig, board)
    rig.run_round(1)
    for stream, _ in STREAMS:
        (partial,) = rig.server.partials_of(1, stream)
        assert partial.contributors == tuple(range(1, 13))
        assert rig.server.open([partial]) == rig.expected(1, stream)
    used = sum(32 + 4 * n_words + 16 for _, n_words in STREAMS)
    assert all(free(rig, only_block(board)) == [(used, 2048)] for board in rig.boards.values())
    assert rig.site.gateway.one_time.frames == 24


@pytest.mark.parametrize("back", [ALERT_BYTES, ALERT_BYTES - 1, 1])
def test_bytes_that_were_used_are_refused(docked, back):
    board = docked.boards[1]
    key_id = only_block(board)
    docked.up(board, board.masked_alert(key_id))
    docked.settle(3)
    board.offsets[key_id] -= back
    docked.up(board, board.masked_alert(key_id, kind=2))
    docked.pump()
    assert docked.site.refused == {"pad_used": 1}
    assert len(reports(docked)) == 1
    assert board.outbox, "what was not taken is not acknowledged"


def test_bytes_beyond_the_block_are_refused(docked):
    board = docked.boards[1]
    key_id = only_block(board)
    board.blocks[key_id] += bytes(100)
    board.offsets[key_id] = 1024 - ALERT_BYTES + 1
    docked.up(board, board.masked_alert(key_id))
    docked.pump()
    assert docked.site.refused == {"pad_used": 1}


def test_a_block_of_another_board_is_refused(docked):
    thief = docked.boards[2]
    key_id = only_block(docked.boards[1])
    thief.blocks, thief.offsets = dict(docked.boards[1].blocks), {key_id: 0}
    list_blocks(docked, thief)
    assert thief.held == {}
    docked.up(thief, thief.masked_alert(key_id))
    docked.pump()
    assert docked.site.refused == {"pad_board": 1, "pad_unknown": 1}
    assert free(docked, key_id) == [(0, 1024)]


def test_a_forgery_under_a_stolen_link_key_neither_passes_nor_keeps_the_true_frame_out(docked):
    board = docked.boards[1]
    key_id = only_block(board)
    true = board.masked_alert(key_id)
    forged = bytearray(true[:-16])
    forged[frame.HEADER_BYTES + 20] ^= 1
    mac_key = board.derive(keys.LINK_MAC_UP)
    parsed = frame.parse(bytes(forged) + bytes(16), frame.UP_TYPES)
    docked.up(board, frame.encode(frame.ALERT, 1, parsed.epoch, parsed.seq, parsed.payload, mac_key, frame.SUITE_OTP))
    docked.pump()
    assert docked.site.refused == {"one_time_mac": 1}
    assert free(docked, key_id) == [(0, 1024)]
    docked.up(board, true)
    docked.settle(3)
    assert len(reports(docked)) == 1
    assert not board.outbox


def test_used_bytes_stay_used_and_duplicates_are_acknowledged_after_a_crash(docked):
    board = docked.boards[1]
    key_id = only_block(board)
    docked.up(board, board.masked_alert(key_id))
    docked.queue, queue = [], docked.queue
    for message in queue:
        docked._hand_over(message)
    docked.site.gateway.step()  # committed, and dead before anything was sent
    docked.site.crash()
    docked.site.start()
    assert free(docked, key_id) == [(ALERT_BYTES, 1024)]
    docked.settle(8)
    assert len(reports(docked)) == 1
    assert not board.outbox
    list_blocks(docked, board)
    assert board.held == {key_id: ALERT_BYTES}, "a board whose flash went back in time goes on from here"


def test_no_block_lies_in_the_spool_in_clear(docked):
    key = docked.boards[1].blocks[only_block(docked.boards[1])]
    docked.site.crash()
    for path in docked.site.directory.iterdir():
        data = path.read_bytes()
        assert not any(key[i : i + 16] in data for i in range(0, 1024, 16))


def test_a_kme_that_is_away_delays_a_block(ward):
    board = ward.boards[1]
    board.load_block()
    ward.kme.down = True
    list_blocks(ward, board)
    assert board.held == {}
    ward.kme.down = False
    list_blocks(ward, board)
    assert set(board.held) == set(board.blocks)


def test_a_block_that_the_kme_never_has_is_given_up_and_the_board_is_told(ward):
    board = ward.boards[1]
    key_id = board.load_block()
    del ward.kme.stock[key_id]
    for _ in range(GIVEN_UP_AFTER - 1):
        list_blocks(ward, board)
        assert board.held == {}
    list_blocks(ward, board)
    assert board.held == {key_id: BLOCK_GONE}
    calls = ward.kme.calls
    list_blocks(ward, board)
    assert ward.kme.calls == calls


def test_what_a_board_no_longer_lists_is_deleted_and_a_late_list_deletes_nothing(docked):
    board = docked.boards[1]
    old = only_block(board)
    early = board.pads()
    new = board.load_block()
    list_blocks(docked, board)
    docked.up(board, early)
    docked.pump()
    assert free(docked, new) == [(0, 1024)]
    del board.blocks[old]
    list_blocks(docked, board)
    assert free(docked, old) is None
    assert free(docked, new) == [(0, 1024)]


def test_a_hello_that_names_a_block_does_not_cost_it(ward):
    """Anyone can send a HELLO that makes the gateway fetch a key."""
    board = ward.boards[1]
    key_id = board.load_block()
    hello = payloads.Hello(key_id, 0, 1, 0, 0, 1, 900, 1, 0)
    data = frame.encode(frame.HELLO, 1, 9, 999, payloads.encode_hello(hello), bytes(32))
    ward.up(board, data)
    for _ in range(3):
        ward.pump()
    assert ward.site.refused == {"key_unknown": 1}
    assert key_id not in ward.kme.stock
    list_blocks(ward, board)
    assert board.held == {key_id: 0}


def test_a_board_that_lists_a_link_pad_does_not_cost_it(ward):
    board = ward.boards[2]
    key_id, key = ward.kme.pad()
    ward.boards[1].blocks[key_id] = key
    list_blocks(ward, ward.boards[1])
    assert ward.boards[1].held == {key_id: BLOCK_GONE}
    board.key_id, board.link, board.steps = key_id, key, 0
    board.epoch += 1
    board.hello()
    ward.settle(4)
    assert ward.site.gateway.boards.get(2).ring.highest == board.epoch


def test_the_page_and_the_heartbeat_say_how_much_is_left(docked):
    assert docked.site.gateway.status().boards[0].pad_bytes == 1024
    assert docked.site.gateway.status().boards[1].pad_bytes == 0


uses = st.lists(st.tuples(st.integers(0, 120), st.integers(1, 60)), max_size=30)


@given(uses)
def test_no_byte_of_a_block_is_used_twice(wanted):
    block = Block.fresh(b"k" * 16, 1, bytes(range(100)))
    used: set[int] = set()
    for offset, n_bytes in wanted:
        these = set(range(offset, offset + n_bytes))
        if these & used or max(these) >= 100:
            with pytest.raises(Refused, match="pad_used"):
                block.use(offset, n_bytes)
        else:
            assert block.read(offset, n_bytes) == bytes(sorted(these))
            block.use(offset, n_bytes)
            used |= these
        assert block.left == 100 - len(used)
        assert used_up_to(block.free, 100) == max(used, default=-1) + 1
        assert all(block.key[i] == 0 for i in used)
