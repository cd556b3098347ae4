"""Whatever the moment of a power cut: no counter, pad, epoch key or mask is used twice, and no frame is lost."""

import asyncio
import itertools
from types import SimpleNamespace

import pytest

from qepa_board.errors import BoardError, CountersLostError, RefusedError
from qepa_board.keys.blocks import BlockStore
from qepa_board.keys.counters import SEQ_BLOCK, Counters
from qepa_board.keys.keyring import Keyring, PadStore
from qepa_board.streams import rounds as rounds_module
from qepa_board.streams.rounds import Rounds
from qepa_board.transport.link import Link
from qepa_board.transport.outbox import MAX_FRAMES, Outbox
from qepa_wire import frame as wire
from qepa_wire import one_time
from qepa_wire.payloads import Alert, HeldBlock, Hello, RoundOrder, StreamOrder

BOARD = 7
IDENTITY = SimpleNamespace(end_key=bytes(range(32)), cohort_key=bytes(range(32, 64)), patient_boards=1, suite="otp")
BLOCK_BYTES = 800  # two vectors of statistics, two updates and five alerts
BLOCKS = b"".join(bytes([n]) * 16 + bytes(BLOCK_BYTES) for n in range(11, 14))
MODELS = SimpleNamespace(version=3, model=object(), words=[0] * 72)
PADS = b"".join(bytes([n]) * 16 + bytes([100 + n]) * 32 for n in range(1, 4))


class World:
    """What an observer with all keys has seen over all boots."""

    def __init__(self):
        self.epochs = {}
        self.key_references = set()
        self.seqs = set()
        self.sealed = set()
        self.frames = {}
        self.pad_bytes = set()

    def note_epoch(self, epoch):
        assert epoch.number not in self.epochs, "an epoch number came twice"
        assert all(epoch.number > earlier for earlier in self.epochs)
        assert epoch.mask_key not in self.epochs.values(), "a link key served two epochs"
        assert (epoch.key_id, epoch.steps) not in self.key_references
        self.epochs[epoch.number] = epoch.mask_key
        self.key_references.add((epoch.key_id, epoch.steps))

    def note_seal(self, stream, round_):
        assert (stream, round_) not in self.sealed, "a (stream, round) was sealed twice"
        self.sealed.add((stream, round_))

    def note_frame(self, data):
        frame = wire.parse(data, wire.UP_TYPES)
        if frame.seq not in self.frames and frame.suite == wire.SUITE_OTP:
            key_id, offset, n_bytes = one_time.reference(frame)
            used = {(key_id, i) for i in range(offset, offset + n_bytes)}
            assert not used & self.pad_bytes, "one-time bytes were used twice"
            self.pad_bytes |= used
        assert self.frames.setdefault(frame.seq, data) == data, "one sequence number, two frames"


def one_life(flash, world, first_round, monkeypatch):
    """A boot, two alerts, a ratchet step, two rounds, a pad, a third round."""
    counters = Counters.load(flash)
    next_seq = counters.next_seq

    def watched_seq():
        seq = next_seq()
        assert seq not in world.seqs, "a sequence number came twice"
        world.seqs.add(seq)
        return seq

    counters.next_seq = watched_seq
    counters.start_boot()
    keyring = Keyring(flash, counters)
    link = Link(BOARD, counters, Outbox(flash), BlockStore(flash))
    link.blocks.confirm([HeldBlock(key_id, 0) for key_id in link.blocks.key_ids()])
    inner = rounds_module.seal.__wrapped__ if hasattr(rounds_module.seal, "__wrapped__") else rounds_module.seal

    def watched_seal(values, mask_keys, check_key, stream, round_, pads=()):
        world.note_seal(stream, round_)
        return inner(values, mask_keys, check_key, stream, round_, pads)

    watched_seal.__wrapped__ = inner
    monkeypatch.setattr(rounds_module, "seal", watched_seal)
    rounds = Rounds(IDENTITY, counters, link, MODELS, lambda: [1] * 16, lambda models: [2] * len(models.words))

    def begin(step, pad=True):
        epoch = keyring.next_epoch(step, pad)
        if epoch is not None:
            world.note_epoch(epoch)
            link.begin(epoch, lambda: Hello(epoch.key_id, epoch.steps, 1, 0, 0, 1, 0xFFFF, 0, 0))

    def publish():
        for now_ms in (0, 10_000):
            while (data := link.next_frame(now_ms)) is not None:
                world.note_frame(data)

    def order(round_):
        streams = [StreamOrder(1, 16, 10, 10, 0, 0, 0), StreamOrder(2, 72, 10, 10, 1, 256, 0)]
        try:
            asyncio.run(rounds.answer(RoundOrder(round_, 3, 1000, 10, streams)))
        except rounds_module.WireError as error:
            assert error.reason == "replay"  # noqa: PT017  any other reason is a fault
        publish()

    begin(True)
    publish()
    link.send_alert(Alert(1, 1, 1, 1, 0))
    publish()
    begin(True, pad=False)
    order(first_round)
    begin(False)
    order(first_round)
    order(first_round + 1)
    return link


