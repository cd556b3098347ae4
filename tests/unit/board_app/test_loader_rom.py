"""Code in the ROM partition: a half holds just what its slot's manifest lists, or nothing, whenever the power fails."""

import itertools
import struct
import sys
from types import SimpleNamespace

import pytest

from qepa_boot import loader, record
from qepa_boot.record import NORMAL, SAFE, TRIAL, TRIAL_BOOTS, A, B, Slots
from qepa_boot.rom import BLOCK, MOUNT
from qepa_tools.board.install import runs_from_rom
from qepa_tools.firmware_build.bundle import Bundle
from qepa_wire.manifest import LIB

from .slot_rig import release

ERASED = b"\xff" * BLOCK


class MortalRom(bytearray):
    """A partition of NOR flash, whose writes draw on the power of ``flash``; one that is cut may be ``torn``."""

    def __init__(self, flash, blocks):
        super().__init__(ERASED * blocks)
        self.flash = flash
        self.torn = False

    def ioctl(self, command, block):
        assert command == 6
        self._write(block, ERASED)

    def writeblocks(self, block, data):
        assert len(data) == BLOCK
        self._write(block, data)

    def _write(self, block, data):
        def change(count=BLOCK):
            self[block * BLOCK : block * BLOCK + count] = bytes(data[:count])

        if self.torn and self.flash.operations + 1 == self.flash.dies_at:
            change(50)
        self.flash._act(change)

    def half(self, slot) -> bytes:
        size = len(self) // 2
        return bytes(self[:size] if slot == A else self[size:])


def romfs(image) -> dict[str, bytes]:
    """Files in a ROMFS image by path, read as MicroPython's documentation (reference/romfs) describes it."""

    def varuint(at):
        value = 0
        while True:
            value = value << 7 | image[at] & 0x7F
            at += 1
            if not image[at - 1] & 0x80:
                return value, at

    def records(at, end):
        while at < end:
            kind, at = varuint(at)
            length, at = varuint(at)
            yield kind, at, at + length
            at += length
        assert at == end

    def walk(at, end, path):
        for kind, start, stop in records(at, end):
            length, first = varuint(start)
            after = first + length
            name = path + bytes(image[first:after]).decode()
            if kind == 4:
                walk(after, stop, name + "/")
            else:
                ((data, low, high),) = records(after, stop)
                assert (kind, data) == (5, 2)
                files[name] = bytes(image[low:high])

    files: dict[str, bytes] = {}
    assert bytes(image[:3]) == b"\xd2\xcd\x31"
    assert len(image) % 2 == 0
    ((_, start, stop),) = records(0, len(image))
    walk(start, stop, "")
    return files


def code_of(bundle: Bundle) -> dict[str, bytes]:
    return {path.removeprefix(LIB): data for path, data in bundle.files.items() if path.startswith(LIB)}


FIRST = release(1, more={"lib/qepa_board/signals/deep/er.mpy": b"1", "lib/qepa_board/signals.mpy": b"2" * 300})
SECOND = release(2, extra=b"!")


