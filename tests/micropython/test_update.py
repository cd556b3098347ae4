"""The whole of an update on real interpreters: bundle, dock, trial, confirmation, roll back, downgrade, power cuts.

The board is a real MicroPython (WASM in the fleet, and the i386 port with 160 kB and a ROM partition) that boots from
its flash: main.py, the loader as source, the compiled application in a slot. Radio, LittleFS and xtensa code are not
tested here.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
from pathlib import Path

import pytest

import qepa_boot
from qepa_boot.loader import Files
from qepa_boot.record import LIB, ROLLED_BACK, TRIAL_BOOTS, A, B, Slots
from qepa_tools.firmware_build.bundle import Bundle, assemble, build_bundle
from qepa_tools.fleet.fleet import BoardError, BoardSpec, Ecg
from qepa_tools.unix_port.board import ROM_BYTES, UnixBoard
from qepa_tools.ward.ports import free_port

from ..unit.board_app.slot_rig import ROOT, encoded, signed
from .board_gateway import FS_HZ, Cable, Gateway, Peer, Ward

BOARD = 0x51
SAMPLES_NO_MORE = b"""
from .application import *
def run():
    raise RuntimeError("sampling")
"""
UPDATE_FROM_FILES = f"""
from qepa_boot.loader import attach
attach()
from qepa_board.system import flash, slot_files, slots
from qepa_wire.manifest import decode_release
def dotted(method):
    def call(*args):
        print(".")
        result = method(*args)
        print(".")
        return result
    return call
for cls, name in ((flash.Flash, "write"), (flash.Flash, "remove"), (slot_files.SlotFiles, "append"),
                  (slot_files.SlotFiles, "remove"), (slot_files.SlotFiles, "complete")):
    setattr(cls, name, dotted(getattr(cls, name)))
updater = slots.BoardSlots(flash.Flash()).updater(bytes.fromhex({ROOT.hex()!r}))
with open("/manifest", "rb") as file:
    release = decode_release(file.read())
with open("/news", "rb") as file:
    news = file.read()
for path, size, there in updater.begin(*release):
    while there < size:
        there = updater.write(path, there, news[there:there + 4096])
updater.finish()
print("done")
"""
HASHES_IN_ROM = """
import binascii, hashlib, os
from qepa_boot import loader, record
loader._use(record.A, True)
def walk(path):
    for entry in os.ilistdir(path):
        inside = path + "/" + entry[0]
        if entry[1] == 0x4000:
            walk(inside)
        else:
            with open(inside, "rb") as file:
                print(inside[len("/code/"):], binascii.hexlify(hashlib.sha256(file.read()).digest()).decode())
