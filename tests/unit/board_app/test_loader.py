"""The loader: every boot is counted before the application starts, and no loop of crashes hides the console."""

import itertools
import sys
from types import SimpleNamespace

import pytest

from qepa_boot import loader
from qepa_boot.crash import LINES, describe, note_crash, read_crashes
from qepa_boot.record import (
    CONFIRMED,
    CRASHES_TO_SAFE,
    FILE,
    LIB,
    NORMAL,
    ROLLED_BACK,
    SAFE,
    TRIAL,
    TRIAL_BOOTS,
    A,
    B,
    Slots,
)

from .slot_rig import release

POWER_ON, HARD, WATCHDOG, DEEP_SLEEP, SOFT = 1, 2, 3, 4, 5


def complete(*slots):
    return lambda slot: slot if slot in slots else 0


def view(flash):
    """The record as one who opens it now sees it; both slots are complete."""
    return Slots(flash, complete(A, B))


@pytest.fixture
def slots(flash):
    slots = view(flash)
    slots.choose(A)
    return slots


def test_the_first_boot_starts_the_newest_complete_slot(flash):
    assert Slots(flash, complete(A)).begin(False) == (A, NORMAL)
    flash.files.clear()
    assert Slots(flash, {A: 3, B: 4, LIB: 1}.get).begin(False) == (B, NORMAL)
    flash.files.clear()
    assert Slots(flash, {A: 0, B: 0, LIB: 1}.get).begin(False) == (LIB, NORMAL)
    flash.files.clear()
    assert Slots(flash, complete()).begin(False) == (LIB, SAFE)


def test_a_trial_costs_an_attempt_before_it_starts_whatever_ends_it(flash, slots):
    slots.arm(B)
    for left in reversed(range(TRIAL_BOOTS)):
        assert view(flash).begin(left % 2 == 0) == (B, TRIAL)
        assert view(flash).attempts == left
    assert view(flash).begin(True) == (A, NORMAL)
    assert (view(flash).outcome, view(flash).crashes) == (ROLLED_BACK, 0)


def test_a_trial_that_is_confirmed_stays(flash, slots):
    slots.arm(B)
    slots.begin(True)
    slots.confirm(B)
    assert view(flash).begin(True) == (B, NORMAL)
    assert view(flash).outcome == CONFIRMED


def test_loader_application_and_dock_do_not_undo_each_other(flash, slots):
    slots.arm(B)
    of_loader, application, dock = view(flash), view(flash), view(flash)
    assert of_loader.begin(True) == (B, TRIAL)
    application.confirm(B)
    of_loader.uncount()
    assert (view(flash).confirmed, view(flash).trial, view(flash).outcome) == (B, LIB, CONFIRMED)
    dock.arm(A)
    application.healthy()
    application.confirm(B)  # not the one on trial any more
    assert (view(flash).confirmed, view(flash).trial, view(flash).attempts) == (B, A, TRIAL_BOOTS)


def test_a_slot_on_trial_that_is_not_complete_is_not_started(flash, slots):
    slots.arm(B)
    assert Slots(flash, complete(A)).begin(False) == (A, NORMAL)
    assert view(flash).outcome == ROLLED_BACK


def test_a_confirmed_slot_that_crashes_again_and_again_is_left_alone_until_the_power_is_cut(flash, slots):
    for _ in range(CRASHES_TO_SAFE - 1):
        assert Slots(flash, complete(A)).begin(True) == (A, NORMAL)
    for _ in range(5):
        assert Slots(flash, complete(A)).begin(True) == (A, SAFE)
    writes = flash.operations
    Slots(flash, complete(A)).begin(True)
    assert flash.operations == writes  # a board in safe mode does not wear its flash
    assert Slots(flash, complete(A)).begin(False) == (A, NORMAL)


def test_crashes_with_a_good_while_between_do_not_add_up(flash, slots):
    for _ in range(3 * CRASHES_TO_SAFE):
        assert Slots(flash, complete(A)).begin(True) == (A, NORMAL)
        view(flash).healthy()


def test_a_boot_that_the_console_interrupts_counts_for_nothing(flash, slots):
    for _ in range(3 * CRASHES_TO_SAFE):
        assert Slots(flash, complete(A)).begin(True) == (A, NORMAL)
        view(flash).uncount()
    slots.arm(B)
    for _ in range(3 * TRIAL_BOOTS):
        assert view(flash).begin(True) == (B, TRIAL)
        view(flash).uncount()


def test_a_quiet_boot_writes_nothing(flash, slots):
    writes = flash.operations
    for _ in range(5):
        assert Slots(flash, complete(A)).begin(False) == (A, NORMAL)
        view(flash).healthy()
    assert flash.operations == writes


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda _: b"", lambda data: b"\x02" + data[1:]])
def test_an_altered_record_is_not_believed(flash, slots, damage):
    slots.choose(B)
    flash.files[FILE] = damage(flash.files[FILE])
    assert view(flash).lost
    assert Slots(flash, complete(A)).confirmed == A
    assert Slots(flash, complete(A)).begin(True) == (A, NORMAL)


@pytest.mark.parametrize("applied", [False, True])
def test_whenever_the_power_fails_a_trial_ends_and_a_complete_slot_starts(flash, power_cut, applied):
    for moment in itertools.count(1):
        flash.__init__()
        view(flash).choose(A)
        view(flash).arm(B)
        flash.operations, flash.dies_at, flash.applied = 0, moment, applied
        started = []
        died = False
        for _ in range(TRIAL_BOOTS + 3):
            try:
                started.append(view(flash).begin(True))
            except power_cut:
                died = True
        assert started.count((B, TRIAL)) <= TRIAL_BOOTS
        assert started[-1] == (A, NORMAL)
        if not died:
            return