class Board:
    """A board with FIRST in slot a, confirmed, and SECOND in slot b. ``ran``: the code that each boot has started."""

    def __init__(self, root, flash, monkeypatch, blocks=16):
        self.root, self.flash, self._monkeypatch = root, flash, monkeypatch
        self.rom = MortalRom(flash, blocks)
        self.ran = []
        self.ends = lambda: None
        for slot, bundle in ((A, FIRST), (B, SECOND)):
            for path, content in bundle.slot_files.items():
                self.write(slot, path, content)
        self.slots().choose(A)
        machine = SimpleNamespace(
            PWRON_RESET=1, DEEPSLEEP_RESET=4, SOFT_RESET=5, reset_cause=lambda: 1, reset=lambda: None
        )
        vfs = SimpleNamespace(
            rom_ioctl=lambda command, *_: 1 if command == 1 else self.rom, VfsRom=romfs, mount=self._mount
        )
        for name, value in (("ROOT", str(root)), ("PAUSE_S", 0), ("_start", self._start)):
            monkeypatch.setattr(loader, name, value)
        monkeypatch.setitem(sys.modules, "machine", machine)
        monkeypatch.setitem(sys.modules, "vfs", vfs)

    def write(self, slot, path, content):
        file = self.root / record.NAMES[slot] / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def slots(self) -> Slots:
        return Slots(self.flash, {A: 1, B: 2, 0: 0}.get)

    def _mount(self, files, where):
        self._mounted[where] = files

    def _reset(self):
        self._mounted = {}
        for name, value in (("slot", None), ("in_rom", False), ("mode", NORMAL), ("booted", False)):
            self._monkeypatch.setattr(loader, name, value)
        self._monkeypatch.setattr(sys, "path", ["", ".frozen", "/lib", "/rom", "/rom/lib"])
        self._monkeypatch.setattr(loader, "Files", lambda _: self.flash)

    def _start(self, _mode):
        self.ran.append(self.running())
        self.ends()

    def running(self):
        """What an import would find: files from ROM, or the slot whose files would be loaded."""
        paths = [path for path in sys.path if path not in ("", ".frozen", "/lib")]
        if loader.in_rom:
            assert paths == [MOUNT]
            return self._mounted[MOUNT]
        assert paths[0] == f"{self.root}/{record.NAMES[loader.slot]}/lib"
        assert MOUNT not in paths
        return loader.slot

    def boot(self):
        """Boot; returns what ran."""
        self._reset()
        loader.boot()
        return self.ran[-1]

    def attach(self):
        """What the dock does in a fresh interpreter."""
        self._reset()
        loader.attach()
        return self.running()


@pytest.fixture
def board(tmp_path, flash, monkeypatch) -> Board:
    return Board(tmp_path, flash, monkeypatch)


def test_the_first_boot_of_a_release_puts_it_into_rom_and_later_ones_only_read(board):
    assert board.attach() == A
    assert board.boot() == code_of(FIRST)
    writes = board.flash.operations
    assert board.boot() == board.attach() == code_of(FIRST)
    assert board.flash.operations == writes


def test_each_slot_has_its_half_so_that_a_trial_leaves_the_old_code_where_it_is(board):
    board.boot()
    half = board.rom.half(A)
    board.slots().arm(B)
    assert [board.boot() for _ in range(TRIAL_BOOTS)] == [code_of(SECOND)] * TRIAL_BOOTS
    writes = board.flash.operations
    assert board.boot() == code_of(FIRST)
    assert board.rom.half(A) == half
    assert board.flash.operations == writes + 1  # the end of the trial


def test_another_release_in_the_slot_takes_the_place_of_the_old_one(board):
    board.boot()
    for path, content in SECOND.slot_files.items():
        board.write(A, path, content)
    assert board.attach() == A
    assert board.boot() == code_of(SECOND)


def test_no_half_is_one_that_micropython_would_mount_by_itself(board):
    board.slots().choose(B)
    board.boot()
    board.slots().choose(A)
    board.boot()
    for slot in (A, B):
        assert board.rom.half(slot)[:3] != b"\xd2\xcd\x31"


@pytest.mark.parametrize("at", [0, 4, 8, 39, 40, 71, BLOCK, BLOCK + 8, BLOCK + 1000, 2 * BLOCK])
def test_what_flash_has_altered_is_not_run_and_the_next_boot_mends_it(board, at):
    board.boot()
    board.rom[at] ^= 0x10
    assert board.attach() == A
    assert board.boot() == code_of(FIRST)
    assert board.attach() == code_of(FIRST)


def test_a_record_that_names_more_than_there_is_finds_nothing(board):
    board.boot()
    struct.pack_into("<I", board.rom, 4, 0xFFFFFFFF)
    assert board.attach() == A


