"""Updates: whatever arrives, and whenever the power fails, the confirmed slot starts and nothing older follows."""

import itertools
from pathlib import Path

import pytest

from qepa_board.errors import BoardError
from qepa_board.system.flash import Flash
from qepa_board.system.releases import FILE as RELEASES
from qepa_board.system.releases import Releases
from qepa_board.system.slots import BoardSlots
from qepa_boot import loader
from qepa_boot.record import NEVER, NORMAL, ROLLED_BACK, TRIAL, TRIAL_BOOTS, A, B
from qepa_wire.errors import WireError
from qepa_wire.manifest import Header, encode_release

from .slot_rig import COMMON, MAX_CHUNK, ROOT, Board, content_of, deliver, release, sign, signed


@pytest.fixture
def board(tmp_path, flash):
    return Board.flashed(tmp_path, flash, release(1))


def reason(call, *args, **named):
    with pytest.raises((WireError, BoardError)) as refusal:
        call(*args, **named)
    return refusal.value.reason


def prove(board):
    """What BoardSlots.prove does, on the rig's trees."""
    files = board.trees[board.running]
    Releases(board.flash).note(files.header(), files.manifest_digest())
    board.slots.confirm(board.running)


def test_an_update_is_tried_and_confirmed(board):
    deliver(board.updater(), release(2))
    assert board.boot() == (B, TRIAL)
    assert board.is_whole(B)
    prove(board)
    assert board.boot() == (B, NORMAL)
    assert board.is_whole(A)
    assert (Releases(board.flash).floor, board.slots.confirmed) == (2, B)


def test_what_is_the_same_is_copied_on_the_board_and_not_sent(board):
    new = release(2)
    assert deliver(board.updater(), new) == sum(
        len(content) for path, content in new.files.items() if path.startswith("lib/") and content != COMMON
    )
    assert content_of(board.trees[B], "lib/qepa_wire/common.mpy") == COMMON


def test_the_loader_is_never_part_of_an_update(board):
    missing = board.updater().begin(release(2).manifest_bytes, release(2).signature)
    assert "main.py" not in [path for path, _, _ in missing]
    assert reason(board.updater().write, "main.py", 0, b"x") == "path"


def test_an_update_that_does_not_prove_itself_is_given_up_and_the_old_slot_is_as_it_was(board):
    deliver(board.updater(), release(2))
    assert [board.boot() for _ in range(TRIAL_BOOTS)] == [(B, TRIAL)] * TRIAL_BOOTS
    assert board.boot() == (A, NORMAL)
    assert board.slots.outcome == ROLLED_BACK
    assert board.is_whole(A)
    assert Releases(board.flash).floor == 0  # it may be offered again
    deliver(board.updater(), release(2))
    assert board.boot() == (B, TRIAL)


def started_without_record(board):
    """The slot that a board would start whose record of the slots flash has lost at this moment."""
    record = board.flash.files.pop("slots")
    slot = board.slots.confirmed
    board.flash.files["slots"] = record
    return slot


def test_an_update_at_a_board_whose_record_of_the_slots_is_lost_falls_back_to_the_slot_there_was(board):
    del board.flash.files["slots"]
    board.trees[B].remove("manifest")
    deliver(board.updater(), release(2))
    assert [board.boot() for _ in range(TRIAL_BOOTS)] == [(B, TRIAL)] * TRIAL_BOOTS
    assert board.boot() == (A, NORMAL)


@pytest.mark.parametrize("cut", ["before", "after", "torn"])
def test_a_power_cut_at_any_write_loses_nothing_and_the_update_goes_on(tmp_path, flash, power_cut, cut):
    new, fresh = release(2), flash
    for moment in itertools.count(1):
        flash = type(fresh)()
        board = Board.flashed(tmp_path / str(moment), flash, release(1))
        for tree in board.trees.values():
            tree.torn = cut == "torn"
        flash.operations, flash.dies_at, flash.applied = 0, moment, cut == "after"
        died = False
        try:
            deliver(board.updater(), new)
            board.boot()
            prove(board)
        except power_cut:
            died = True
        flash.dies_at = None
        assert board.is_whole(started_without_record(board))
        slot, mode = board.boot()
        assert board.is_whole(slot), f"after a cut at write {moment} an incomplete slot was started"
        assert board.is_whole(A)
        assert mode in (NORMAL, TRIAL)
        if board.version_of(slot) == 1:
            deliver(board.updater(), new)
            slot, mode = board.boot()
        assert board.version_of(slot) == 2
        prove(board)
        assert board.boot() == (B, NORMAL)
        assert Releases(flash).floor == 2
        if not died:
            assert moment > 15
            return


def test_a_cut_update_goes_on_where_it_was(board, power_cut):
    new = release(2)
    board.flash.operations, board.flash.dies_at = 0, 14
    with pytest.raises(power_cut):
        deliver(board.updater(), new, chunk=1000)
    board.flash.dies_at = None
    left = board.updater().begin(new.manifest_bytes, new.signature)
    assert any(have for _, _, have in left)
    deliver(board.updater(), new)
    assert board.is_whole(B)


