"""Firmware through the gateway: refused where no board would take it, else to one board, then to the others."""

from pathlib import Path

import pytest
from bedside_rig import Rig, VirtualBoard

from qepa_gateway.domain.rollout import Stage
from qepa_gateway.health import faults
from qepa_tools.firmware_build.bundle import Bundle, assemble
from qepa_uplink.messages import FirmwareRelease
from qepa_wire import firmware as wire
from qepa_wire import frame
from qepa_wire import manifest as wire_manifest

from ..board_app.slot_rig import ROOT, release, signed

UNIX = 5
KIND = "unix-ecg"
MODULE = "lib/qepa_board/transport/connection.mpy"
NEEDS = "transport/connection"


def bundle_of(version: int, **named: object) -> Bundle:
    return release(version, more={MODULE: b"how it is reached"}, **named)


class Taker:
    """What a board does with firmware. ``ends``: confirmed, rolled back, silent."""

    def __init__(self, rig: Rig, board: VirtualBoard, *, ends: str = "confirmed", needs: str = NEEDS) -> None:
        self.rig, self.board, self.ends, self.needs = rig, board, ends, needs
        self.target = UNIX
        self.offer: wire.Offer | None = None
        self.files: dict[int, bytes] = {}
        self.at = (0, 0)
        self.offers = self.pieces = 0
        board.take_firmware = self.take

    def take(self, parsed: frame.Frame) -> None:
        if parsed.type == frame.FIRMWARE_OFFER:
            self.offers += 1
            self.offer = wire.decode_offer(parsed.payload)
            self.ask()
            return
        piece = wire.decode_piece(parsed.payload)
        if (piece.file, piece.offset) != self.at:
            return
        self.pieces += 1
        self.files[piece.file] = self.files.get(piece.file, b"") + piece.data
        self.go_on()
        self.ask()

    def go_on(self) -> None:
        file = self.at[0]
        sizes = {0: self.offer.manifest_bytes, 1: self.offer.signature_bytes}
        if file > 1:
            sizes |= {2 + i: entry.size for i, entry in enumerate(self.entries())}
        done = len(self.files[file]) == sizes[file]
        self.at = (file + 1, 0) if done else (file, len(self.files[file]))

    def entries(self) -> list[wire_manifest.Entry]:
        return list(wire_manifest.lib_entries(self.files[0]))

    @property
    def complete(self) -> bool:
        return self.at[0] > 1 and self.at[0] == 2 + len(self.entries())

    def ask(self, state: int | None = None) -> None:
        if state is None:
            state = wire.COMPLETE if self.complete else wire.WANTS
        want = wire.Want(self.offer.digest[:8], state, self.target, *self.at, self.needs)
        self.rig.up(self.board, self.board.frame(frame.FIRMWARE_WANT, wire.encode_want(want)))

    def restart(self) -> None:
        """Into the new slot, and what comes of it."""
        board, before = self.board, self.board.firmware
        board.reset_cause, board.mode, board.firmware = 5, 2, self.offer.version
        self.rig.up(board, board.boot())
        self.rig.settle(4)
        if self.ends == "silent":
            board.on = False
            return
        board.mode = 0
        if self.ends == "rolled back":
            board.firmware = before
            self.rig.up(board, board.boot())
        else:
            self.rig.up(board, board.hello())
        self.rig.settle(4)


@pytest.fixture
def ward(tmp_path):
    Rig.firmware_root = ROOT
    try:
        rig = Rig(tmp_path, patients=4)
        rig.takers = {number: Taker(rig, board) for number, board in rig.boards.items()}
        rig.bundles = tmp_path
        yield rig.begin()
    finally:
        Rig.firmware_root = None


def send(
    rig: Rig, bundle: Bundle, *, number: int = 1, boards: tuple[int, ...] = (1, 2, 3, 4), kind: str = KIND
) -> None:
    path = Path(rig.bundles, "bundle.zip")
    bundle.write(path)
    send_bytes(rig, path.read_bytes(), number=number, boards=boards, kind=kind)


def send_bytes(
    rig: Rig, data: bytes, *, number: int = 1, boards: tuple[int, ...] = (1, 2, 3, 4), kind: str = KIND
) -> None:
    rig.server.broadcast(FirmwareRelease(number=number, kind=kind, boards=boards, bundle=data))
    rig.settle(4)