@pytest.mark.parametrize("cut", ["before", "after", "torn"])
def test_whenever_the_power_fails_what_runs_is_a_whole_release_and_the_next_boot_has_it_in_rom(
    tmp_path, flash, power_cut, monkeypatch, cut
):
    for moment in itertools.count(1):
        power = type(flash)()
        board = Board(tmp_path, power, monkeypatch)
        board.boot()
        board.slots().arm(B)
        before = board.rom.half(A)
        board.rom.torn = cut == "torn"
        power.operations, power.dies_at, power.applied = 0, moment, cut == "after"
        died = False
        try:
            board.boot()
        except power_cut:
            died = True
        power.dies_at = None
        board._reset()
        loader._use(B)
        assert board.running() in (B, code_of(SECOND))
        assert board.rom.half(A) == before
        assert board.boot() == code_of(SECOND)
        if not died:
            assert moment > 5
            return


def test_files_that_are_not_what_the_manifest_says_run_as_they_are_and_wear_no_flash(board, capsys):
    board.write(A, "lib/qepa_board/app.mpy", b"altered")
    for _ in range(3):
        assert board.boot() == A
    assert "slot a is not in ROM" in capsys.readouterr().out
    assert board.rom.half(A) == ERASED * 8
    board.write(A, "lib/qepa_board/app.mpy", FIRST.files["lib/qepa_board/app.mpy"])
    assert board.boot() == code_of(FIRST)


@pytest.mark.parametrize("blocks", [0, 1, 2, 7])
def test_a_partition_that_is_too_small_is_left_alone(tmp_path, flash, monkeypatch, blocks):
    board = Board(tmp_path, flash, monkeypatch, blocks)
    assert board.boot() == A
    assert bytes(board.rom) == ERASED * blocks


@pytest.mark.parametrize("blocks", range(0, 16))
def test_where_the_board_tool_sees_room_there_is_room(tmp_path, flash, monkeypatch, blocks):
    board = Board(tmp_path, flash, monkeypatch, blocks)
    seen = runs_from_rom(SimpleNamespace(call=lambda _: len(board.rom)), FIRST)
    assert seen <= (board.boot() == code_of(FIRST))
    assert seen or blocks < 12


def test_a_partition_that_refuses_costs_nothing_but_memory(board, monkeypatch):
    def refuse(*_):
        raise OSError(5)

    monkeypatch.setattr(board.rom, "ioctl", refuse)
    assert board.boot() == A


@pytest.mark.parametrize("lacking", ["module", "function", "partition"])
def test_a_board_without_a_partition_runs_from_its_files(board, monkeypatch, lacking):
    if lacking == "module":
        monkeypatch.setitem(sys.modules, "vfs", None)
    elif lacking == "function":
        monkeypatch.delattr(sys.modules["vfs"], "rom_ioctl")
    else:
        monkeypatch.setattr(sys.modules["vfs"], "rom_ioctl", lambda *_: 0)
    assert board.boot() == A


def test_safe_mode_writes_no_rom(board):
    for _ in range(record.CRASHES_TO_SAFE):
        board.slots().begin(True)
    board._monkeypatch.setattr(loader, "_restarted", lambda: True)
    assert board.boot() == A
    assert loader.mode == SAFE
    assert bytes(board.rom) == ERASED * 16


def test_a_boot_that_the_console_interrupts_meanwhile_counts_for_nothing(board, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    board.slots().arm(B)
    with monkeypatch.context() as patched:
        patched.setattr(board.rom, "writeblocks", interrupt)
        for _ in range(2 * TRIAL_BOOTS):
            with pytest.raises(KeyboardInterrupt):
                board.boot()
    assert board.boot() == code_of(SECOND)
    assert loader.mode == TRIAL


def test_a_boot_after_the_dock_has_attached_does_not_write_what_may_be_running(board):
    board.boot()
    board.attach()
    for path, content in SECOND.slot_files.items():
        board.write(A, path, content)
    half = board.rom.half(A)
    loader.boot()
    assert board.rom.half(A) == half


def test_what_has_put_the_code_there_takes_no_memory_afterwards(board):
    board.boot()
    assert not {"qepa_boot.rom", "qepa_boot.place"} & set(sys.modules)