def docked(flash):
    Counters.create(flash)
    PadStore(flash).load(PADS, b"")
    BlockStore(flash).load(BLOCKS, BLOCK_BYTES)


@pytest.mark.parametrize("applied", [False, True])
def test_nothing_is_used_twice_whenever_the_power_fails(flash, power_cut, applied, monkeypatch):
    for moment in itertools.count(1):
        flash.__init__()
        docked(flash)
        world = World()
        flash.operations, flash.dies_at, flash.applied = 0, moment, applied
        died = False
        try:
            one_life(flash, world, 1, monkeypatch)
        except power_cut:
            died = True
        flash.dies_at = None
        # The gateway asks again for all that it may not have got.
        one_life(flash, world, 1, monkeypatch)
        one_life(flash, world, 2, monkeypatch)
        pads = PadStore(flash).read()[0]
        used = {key_id for key_id, _ in world.key_references}
        assert not used & {pad[:16] for pad in pads}, "a used pad is still in the store"
        assert len(world.pad_bytes) > 1000, "the lives were to use one-time bytes"
        if not died:
            assert moment > 15
            return


def test_a_queued_frame_survives_byte_for_byte(flash, monkeypatch):
    docked(flash)
    world = World()
    link = one_life(flash, world, 1, monkeypatch)
    waiting = {name: flash.files[name] for name in flash.names() if name.startswith("out-")}
    assert len(waiting) == link.backlog()
    again = Outbox(flash)
    frames = [wire.parse(again.get(seq), wire.UP_TYPES) for seq in again.seqs()]
    assert [(frame.epoch, frame.type) for frame in frames] == [
        (1, wire.HELLO), (1, wire.ALERT),
        (2, wire.HELLO), (2, wire.VECTOR), (2, wire.VECTOR),
        (3, wire.HELLO), (3, wire.VECTOR), (3, wire.VECTOR),
    ]  # fmt: skip
    assert all(world.frames[frame.seq] == again.get(frame.seq) for frame in frames)


def test_a_full_outbox_drops_the_oldest_vector_and_counts_it(flash):
    outbox = Outbox(flash)
    outbox.put(1, wire.encode(wire.ALERT, BOARD, 1, 1, b"alert", bytes(32)))
    for seq in range(2, MAX_FRAMES + 4):
        outbox.put(seq, wire.encode(wire.VECTOR, BOARD, 1, seq, b"vector", bytes(32)))
    assert outbox.dropped == 3
    assert outbox.seqs() == [1, *range(5, MAX_FRAMES + 4)]


def test_sequence_numbers_skip_what_a_lost_boot_had_reserved(flash):
    counters = Counters.create(flash)
    assert [counters.next_seq() for _ in range(SEQ_BLOCK + 1)] == list(range(1, SEQ_BLOCK + 2))
    assert Counters.load(flash).next_seq() == 2 * SEQ_BLOCK + 1


def test_a_failed_write_reserves_nothing(flash, monkeypatch):
    counters = Counters.create(flash)

    def full(name, data):
        raise BoardError("flash", "full")

    monkeypatch.setattr(flash, "write", full)
    with pytest.raises(BoardError):
        counters.next_seq()
    with pytest.raises(BoardError):
        counters.reserve_round(1, 5)
    assert counters.last_round() == 0
    monkeypatch.undo()
    counters.reserve_round(1, 5)
    with pytest.raises(RefusedError):
        counters.reserve_round(1, 5)


@pytest.mark.parametrize("kept", [slice(0), slice(0, -1), slice(1, None)])
def test_altered_counters_are_lost_not_guessed(flash, kept):
    Counters.create(flash)
    flash.files["counters"] = flash.files["counters"][kept]
    with pytest.raises(CountersLostError):
        Counters.load(flash)


def test_altered_pads_are_dropped(flash):
    docked(flash)
    flash.files["pads"] = flash.files["pads"][:-1]
    assert PadStore(flash).read() == ([], [])


def test_a_pad_is_loaded_once(flash):
    docked(flash)
    counters = Counters.load(flash)
    epoch = Keyring(flash, counters).next_epoch(True)
    assert PadStore(flash).load(PADS, counters.key_id) == (0, 3)
    Keyring(flash, counters).next_epoch(False)
    assert PadStore(flash).load(PADS, counters.key_id) == (0, 3)
    assert epoch.key_id == PADS[:16]


def test_a_pad_marked_used_is_passed_over_though_a_power_cut_left_it_in_the_store(flash, power_cut):
    docked(flash)
    flash.operations, flash.dies_at = 0, 2
    with pytest.raises(power_cut):
        Keyring(flash, Counters.load(flash)).next_epoch(True)
    flash.dies_at = None
    counters = Counters.load(flash)
    assert counters.key_id == PADS[:16]
    assert len(PadStore(flash).read()[0]) == 3
    assert Keyring(flash, counters).next_epoch(True).key_id == PADS[48:64]
    assert PadStore(flash).load(PADS, counters.key_id) == (0, 3)