walk("/code")
"""
NEW_FILE = "lib/qepa_board/news.py"
CHUNK = 4096


def successor(first: Bundle, version: int, **changed: bytes) -> Bundle:
    """A later release: the same but for one file of its own, which takes more than one piece, and ``changed``."""
    files = {path: content for path, content in first.files.items() if path.rsplit(".")[0] not in changed}
    files |= {f"{stem}.py": content for stem, content in changed.items()}
    files[NEW_FILE] = b"# of version %d\n" % version * 600
    return signed(assemble(first.target, version, files))


def crashing(first: Bundle, version: int) -> Bundle:
    return successor(first, version, **{"lib/qepa_board/app": b"def run():\n    raise ValueError('a mistake')\n"})


def flash_board(flash: Path, bundle: Bundle) -> None:
    """What the cable does with a new board."""
    for path, content in bundle.loader_files.items() | {("a/" + p, c) for p, c in bundle.slot_files.items()}:
        file = flash / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (flash / "qepa").mkdir()
    (flash / "qepa/board.json").write_text(json.dumps({"target": bundle.target}))


class WasmBoard:
    """A board of the fleet; the dock speaks to it while the application runs."""

    target, code = "wasm", "ram"

    def __init__(self, ward: Ward) -> None:
        self._fleet, self._id = ward.fleet, f"{BOARD:08x}"
        self.flash = ward.tmp_path / "flash"
        self._spec = BoardSpec(
            board=self._id, flash=self.flash, firmware=(), main=None, ecg=Ecg(path=ward.ecg, fs_hz=FS_HZ)
        )

    async def start(self) -> None:
        await self._fleet.start_board(self._spec)

    async def dock(self, call: str) -> dict:
        printed = await self._fleet.exec(self._id, f"from qepa_board.system import dock\ndock.{call}")
        return json.loads(printed.strip().splitlines()[-1])

    async def reset(self) -> None:
        with contextlib.suppress(BoardError):
            await self._fleet.exec(self._id, "import machine\nmachine.reset()", timeout_s=2)

    async def cut_power(self) -> None:
        await self._fleet.kill(self._id)

    def wear_rom(self) -> None:
        """It has none."""

    async def close(self) -> None:
        pass


_RAW = r"raw REPL; CTRL-B to exit\r\n>"
_STARTED = r"qepa: (not provisioned|no link key|board 0)"  # this port takes an interrupt in the middle of an import ill


class ConsoleBoard:
    """The i386 port behind a console. The dock interrupts the application and resets softly into the raw REPL, as
    mpremote does, so that it speaks from the slot that is confirmed; a soft reset starts the application again."""

    target, code = "unix", "rom"
    _PRELUDE = "from qepa_boot.loader import attach\nattach()\nfrom qepa_board.system import dock\n"

    def __init__(self, ward: Ward) -> None:
        self.flash = ward.tmp_path / "flash"
        self.rom = ward.tmp_path / "rom"
        self._board: UnixBoard | None = None
        self.printed = ""
        self._reader: asyncio.Task | None = None

    async def start(self) -> None:
        self._board = UnixBoard(self.flash, rom=self.rom)
        self._reader = asyncio.create_task(self._read(self._board))
        await self._expect(_STARTED, len(self.printed))

    async def _read(self, board: UnixBoard) -> None:
        while True:
            self.printed += board.read().decode(errors="replace")
            await asyncio.sleep(0.01)

    async def _expect(self, text: str, start: int, timeout_s: float = 30) -> int:
        async with asyncio.timeout(timeout_s):
            while (found := re.compile(text).search(self.printed, start)) is None:
                await asyncio.sleep(0.01)
        return found.end()

    async def _interrupt(self) -> int:
        at = len(self.printed)
        for _ in range(10):  # an interrupt that comes before the application starts is lost
            self._board.write(b"\x03\x03\x01")
            with contextlib.suppress(TimeoutError):
                return await self._expect(_RAW, at, 2)
        raise AssertionError("the console does not answer")

    async def _raw(self, code: str) -> str:
        at = await self._interrupt()
        self._board.write(b"\x04")
        at = await self._expect(_RAW, await self._expect("soft reboot", at))
        self._board.write(code.encode() + b"\x04")
        begin = await self._expect("OK", at)
        end = await self._expect("\x04>", begin)
        return self.printed[begin:end]

    async def dock(self, call: str) -> dict:
        out, error = (await self._raw(self._PRELUDE + f"dock.{call}\n")).split("\x04")[:2]
        assert not error, error
        at = len(self.printed)
        self._board.write(b"\x02\x04")
        await self._expect(_STARTED, await self._expect("soft reboot", at))
        return json.loads(out.strip().splitlines()[-1])

    async def run_until(self, code: str, dots: int | None) -> None:
        """Run ``code`` at the console until it has printed so many dots, or "done"."""
        at = await self._interrupt()
        self._board.write(code.encode() + b"\x04")
        await self._expect("done" if dots is None else rf"(\.\s*){{{dots}}}|done", at)

    async def reset(self) -> None:
        at = await self._interrupt()
        self._board.write(b"import machine\nmachine.reset()\n\x04")
        await self._expect("SW_CPU_RESET", at)

    async def cut_power(self) -> None:
        if self._board is not None:
            self._reader.cancel()
            self._board.close()
            self._board = None

    def wear_rom(self) -> None:
        """Flip bits of both images."""
        cells = bytearray(self.rom.read_bytes())
        for half in (0, len(cells) // 2):
            cells[half + 5000] ^= 0x0F
        self.rom.write_bytes(cells)

    async def close(self) -> None:
        await self.cut_power()
        print(self.printed)  # for whoever reads about a failure


@pytest.fixture
async def ward(fleet, tmp_path):
    async with Gateway(free_port(), "amqtt") as gateway, Cable(gateway.port) as cable:
        yield Ward(fleet, gateway, cable, tmp_path)


@pytest.fixture(params=["wasm", "i386"])
async def board(request, ward):
    if request.param == "i386":
        request.getfixturevalue("unix_run")  # skips, or fails, where there is no such port
    board = WasmBoard(ward) if request.param == "wasm" else ConsoleBoard(ward)
    yield board
    await board.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    path, asked_for = tmp_path_factory.mktemp("built") / "bundle.zip", re.findall(r"\w+", UPDATE_FROM_FILES)
    first = signed(build_bundle("unix", 1, path, keep=asked_for))
    return first, successor(first, 2)


async def provisioned(board, ward, first: Bundle) -> Peer:
    """Flash, start, provision and dock a board; it has said HELLO from slot a."""
    peer = ward.gateway.peers[BOARD] = Peer(BOARD)
    flash_board(board.flash, first)
    await board.start()
    answer = await board.dock(f"provision({ward.identity(peer, firmware_root=ROOT.hex())!r})")
    assert answer["ok"], answer
    pads = [(os.urandom(16), os.urandom(32)) for _ in range(4)]
    peer.pads.update(pads)
    assert (await board.dock(f"load({b''.join(i + k for i, k in pads).hex()!r})"))["loaded"] == 4
    await said_hello(ward, peer, firmware=first.version, mode=0)
    return peer


async def said_hello(ward, peer: Peer, *, firmware: int, mode: int, after: int = 0) -> None:
    def said() -> bool:
        return any((hello.firmware, hello.mode) == (firmware, mode) for _, hello in peer.hellos[after:])

    await ward.gateway.until(said, f"HELLO of version {firmware} in mode {mode}")


async def begin(board, bundle: Bundle) -> dict:
    return await board.dock(f"update_begin({encoded(bundle.manifest_bytes)!r}, {encoded(bundle.signature)!r})")


async def send(board, bundle: Bundle, missing, pieces: int = 1 << 30) -> int:
    """Send at most ``pieces``; returns how many were sent."""
    sent = 0
    for path, size, there in missing:
        for at in range(there, size, CHUNK):
            if sent == pieces:
                return sent
            piece = encoded(bundle.files[path][at : at + CHUNK])
            answer = await board.dock(f"update_write({path!r}, {at}, {piece!r})")
            assert answer["ok"], answer
            sent += 1
    return sent


async def until_confirmed(board) -> None:
    async with asyncio.timeout(60):
        while (board.flash / "qepa/slots").read_bytes()[:6] != b"\x01\x02\x00\x00\x00\x01":  # b confirmed, no trial
            await asyncio.sleep(0.1)
    status = await board.dock("status()")
    assert (status["slot"], status["version"], status["last_trial"]) == ("b", 2, "confirmed")
    assert status["code"] == board.code


@pytest.mark.slow
async def test_an_update_survives_a_power_cut_proves_itself_and_one_that_crashes_is_rolled_back(board, ward, tmp_path):
    first = signed(build_bundle(board.target, 1, tmp_path / "bundle.zip"))
    peer = await provisioned(board, ward, first)
    second = successor(first, 2)

    missing = (await begin(board, second))["missing"]
    assert [path for path, _, _ in missing] == [NEW_FILE]  # all else was copied on the board
    assert await send(board, second, missing, pieces=1) == 1
    before = len(peer.hellos)
    await board.cut_power()
    await board.start()
    await said_hello(ward, peer, firmware=1, mode=0, after=before)
    status = await board.dock("status()")
    assert (status["slot"], status["version"], status["update"], status["code"]) == ("a", 1, 2, board.code)

    resumed = (await begin(board, second))["missing"]
    assert [(path, there) for path, _, there in resumed] == [(NEW_FILE, CHUNK)]
    await send(board, second, resumed)
    assert (await board.dock("update_finish()"))["version"] == 2
    await board.reset()
    await said_hello(ward, peer, firmware=2, mode=2)
    await until_confirmed(board)

    assert (await begin(board, first))["reason"] == "downgrade"
    assert (await begin(board, second))["reason"] == "installed"
    assert (await begin(board, successor(first, 3).signed(second.signature)))["reason"] == "signature"

    third = crashing(first, 3)
    await send(board, third, (await begin(board, third))["missing"])
    assert (await board.dock("update_finish()"))["version"] == 3
    before = len(peer.hellos)
    await board.reset()
    await said_hello(ward, peer, firmware=2, mode=0, after=before)
    status = await board.dock("status()")
    assert (status["slot"], status["version"], status["last_trial"]) == ("b", 2, "rolled back")
    assert status["code"] == board.code
    assert [line.split(" in ")[0] for line in status["crash_log"]] == ["a: ValueError"] * 3
    assert status["board"] == BOARD
    assert status["counters"]


def small_pauses(flash: Path) -> None:
    """A loader that waits less: after a crash, and for a trial that hangs."""
    loader = flash / "qepa_boot/loader.py"
    text = loader.read_text()
    for name, value in (("PAUSE_S", 0), ("TRIAL_WATCHDOG_MS", 1000)):
        text, count = re.subn(rf"^{name} = \d+", f"{name} = {value}", text, flags=re.MULTILINE)
        assert count == 1
    loader.write_text(text)


async def test_a_confirmed_slot_that_keeps_crashing_ends_in_safe_mode_which_the_gateway_hears_of(board, ward, tmp_path):
    """The fault is in sampling's own module, so that the rest can still speak."""
    first = signed(build_bundle(board.target, 1, tmp_path / "bundle.zip"))
    peer = await provisioned(board, ward, first)
    small_pauses(board.flash)
    await board.cut_power()
    board.wear_rom()  # what is there is not the manifest's either, so it runs from where it is
    app = board.flash / "a/lib/qepa_board/app.py"
    app.write_bytes(SAMPLES_NO_MORE)
    (board.flash / "a/lib/qepa_board/app.mpy").rename(board.flash / "a/lib/qepa_board/application.mpy")
    counters = (board.flash / "qepa/counters").read_bytes()
    await board.start()
    await said_hello(ward, peer, firmware=1, mode=1)
    status = await board.dock("status()")
    assert (status["mode"], status["crashes"], status["slot"], status["code"]) == ("safe", 5, "a", "ram")
    assert status["crash_log"][-1].startswith("a: RuntimeError in /a/lib/qepa_board/app.py")
    assert status["provisioned"]
    assert (board.flash / "qepa/counters").read_bytes() != counters  # the boot that said HELLO was counted
    await board.cut_power()
    app.unlink()
    (board.flash / "a/lib/qepa_board/application.mpy").rename(board.flash / "a/lib/qepa_board/app.mpy")
    before = len(peer.hellos)
    await board.start()
    await said_hello(ward, peer, firmware=1, mode=0, after=before)
    assert (await board.dock("status()"))["code"] == board.code