@pytest.fixture
def board(tmp_path, monkeypatch):
    """A flash in a directory with version 3 in slot a, as the loader sees it; ``ends`` is what the application does."""
    monkeypatch.setattr(loader, "ROOT", str(tmp_path))
    for name, value in (("slot", None), ("mode", NORMAL), ("booted", False)):
        monkeypatch.setattr(loader, name, value)
    monkeypatch.setattr(sys, "path", list(sys.path))
    resets = []
    machine = SimpleNamespace(
        PWRON_RESET=POWER_ON, DEEPSLEEP_RESET=DEEP_SLEEP, SOFT_RESET=SOFT, reset_cause=lambda: board.cause,
        reset=lambda: resets.append(True), WDT=lambda **settings: board.watchdogs.append(settings),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "machine", machine)
    monkeypatch.setattr(loader, "PAUSE_S", 0)
    (tmp_path / "a").mkdir()
    (tmp_path / "a/manifest").write_bytes(release(3).release)
    board = SimpleNamespace(
        cause=POWER_ON, resets=resets, watchdogs=[], starts=[], path=tmp_path, ends=lambda: None,
        slots=lambda: Slots(loader.Files(str(tmp_path / "qepa")), loader.version_of),
    )  # fmt: skip

    def start(mode):
        board.starts.append((loader.slot, mode))
        board.ends()

    monkeypatch.setattr(loader, "_start", start)
    return board


def test_a_boot_puts_its_slot_first_on_the_path(board):
    loader.boot()
    assert board.starts == [(A, NORMAL)]
    assert sys.path[0] == f"{board.path}/a/lib"
    assert (loader.slot, loader.booted) == (A, True)


def test_a_crash_is_noted_and_the_board_resets_until_it_is_safe(board, capsys):
    def crash():
        raise ValueError("secret")

    board.ends = crash
    for _ in range(CRASHES_TO_SAFE):
        loader.boot()
        board.cause = HARD
    assert len(board.resets) == CRASHES_TO_SAFE
    loader.boot()
    assert board.starts[-1] == (A, SAFE)
    assert len(board.resets) == CRASHES_TO_SAFE  # the console is free
    assert "qepa: safe mode: slot a: crashed 5 times in a row" in capsys.readouterr().out
    log = (board.path / "qepa/crashes").read_text()
    assert log.splitlines()[0].startswith("a: ValueError in ")
    assert "secret" not in log


def test_the_interrupt_of_the_console_goes_through_and_counts_for_nothing(board):
    def interrupt():
        raise KeyboardInterrupt

    board.ends, board.cause = interrupt, WATCHDOG
    for _ in range(2 * CRASHES_TO_SAFE):
        with pytest.raises(KeyboardInterrupt):
            loader.boot()
    assert board.starts[-1] == (A, NORMAL)
    assert not board.resets


def test_an_interrupt_in_safe_mode_does_not_end_it(board):
    for _ in range(CRASHES_TO_SAFE + 1):
        board.slots().begin(True)

    def interrupt():
        raise KeyboardInterrupt

    board.ends, board.cause = interrupt, WATCHDOG
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            loader.boot()
        assert board.starts[-1] == (A, SAFE)


def test_a_flash_that_takes_no_record_starts_what_is_confirmed_and_never_a_trial(board, monkeypatch, capsys):
    board.slots().choose(A)
    board.slots().arm(B)
    (board.path / "b").mkdir()
    (board.path / "b/manifest").write_bytes(release(4).release)

    def full(self, name, data):
        raise OSError(28, "ENOSPC")

    monkeypatch.setattr(loader.Files, "write", full)
    loader.boot()
    assert board.starts == [(A, NORMAL)]
    assert "boot not counted" in capsys.readouterr().out


def test_the_dock_finds_the_confirmed_slot_without_a_boot_and_counts_nothing(board):
    assert loader.attach() == f"{board.path}/a"
    assert sys.path[0] == f"{board.path}/a/lib"
    assert not (board.path / "qepa/slots").exists()
    assert not board.starts


def test_the_version_of_a_slot_is_in_the_first_bytes_of_its_manifest(board):
    assert [loader.version_of(slot) for slot in (LIB, A, B)] == [0, 3, 0]
    (board.path / "lib/qepa_board").mkdir(parents=True)
    (board.path / "b").mkdir()
    (board.path / "b/manifest").write_bytes(release(70000).release[:9])
    assert [loader.version_of(slot) for slot in (LIB, A, B)] == [1, 3, 0]


def test_the_crash_log_keeps_the_last_lines_and_no_message(flash):
    for number in range(LINES + 2):
        try:
            {}[f"secret {number}"]
        except KeyError as error:
            note_crash(flash, "b", error)
            line = describe(error)
    assert read_crashes(flash) == [f"b: {line}"] * LINES
    assert "KeyError in " in line
    assert "secret" not in line
    flash.files["crashes"] = b"\xff\xff"
    assert read_crashes(flash) == []


def test_a_flash_that_takes_no_log_does_not_add_a_crash_to_the_crash():
    def full(name, data):
        raise OSError(28)

    note_crash(SimpleNamespace(read=lambda _: None, write=full), "a", ValueError())
