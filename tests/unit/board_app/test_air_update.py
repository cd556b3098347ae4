"""A release over the link: piece by piece while the board is quiet, resumed after anything, never half taken."""

import pytest

from qepa_board.system.air_update import AGAIN_MS, RESTART_MS, AirUpdate
from qepa_boot.record import TRIAL, A, B
from qepa_tools.firmware_build.bundle import Bundle
from qepa_uplink.firmware import open_bundle
from qepa_wire.errors import WireError
from qepa_wire.firmware import (
    COMPLETE,
    ID_BYTES,
    PIECE_BYTES,
    STATES,
    WANTS,
    Offer,
    Piece,
    Want,
    decode_want,
    encode_offer,
    encode_piece,
)

from .slot_rig import ROOT, Board, release


class Gateway:
    """Answers what a board asks for, as the real one does; ``lost`` says which pieces do not arrive."""

    def __init__(self, bundle: Bundle, tmp_path) -> None:
        bundle.write(tmp_path / "bundle.zip")
        self.package = open_bundle((tmp_path / "bundle.zip").read_bytes())
        self.sent = 0

    @property
    def offer(self) -> bytes:
        manifest, signature = self.package.files[:2]
        return encode_offer(Offer(self.package.digest, self.package.version, len(manifest), len(signature)))

    def answer(self, want: Want) -> bytes:
        assert want.release == self.package.digest[:ID_BYTES]
        data = self.package.files[want.file][want.offset : want.offset + PIECE_BYTES]
        self.sent += len(data)
        return encode_piece(Piece(want.release, want.file, want.offset, data))


class Air:
    """A board with its side of it; time passes a second with every look."""

    def __init__(self, board: Board, **updater) -> None:
        self.board = board
        self.quiet, self.restarts, self.now_ms = True, 0, 0
        self.update = AirUpdate(board.updater(**updater), lambda: self.quiet, self._restart)

    def _restart(self) -> None:
        self.restarts += 1

    def look(self) -> Want | None:
        self.now_ms += 100
        payload = self.update.next(self.now_ms)
        return None if payload is None else decode_want(payload)

    def says(self, looks: int = 500) -> Want:
        """What it says next."""
        return next(want for want in (self.look() for _ in range(looks)) if want is not None)

    def take(self, gateway: Gateway, most: int = 1000) -> Want:
        """Offer, and answer at most so many questions; returns the last word."""
        self.update.offer(gateway.offer)
        for _ in range(most):
            want = self.says()
            if want.state != WANTS:
                break
            self.update.piece(gateway.answer(want))
        return want


@pytest.fixture
def board(tmp_path, flash):
    return Board.flashed(tmp_path, flash, release(1))


