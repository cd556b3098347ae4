"""A simulated board sends what the firmware's wire code makes of the same values, and what it sealed is the truth."""

import os

import numpy as np
import pytest

from qepa_tools.simulation.light_board import LightBoard, Provision, World
from qepa_tools.simulation.signals import NoiseStock, Signals
from qepa_uplink.lighthe import SealedVector, add_all, open_sum, sum_masks
from qepa_wire import frame, keys
from qepa_wire.keystream import STREAM_STATISTICS, STREAM_UPDATE
from qepa_wire.payloads import (
    RoundOrder,
    StreamOrder,
    decode_hello,
    decode_vector,
    encode_ack,
    encode_round,
    terms_key,
)
from qepa_wire.quantizer import NEAREST
from qepa_wire.statistics import BOUNDS, SCALE, WORDS

COHORT, ROOT = bytes(range(32)), bytes(60)
PADS: dict[bytes, bytes] = {}


def pad(key_id: bytes) -> bytes:
    return PADS.setdefault(key_id, os.urandom(32))


class Bench:
    """A few boards and what their gateway would know."""

    def __init__(self, *, silent=(), boards=3, patient_boards=1):
        self.truth: dict[tuple[int, int, int], list[int]] = {}
        noise = NoiseStock(1)
        world = World(
            pad=pad,
            values=Signals(1).values,
            noise=noise.take,
            is_silent=lambda board, round_: (board, round_) in silent,
            sealed=lambda round_, stream, board, words: self.truth.update({(round_, stream, board): words}),
        )
        self.end_keys = {n: os.urandom(32) for n in range(1, boards + 1)}
        self.boards = {
            n: LightBoard(Provision(n, f"p-{n}", "gw-1", patient_boards, end, COHORT, ROOT), world)
            for n, end in self.end_keys.items()
        }
        self.links: dict[int, bytes] = {}
        for n, board in self.boards.items():
            self.links[n] = pad(decode_hello(frame.parse(board.boot(), frame.UP_TYPES).payload).key_id)
        self.seq = 0

    def down(self, board: int, type_: int, payload: bytes) -> bytes:
        self.seq += 1
        return frame.encode(type_, board, 1, self.seq, payload, keys.derive(self.links[board], keys.LINK_MAC_DOWN))

    def order(self, board: int, order: RoundOrder) -> list[bytes]:
        return self.boards[board].receive(self.down(board, frame.ROUND, encode_round(order)))

    def opened(self, order: RoundOrder, item: StreamOrder, vectors: list[bytes]) -> list[int]:
        """What the server makes of the sum of ``vectors``, all masks off; the check values hold or it raises."""
        total = add_all([SealedVector.from_bytes(vector) for vector in vectors], item.n_words)
        masks = [keys.derive(link, keys.LINK_MASK) for link in self.links.values()]
        masks += [keys.derive(end, keys.END_MASK) for end in self.end_keys.values()]
        total -= sum_masks(masks, stream=item.stream, round_=order.round, n_words=item.n_words)
        key = terms_key(keys.derive(COHORT, keys.COHORT_CHECK), order.model, order.n_max, item)
        return open_sum(total, key, stream=item.stream, round_=order.round).tolist()


def statistics(noise_q8=0, clip_norm=0) -> StreamOrder:
    largest = SCALE if noise_q8 else max(BOUNDS)
    return StreamOrder(STREAM_STATISTICS, WORDS, largest, largest, NEAREST, noise_q8, clip_norm)


@pytest.mark.parametrize("noise_q8", [0, 256 * 900])
def test_sums_of_boards_open_to_what_they_sealed(noise_q8):
    bench = Bench()
    item = statistics(noise_q8, 1600 if noise_q8 else 0)
    order = RoundOrder(7, 0, 5000, 64, [item])
    vectors = []
    for n in bench.boards:
        (data,) = bench.order(n, order)
        parsed = frame.authenticate(data, keys.derive(bench.links[n], keys.LINK_MAC_UP)) or frame.parse(
            data, frame.UP_TYPES
        )
        vectors.append(decode_vector(parsed.payload).sealed)
    expected = np.sum([bench.truth[7, STREAM_STATISTICS, n] for n in bench.boards], axis=0)
    assert bench.opened(order, item, vectors) == expected.tolist()


def test_a_board_answers_a_round_once_and_keeps_the_frame_until_it_is_acknowledged():
    bench = Bench()
    order = RoundOrder(3, 0, 5000, 64, [statistics()])
    (data,) = bench.order(1, order)
    assert bench.order(1, order) == []
    board, seq = bench.boards[1], frame.parse(data, frame.UP_TYPES).seq
    assert board.outbox[seq] == data
    board.receive(bench.down(1, frame.ACK, encode_ack([seq])))
    assert seq not in board.outbox


def test_an_update_against_a_model_that_the_board_lacks_is_not_made():
    bench = Bench()
    update = StreamOrder(STREAM_UPDATE, 72, 1024, 1024, NEAREST, 0, 0)
    assert bench.order(1, RoundOrder(3, 5, 5000, 64, [update])) == []
    assert len(bench.order(1, RoundOrder(3, 0, 5000, 64, [update]))) == 1


def test_a_board_that_drops_out_sends_nothing_in_that_round():
    bench = Bench(silent={(1, 3)})
    assert bench.order(1, RoundOrder(3, 0, 5000, 64, [statistics()])) == []
    assert len(bench.order(1, RoundOrder(4, 0, 5000, 64, [statistics()]))) == 1


def test_boards_of_a_patient_share_the_clipping_bound():
    bench = Bench(boards=1, patient_boards=4)
    update = StreamOrder(STREAM_UPDATE, 72, 1024, 1024, NEAREST, 0, 800)
    bench.order(1, RoundOrder(3, 0, 5000, 64, [update]))
    assert 190 < np.linalg.norm(bench.truth[3, STREAM_UPDATE, 1]) <= 200


def test_what_does_not_authenticate_is_counted_and_nothing_else():
    bench = Bench()
    forged = bytearray(bench.down(1, frame.ROUND, encode_round(RoundOrder(3, 0, 5000, 64, [statistics()]))))
    forged[-1] ^= 1
    for data in (bytes(forged), b"", os.urandom(200)):
        assert bench.boards[1].receive(data) == []
    assert bench.boards[1].refused == 3


def test_statistics_keep_to_the_bounds_of_the_wire():
    for board in range(1, 200):
        words = Signals(5).values(board, 2, STREAM_STATISTICS, WORDS)
        assert len(words) == WORDS
        assert all(0 <= word <= bound for word, bound in zip(words, BOUNDS, strict=True))
        assert sum(words[8:]) == 1


def test_noise_is_drawn_ahead_and_given_once():
    stock = NoiseStock(1)
    first = stock.take(256 * 100, 50)
    while stock.fill():
        pass
    held = list(stock._stock[256 * 100])
    assert len(held) == 50
    assert sorted(stock.take(256 * 100, 50)) == sorted(held)
    assert len(first) == 50
    assert 5 < np.std(first + held) < 20