def live(rig: Rig, ms: int = 60_000, every_ms: int = 10_000) -> None:
    """Time passes, boards speak, and those that have all of it start it."""
    until_ms = rig.now_ms + ms
    while rig.now_ms < until_ms:
        for board in rig.boards.values():
            if board.on:
                rig.up(board, board.alert())
        rig.advance(every_ms, every_ms=every_ms)
        for _ in range(100):  # pieces
            rig.pump()
            if not rig.queue:
                break
        for taker in rig.takers.values():
            if taker.board.on and taker.offer and taker.complete and taker.board.firmware != taker.offer.version:
                taker.restart()
                if taker.ends == "rolled back":
                    taker.at, taker.files = (0, 0), {}


def versions(rig: Rig) -> list[int]:
    return [board.firmware for board in rig.boards.values()]


def stage(rig: Rig) -> Stage | None:
    return rig.site.gateway.firmware.stage(KIND)


def test_one_board_takes_it_lives_on_with_it_and_then_the_others_two_at_a_time(ward):
    send(ward, bundle_of(2))
    assert [taker.offers > 0 for taker in ward.takers.values()].count(True) == 1
    live(ward, 60_000)
    assert sorted(versions(ward)) == [1, 1, 1, 2]
    assert stage(ward) is Stage.CANARY
    live(ward, 300_000)
    assert stage(ward) is Stage.WARD
    live(ward, 120_000)
    assert versions(ward) == [2] * 4
    assert not ward.site.gateway.firmware.under_way()
    ward.advance(3000)
    told = ward.server.status["gw-1"].firmware[0]
    assert (told.kind, told.number, told.version, told.stage) == (KIND, 1, 2, "ward")
    assert [board.firmware for board in ward.server.status["gw-1"].boards] == [2] * 4


def test_no_more_boards_restart_at_a_time_than_it_is_set_and_never_two_of_a_patient(ward):
    for board in (3, 4):
        ward.boards[board].patient = "p-3"
    ward.server.welcome("gw-1")
    send(ward, bundle_of(2))
    for taker in ward.takers.values():
        taker.ask = lambda *_: None  # it never gets on
    ward.site.gateway.firmware._lines[KIND].rollout._keep(
        ward.site.gateway.firmware._lines[KIND].rollout.state.__class__(2, stage=Stage.WARD)
    )
    live(ward, 60_000)
    under_way = ward.site.gateway.firmware.under_way()
    assert len(under_way) == 2
    assert not {3, 4} <= set(under_way)


@pytest.mark.parametrize("ends", ["rolled back", "silent"])
def test_a_first_board_that_does_not_confirm_stops_it(ward, ends):
    for taker in ward.takers.values():
        taker.ends = ends
    send(ward, bundle_of(2))
    live(ward, 4_200_000, every_ms=60_000)
    assert stage(ward) is Stage.WITHDRAWN
    assert sum(taker.offers > 0 for taker in ward.takers.values()) == 1
    assert "rollout" in faults(ward.site.gateway)
    ward.advance(3000)
    assert ward.server.status["gw-1"].firmware[0].stage == "withdrawn"


def test_a_board_of_the_ward_that_goes_back_stops_it_for_those_that_have_not_got_it(ward):
    send(ward, bundle_of(2))
    live(ward, 60_000)
    for taker in ward.takers.values():
        taker.ends = "rolled back"
    live(ward, 600_000)
    assert stage(ward) is Stage.WITHDRAWN
    assert 2 in versions(ward)
    assert 1 in versions(ward)


def test_after_a_withdrawal_the_next_release_starts_anew(ward):
    for taker in ward.takers.values():
        taker.ends = "rolled back"
    send(ward, bundle_of(2))
    live(ward, 60_000)
    assert stage(ward) is Stage.WITHDRAWN
    for taker in ward.takers.values():
        taker.ends = "confirmed"
    send(ward, bundle_of(2), number=1)  # said again, it changes nothing
    assert stage(ward) is Stage.WITHDRAWN
    send(ward, bundle_of(3), number=2)
    live(ward, 600_000)
    assert versions(ward) == [3] * 4
    assert not faults(ward.site.gateway)