def test_another_release_replaces_one_that_is_under_way(board):
    first, second = release(2), release(3)
    missing = board.updater().begin(first.manifest_bytes, first.signature)
    board.updater().write(missing[0][0], 0, first.files[missing[0][0]][:10])
    deliver(board.updater(), second)
    assert board.boot() == (B, TRIAL)
    assert board.version_of(B) == 3
    assert board.is_whole(B)


def test_a_new_update_takes_the_place_of_one_that_was_not_tried_yet(board):
    deliver(board.updater(), release(2))
    board.updater().begin(release(3).manifest_bytes, release(3).signature)
    assert board.boot() == (A, NORMAL)
    assert board.slots.outcome == NEVER
    deliver(board.updater(), release(3))
    board.boot()
    assert (board.running, board.version_of(B)) == (B, 3)


def test_a_slot_on_trial_takes_no_update_over_the_one_that_it_may_fall_back_to(board):
    deliver(board.updater(), release(2))
    board.boot()
    assert reason(deliver, board.updater(), release(3)) == "trial"
    assert board.is_whole(A)


def test_only_what_the_root_has_signed_is_taken(board):
    new = release(2)
    manifest, signature = bytearray(new.manifest_bytes), bytearray(new.signature)
    files = dict(board.flash.files)
    manifest[-1] ^= 1
    assert reason(board.updater().begin, bytes(manifest), new.signature) == "signature"
    signature[-1] ^= 1
    assert reason(board.updater().begin, new.manifest_bytes, bytes(signature)) == "signature"
    assert reason(board.updater().begin, new.manifest_bytes, b"") == "signature"
    assert reason(board.updater(root=bytes(60)).begin, new.manifest_bytes, new.signature) == "signature"
    assert reason(board.updater(root=None).begin, new.manifest_bytes, new.signature) == "firmware_root"
    for cut in (0, 10, len(new.manifest_bytes) - 1):
        assert reason(board.updater().begin, new.manifest_bytes[:cut], new.signature) == "signature"
    assert reason(board.updater().begin, bytes(20000), new.signature) == "manifest"
    assert board.flash.files == files
    assert board.version_of(B) == 99  # not even the spare slot was touched


def test_a_signed_manifest_that_makes_no_sense_is_refused(board):
    cut = release(2).manifest_bytes[:-1]
    assert reason(board.updater().begin, cut, sign(cut)) == "manifest"


def test_firmware_for_other_boards_is_refused(board):
    new = release(2, target="esp32")
    assert reason(board.updater().begin, new.manifest_bytes, new.signature) == "target"


def test_versions_go_up(board):
    deliver(board.updater(), release(5, floor=4))
    board.boot()
    prove(board)
    assert reason(deliver, board.updater(), release(3)) == "downgrade"
    assert reason(deliver, board.updater(), release(5, extra=b"!")) == "version"
    assert reason(deliver, board.updater(), release(5, floor=4)) == "installed"
    deliver(board.updater(), release(4))  # above the floor that version 5 set: its maker allows it
    board.boot()
    prove(board)
    assert Releases(board.flash).floor == 4
    assert reason(deliver, board.updater(), release(5, floor=4, extra=b"!")) == "version"  # though 4 is in use
    assert reason(deliver, board.updater(), release(3)) == "downgrade"


def test_the_floor_never_falls(flash):
    releases = Releases(flash)
    for version, floor, expected in ((5, 4, 4), (9, 2, 4), (7, 7, 7), (8, 1, 7)):
        releases.note(Header(5, version, floor, 1), bytes([version]) * 32)
        assert Releases(flash).floor == releases.floor == expected
    assert Releases(flash).newest == 9


def test_a_floor_that_flash_altered_comes_back_from_the_slot_in_use(board):
    deliver(board.updater(), release(5))
    board.boot()
    prove(board)
    board.flash.files[RELEASES] = b"\xff" + board.flash.files[RELEASES][1:]
    assert Releases(board.flash).floor == 0
    prove(board)
    assert reason(deliver, board.updater(), release(4)) == "downgrade"


def test_pieces_are_taken_in_order_and_within_their_file(board):
    new = release(2)
    updater = board.updater()
    assert reason(updater.write, "lib/qepa_board/app.mpy", 0, b"x") == "update"
    assert reason(updater.finish) == "update"
    updater.begin(new.manifest_bytes, new.signature)
    path = "lib/qepa_board/signals/deep.mpy"
    size = len(new.files[path])
    assert reason(updater.write, "lib/qepa_board/../../../main.py", 0, b"x") == "path"
    assert reason(updater.write, path, 1, b"x") == "offset"
    assert reason(updater.write, path, -1, b"x") == "offset"
    assert reason(updater.write, path, 0, b"") == "offset"
    assert reason(updater.write, path, 0, bytes(MAX_CHUNK + 1)) == "offset"
    assert updater.write(path, 0, new.files[path][:MAX_CHUNK]) == MAX_CHUNK
    assert reason(updater.write, path, 0, b"x") == "offset"
    assert board.updater().write(path, MAX_CHUNK, new.files[path][MAX_CHUNK : 2 * MAX_CHUNK]) == 2 * MAX_CHUNK
    assert reason(updater.write, path, 2 * MAX_CHUNK, bytes(size)) == "offset"
    assert reason(updater.finish) == "incomplete"
    assert board.boot() == (A, NORMAL)