def test_a_release_is_taken_and_started_once_the_board_is_quiet(board, tmp_path):
    air = Air(board)
    assert air.take(Gateway(release(2), tmp_path)).state == COMPLETE
    assert not air.restarts
    air.quiet = False
    for _ in range(100):
        assert air.look() is None
    assert not air.restarts
    air.quiet = True
    for _ in range(2 + RESTART_MS // 100):
        air.look()
    assert air.restarts
    assert board.boot() == (B, TRIAL)
    assert board.is_whole(B)


def test_nothing_is_asked_for_while_somebody_needs_the_board(board, tmp_path):
    air, gateway = Air(board), Gateway(release(2), tmp_path)
    air.take(gateway, 3)
    air.quiet = False
    assert [air.look() for _ in range(1000)] == [None] * 1000
    air.quiet = True
    assert air.take(gateway).state == COMPLETE


def test_what_is_lost_is_asked_for_again_less_and_less_often(board, tmp_path):
    air = Air(board)
    air.update.offer(Gateway(release(2), tmp_path).offer)
    first, at_ms = air.says(), air.now_ms
    assert air.says() == first
    pause_ms, at_ms = air.now_ms - at_ms, air.now_ms
    assert pause_ms >= AGAIN_MS
    air.says()
    assert air.now_ms - at_ms >= 2 * AGAIN_MS


def test_a_piece_that_was_not_asked_for_is_passed_over(board, tmp_path):
    air, gateway = Air(board), Gateway(release(2), tmp_path)
    air.update.offer(gateway.offer)
    want = air.says()
    piece = gateway.answer(want)
    air.update.piece(gateway.answer(want._replace(offset=1)))
    air.update.piece(piece)
    air.update.piece(piece)
    assert air.take(gateway).state == COMPLETE


@pytest.mark.parametrize("after", [1, 2, 4, 9, 15])
def test_after_a_power_cut_it_goes_on_with_what_is_missing(board, tmp_path, after):
    gateway = Gateway(release(2), tmp_path)
    Air(board).take(gateway, after)
    spent = gateway.sent
    assert Air(board).take(gateway).state == COMPLETE
    whole = sum(map(len, gateway.package.files))
    begun = after > 3  # manifest and signature are kept with the first file, not before
    assert gateway.sent - spent <= whole - (spent if begun else 0) + PIECE_BYTES
    board.boot()
    assert board.is_whole(B)


@pytest.mark.parametrize("torn", [False, True])
def test_whenever_the_power_fails_the_old_slot_starts_and_the_release_is_taken_at_last(
    board, tmp_path, power_cut, torn
):
    gateway = Gateway(release(2), tmp_path)
    for tree in board.trees.values():
        tree.torn = torn
    failures = 0
    for cut in range(1, 200):
        board.flash.dies_at = board.flash.operations + cut
        try:
            done = Air(board).take(gateway).state
        except power_cut:
            failures += 1
            assert board.slots.confirmed == A
            continue
        break
    board.flash.dies_at = None
    assert failures > 3
    assert done == COMPLETE
    assert board.boot() == (B, TRIAL)
    assert board.is_whole(B)


@pytest.mark.parametrize(
    ("bundle", "updater", "reason"),
    [
        (lambda: release(2).signed(release(3).signature), {}, "signature"),
        (lambda: release(2), {"root": None}, "firmware_root"),
        (lambda: release(2), {"root": ROOT[:-1] + b"x"}, "signature"),
        (lambda: release(2, target="esp32"), {}, "target"),
        (lambda: release(2), {"needs": ("drivers/max30003",)}, "profile"),
        (lambda: release(1), {}, "installed"),
        (lambda: release(1, extra=b"another"), {}, "version"),
    ],
)
def test_what_a_board_may_not_take_is_refused_before_its_slot_is_touched(board, tmp_path, bundle, updater, reason):
    air = Air(board, **updater)
    before = board.trees[B].paths(), board.trees[B].manifest()
    want = air.take(Gateway(bundle(), tmp_path))
    assert STATES[want.state] == reason
    assert (board.trees[B].paths(), board.trees[B].manifest()) == before
    assert not air.restarts


def test_an_altered_piece_costs_its_file_and_is_fetched_again(board, tmp_path):
    air, gateway = Air(board), Gateway(release(2), tmp_path)
    air.take(gateway, 3)
    want = air.says()
    while want.file < 2:
        air.update.piece(gateway.answer(want))
        want = air.says()
    good = gateway.answer(want)
    air.update.piece(good[:-1] + bytes([good[-1] ^ 1]))
    assert air.take(gateway).state == COMPLETE
    board.boot()
    assert board.is_whole(B)


def test_a_slot_on_trial_takes_nothing(board, tmp_path):
    Air(board).take(Gateway(release(2), tmp_path))
    board.boot()
    air = Air(board)
    air.update.offer(Gateway(release(3), tmp_path).offer)
    gateway = Gateway(release(3), tmp_path)
    for _ in range(200):
        want = air.look()
        if want is not None and want.state == WANTS:
            air.update.piece(gateway.answer(want))
    assert air.look() is None
    assert board.slots.trial == B


def test_a_newer_offer_takes_the_place_of_one_under_way(board, tmp_path):
    air = Air(board)
    air.take(Gateway(release(2), tmp_path), 6)
    assert air.take(Gateway(release(3), tmp_path)).state == COMPLETE
    board.boot()
    assert board.trees[B].header().version == 3


@pytest.mark.parametrize("payload", [b"", bytes(39), bytes(40), bytes(41)])
def test_nonsense_is_refused(board, payload):
    with pytest.raises(WireError):
        Air(board).update.offer(payload)