async def test_a_trial_that_hangs_is_ended_by_the_watchdog_and_rolled_back(ward, unix_run, tmp_path):
    board = ConsoleBoard(ward)
    first = signed(build_bundle("unix", 1, tmp_path / "bundle.zip"))
    flash_board(board.flash, first)
    small_pauses(board.flash)
    hanging = successor(first, 2, **{"lib/qepa_board/app": b"def run():\n    while True:\n        pass\n"})
    for path, content in hanging.slot_files.items():
        (board.flash / "b" / path).parent.mkdir(parents=True, exist_ok=True)
        (board.flash / "b" / path).write_bytes(content)
    slots = Slots(Files(str(board.flash / "qepa")), {A: 1, B: 2, LIB: 0}.get)
    slots.choose(A)
    slots.arm(B)
    await board.start()  # which waits for the application of the old slot
    slots.read()
    assert (slots.confirmed, slots.trial, slots.outcome) == (A, LIB, ROLLED_BACK)
    assert board.printed.count("TG1WDT_SYS_RESET") == TRIAL_BOOTS
    await board.close()


def test_micropython_reads_in_rom_what_is_in_the_slot(unix_run, built, tmp_path):
    """The loader writes the image; what reads it is not ours."""
    first, _ = built
    rom = tmp_path / "rom"
    rom.write_bytes(b"\xff" * ROM_BYTES)
    files = {f"a/{path}": content for path, content in first.slot_files.items()}
    printed = unix_run(HASHES_IN_ROM, files, packages=(Path(qepa_boot.__file__).parent,), rom=rom)
    found = dict(line.split() for line in printed.splitlines())
    lib = {path.removeprefix("lib/"): data for path, data in first.files.items() if path.startswith("lib/")}
    assert found == {path: hashlib.sha256(data).hexdigest() for path, data in lib.items()}


@pytest.mark.parametrize("cut_at", [1, 30, 200, 400, 500, 530])
async def test_an_interpreter_killed_at_any_moment_of_an_update_starts_the_old_slot_and_finishes(
    ward, unix_run, built, cut_at
):
    first, second = built
    board = ConsoleBoard(ward)
    flash_board(board.flash, first)
    (board.flash / "qepa/slots").unlink(missing_ok=True)
    for name, content in (("manifest", second.release), ("news", second.files[NEW_FILE])):
        (board.flash / name).write_bytes(content)
    for cut in (cut_at, None):
        await board.start()
        await board.run_until(UPDATE_FROM_FILES, cut)
        await board.cut_power()
        for path, content in first.slot_files.items():
            assert (board.flash / "a" / path).read_bytes() == content
    slots = Slots(Files(str(board.flash / "qepa")), {A: 1, B: 2, LIB: 0}.get)
    assert slots.trial == B
    for path, content in second.slot_files.items():
        assert (board.flash / "b" / path).read_bytes() == content
    await board.close()