def test_a_file_that_arrives_altered_is_sent_again(board):
    new = release(2)
    updater = board.updater()
    updater.begin(new.manifest_bytes, new.signature)
    path = "lib/qepa_board/app.mpy"
    good = new.files[path]
    assert reason(updater.write, path, 0, good[:-1] + b"?") == "hash"
    assert updater.write(path, 0, good) == len(good)


def test_a_file_that_flash_altered_after_it_arrived_is_found_at_the_end(board):
    new = release(2)
    updater = board.updater()
    for path, _, _ in updater.begin(new.manifest_bytes, new.signature):
        for at in range(0, len(new.files[path]), MAX_CHUNK):
            updater.write(path, at, new.files[path][at : at + MAX_CHUNK])
    path = "lib/qepa_wire/common.mpy"
    board.trees[B].remove(path)
    board.trees[B].append(path, COMMON[:-1] + b"?")
    assert reason(updater.finish) == "incomplete"
    assert board.boot() == (A, NORMAL)
    deliver(board.updater(), new)
    assert board.is_whole(B)


def test_no_update_starts_that_flash_has_no_room_for(board, monkeypatch):
    new = release(2)
    monkeypatch.setattr(board.trees[B], "free", lambda: (3 * 4096, 4096))
    assert reason(deliver, board.updater(), new) == "full"
    monkeypatch.setattr(board.trees[B], "free", lambda: (6 * 4096, 4096))
    deliver(board.updater(), new)
    assert board.boot() == (B, TRIAL)


def test_flash_that_runs_full_halfway_is_a_reason_and_the_update_goes_on_later(board, monkeypatch):
    new = release(2)
    updater = board.updater()
    updater.begin(new.manifest_bytes, new.signature)

    def full(path, data):
        raise BoardError("flash", f"cannot write {path}: [Errno 28] ENOSPC")

    monkeypatch.setattr(board.trees[B], "append", full)
    assert reason(updater.write, "lib/qepa_board/app.mpy", 0, b"x") == "flash"
    monkeypatch.undo()
    assert board.boot() == (A, NORMAL)
    deliver(board.updater(), new)
    assert board.is_whole(B)


@pytest.mark.parametrize("at", [0, 2, 14, 40, 200, -1])
def test_a_release_that_flash_altered_on_its_way_starts_anew(board, at):
    new = release(2)
    board.updater().begin(new.manifest_bytes, new.signature)
    kept = Path(board.trees[B]._root, "update")
    data = bytearray(kept.read_bytes())
    data[at] ^= 1
    kept.write_bytes(data)
    assert reason(board.updater().finish) in ("signature", "manifest")
    assert board.boot() == (A, NORMAL)
    deliver(board.updater(), new)
    assert board.is_whole(B)


def test_what_the_cable_filled_is_verified_before_it_is_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "ROOT", str(tmp_path))
    flash = Flash(str(tmp_path / "qepa"))
    slots = BoardSlots(flash)
    assert reason(slots.choose, "b") == "incomplete"
    bundle = release(3)
    for path, content in bundle.slot_files.items():
        file = tmp_path / "b" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tmp_path / "b/lib/qepa_board/app.mpy").write_bytes(b"altered")
    assert reason(slots.choose, "b") == "hash"
    (tmp_path / "b/lib/qepa_board/app.mpy").write_bytes(bundle.files["lib/qepa_board/app.mpy"])
    slots.choose("b")
    assert BoardSlots(flash).record.confirmed == B
    assert slots.updater(ROOT).spare == A


def test_a_slot_on_trial_proves_itself_through_the_view_of_the_application(tmp_path, monkeypatch):
    monkeypatch.setattr(loader, "ROOT", str(tmp_path))
    flash = Flash(str(tmp_path / "qepa"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a/manifest").write_bytes(release(4).release)
    slots = BoardSlots(flash)
    slots.record.arm(A)
    monkeypatch.setattr(loader, "slot", A)
    monkeypatch.setattr(loader, "booted", True)
    monkeypatch.setattr(loader, "mode", TRIAL)
    slots = BoardSlots(flash)
    assert (slots.on_trial, slots.version, slots.name) == (True, 4, "a")
    slots.prove()
    assert not slots.on_trial
    assert (BoardSlots(flash).record.confirmed, Releases(flash).floor) == (A, 4)


def test_a_release_of_the_bundle_is_what_a_slot_keeps():
    bundle = release(2)
    assert bundle.release == encode_release(bundle.manifest_bytes, bundle.signature)
    signed(bundle).verify(ROOT)