def test_it_goes_on_after_a_crash_of_the_gateway_with_the_piece_that_is_due(ward):
    send(ward, bundle_of(2, extra=bytes(9000)))
    canary = next(taker for taker in ward.takers.values() if taker.offers)
    pieces = 0
    while not canary.complete:
        ward.site.crash()
        ward.site.start()
        ward.settle(6)
        canary.ask()  # as it does when nothing comes
        ward.pump()
        ward.pump()
        ward.pump()
        assert canary.pieces > pieces
        pieces = canary.pieces
    assert canary.pieces == sum(-(-len(file) // wire.PIECE_BYTES) for file in canary.files.values())
    live(ward, 600_000)
    assert versions(ward) == [2] * 4


def test_a_board_that_starts_anew_is_offered_it_again_at_once(ward):
    send(ward, bundle_of(2))
    canary = next(taker for taker in ward.takers.values() if taker.offers)
    canary.offers = 0
    ward.up(canary.board, canary.board.boot())
    ward.advance(1000)
    assert canary.offers == 1


def altered(data: bytes) -> bytes:
    at = data.index(b"application of version")
    return data[:at] + b"A" + data[at + 1 :]


@pytest.mark.parametrize(
    "mend",
    [
        lambda data: data[:0],
        lambda data: data[:-200],
        altered,
        lambda data: data + b"x" * 300_000,
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(ward, mend):
    path = ward.bundles / "bundle.zip"
    bundle_of(2).write(path)
    data = mend(path.read_bytes())
    if len(data) <= 2**18:
        send_bytes(ward, data)
        assert ward.site.refused["firmware"] == 1
        ward.advance(3000)
        assert ward.server.status["gw-1"].firmware[0].stage == "refused"
    else:
        with pytest.raises(ValueError, match="262144"):
            send_bytes(ward, data)
    live(ward)
    assert not any(taker.offers for taker in ward.takers.values())


@pytest.mark.parametrize(
    "bundle",
    [
        lambda: assemble("unix", 2, {MODULE: b"nobody signed this"}),
        lambda: bundle_of(2).signed(bundle_of(3).signature),
        lambda: signed(assemble("unix", 70_000, {MODULE: b"more than HELLO can tell"})),
    ],
)
def test_a_bundle_that_this_key_did_not_sign_is_refused(ward, bundle):
    send(ward, bundle())
    assert ward.site.refused["firmware"] == 1
    assert not any(taker.offers for taker in ward.takers.values())


def test_an_older_bundle_is_refused(ward):
    send(ward, bundle_of(3))
    send(ward, bundle_of(2), number=2)
    send(ward, bundle_of(3, extra=b"another of that version"), number=3)
    assert ward.site.refused["firmware"] == 2
    live(ward, 900_000)
    assert versions(ward) == [3] * 4


def test_without_a_root_nothing_is_handed_on(ward):
    ward.site.gateway.firmware._root = None
    send(ward, bundle_of(2))
    assert ward.site.refused["firmware"] == 1


@pytest.mark.parametrize("what", ["target", "needs"])
def test_a_board_of_another_kind_gets_not_a_piece_of_it(ward, what):
    for taker in ward.takers.values():
        setattr(taker, what, 1 if what == "target" else f"{NEEDS} drivers/max30003")
    send(ward, bundle_of(2))
    live(ward)
    assert stage(ward) is Stage.WITHDRAWN
    assert not any(taker.pieces for taker in ward.takers.values())


def test_what_a_board_refuses_is_held_against_the_release(ward):
    for taker in ward.takers.values():
        taker.ask = lambda *_, taker=taker: Taker.ask(taker, wire.STATES.index("downgrade"))
    send(ward, bundle_of(2))
    live(ward)
    assert stage(ward) is Stage.WITHDRAWN
    assert not any(taker.pieces for taker in ward.takers.values())


def test_boards_that_are_not_named_get_nothing(ward):
    send(ward, bundle_of(2), boards=(2, 3))
    live(ward, 900_000)
    assert versions(ward) == [1, 2, 2, 1]


def test_boards_of_two_kinds_get_each_their_own(ward):
    send(ward, bundle_of(2), boards=(1, 2))
    send(ward, bundle_of(7), number=2, boards=(3, 4), kind="unix-ppg")
    live(ward, 900_000)
    assert versions(ward) == [2, 2, 7, 7]


def test_a_board_that_asks_for_what_there_is_not_is_counted(ward):
    send(ward, bundle_of(2))
    canary = next(taker for taker in ward.takers.values() if taker.offers)
    canary.at = (99, 0)
    want = wire.Want(canary.offer.digest[:8], wire.WANTS, UNIX, 99, 0, NEEDS)
    ward.up(canary.board, canary.board.frame(frame.FIRMWARE_WANT, wire.encode_want(want)))
    ward.settle(4)
    assert ward.site.refused["firmware"] == 1
