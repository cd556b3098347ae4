"""How much memory a board's firmware takes: in flash, and of a heap of 160 kB once an ECG board runs and as it boots.

The heap is that of the i386 port: words of 32 bits, as on an ESP32, native code outside of it, as there. The modules
machine and bluetooth and the ROM partition's device are in C on an ESP32: what those that stand for them here take is
measured and given on top. The partition itself is a file that is mapped outside of the heap, as flash is on an ESP32.
"""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import qepa_boot
from qepa_board.system.dock import _load, _provision
from qepa_board.system.flash import Flash
from qepa_tools.firmware_build.bundle import Bundle, assemble, build_bundle, compiled_firmware
from qepa_tools.recordings.chip_wiring import wire_board
from qepa_tools.recordings.recording import counts_from_adc
from qepa_tools.recordings.synthetic import synthetic_recording
from qepa_tools.unix_port.board import ROM_BYTES, ROM_STAND_IN_BYTES, STAND_INS_BYTES, UnixBoard
from qepa_tools.unix_port.run_once import BOARD_HEAP_BYTES

SECONDS = 12
LEAST_FREE_BYTES = {"rom": 60 * 1024, "ram": 10 * 1024}  # by where the code is
LEAST_PIECE_BYTES = {"rom": 48 * 1024, "ram": 4 * 1024}
# What there is now. Whoever takes more of it says why here, whoever needs less lowers it.
MOST_COMPILED_BYTES = 118 * 1024

IDENTITY = {
    "board": 42,
    "gateway": "gw-1",
    "fs_hz": 256,
    "rekey_s": 30,
    "end_key": "11" * 32,
    "cohort_key": "22" * 32,
    "model_root": "00" * 60,
}
TRANSPORTS = {
    "mqtt": {"transport": "mqtt", "broker": {"host": "broker", "port": 1883}},
    "ble": {"transport": "ble"},
}
SENSORS = [{"chip": "max30003", "bus": {"kind": "spi", "id": 1, "sck": 1, "mosi": 2, "miso": 3, "cs": 4}, "int": 5}]

MACHINE = """
HARD_RESET, WDT_RESET, DEEPSLEEP_RESET, SOFT_RESET, PWRON_RESET = 2, 3, 4, 5, 1
class Anything:
    IN = OUT = PULL_UP = IRQ_FALLING = IRQ_RISING = MSB = 0
    def __init__(self, *arguments, **named):
        pass
    def value(self, *level):
        return 0
Pin = SPI = I2C = ADC = WDT = Timer = Anything
def reset_cause():
    return 1
def unique_id():
    return b"123456"
"""
BLUETOOTH = """
FLAG_READ = FLAG_WRITE = FLAG_NOTIFY = FLAG_WRITE_NO_RESPONSE = 1
def UUID(text):
    return text
class BLE:
    pass
"""

PLACE = """
from qepa_boot import loader, record
loader._use(record.A, True)
assert loader.in_rom
"""
SPENT = """
import gc
gc.collect()
print(gc.mem_alloc())
"""
ATTACH = """
from qepa_boot.loader import attach
attach()
"""
# What boots a board, but for the tasks that wait for its clock, its radio and its sensor; prints what is free.
PROGRAM = """
import gc
import os
import asyncio, bluetooth, hashlib, json, machine, random, struct
from array import array
os.remove("/_program.py")

def renamed(old, new):  # this port's own, where a directory is mounted at /, takes both for the new name
    with open(old, "rb") as file:
        data = file.read()
    with open(new, "wb") as file:
        file.write(data)
    os.remove(old)

class Os:
    mkdir, listdir, remove, stat, statvfs, rename = os.mkdir, os.listdir, os.remove, os.stat, os.statvfs, renamed

gc.collect()
before = gc.mem_free()
from qepa_board.app import App, Clock
from qepa_board.keys.identity import load_identity
from qepa_board.system import flash as files
gc.collect()
imported = gc.mem_free()
files.os = Os
flash = files.Flash()
app = App(flash, load_identity(flash), Clock())
app.start()
app._next_epoch(True)
app.open_connection()
block = array("h", bytes(2 * 64))
with open("/ecg.bin", "rb") as ecg:
    while ecg.readinto(block) == 128:
        app.vitals.push(block, 64)
assert app.vitals.pipeline.n_beats > 5
gc.collect()
running = gc.mem_free()
try:
    app.link.send_waves(bytes(32), bytes(16), app.sensing.waves(1))
    streams = True
except MemoryError:
    streams = False
gc.collect()
free = {"before": before, "imported": imported, "running": running, "streaming": gc.mem_free()}
print(json.dumps(free | {"streams": streams}))
"""

USED_ANYHOW = """
import asyncio, gc, hashlib, io, json, os, struct, sys, time
from array import array
"""
OPEN_A_SENSOR = """
import machine
machine.ADC(36)
"""
# boot.py of a board that tells of its memory, all of it running: free bytes, the largest piece, beats so far.
TELL = """
import asyncio, gc, sys
def largest_piece():
    size = 64 * 1024
    while size:
        try:
            return len(bytearray(size))
        except MemoryError:
            size -= 1024
    return 0
async def tell():
    while True:
        await asyncio.sleep(1)
        app = getattr(sys.modules.get("qepa_board.app"), "App", None)
        app = getattr(app, "running", None)
        if app and app.vitals and app.link:
            gc.collect()
            print("memory", gc.mem_free(), largest_piece(), app.vitals.pipeline.n_beats)
asyncio.create_task(tell())
"""
AD8232 = {"chip": "ad8232", "out": 36, "lo_plus": 34, "lo_minus": 35, "fs_hz": 360}

LOADER = Path(qepa_boot.__file__ or "").parent


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The firmware as compiled for the i386 port, with the names that the program asks for."""
    return assemble("unix", 1, compiled_firmware("unix", keep=re.findall(r"\w+", PROGRAM)))


def as_packages(bundle: Bundle, root: Path) -> tuple[Path, ...]:
    """The packages in a directory, from which they are loaded into the heap."""
    for path, content in bundle.files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return tuple((root / "lib").iterdir())


def board_files(transport: str, tmp_path: Path) -> dict[str, bytes]:
    """What is in the flash of a provisioned ECG board, and what its sensor measures."""
    flash = Flash(str(tmp_path / "qepa"))
    _provision(flash, json.dumps(IDENTITY | TRANSPORTS[transport]))
    _load(flash, "ab" * 48)
    flash.write("board.json", json.dumps({"sensors": SENSORS}).encode())
    counts = counts_from_adc(synthetic_recording(7, 1, SECONDS, fs_hz=256).samples)
    files = {f"qepa/{name}": flash.read(name) or b"" for name in flash.names()}
    return files | {"ecg.bin": counts.astype("<i2").tobytes()}


@pytest.mark.parametrize("transport", sorted(TRANSPORTS))
@pytest.mark.parametrize("code", sorted(LEAST_FREE_BYTES))
def test_an_ecg_board_runs_in_a_heap_of_160_kilobytes(
    code: str, transport: str, bundle: Bundle, unix_run: Callable[..., str], tmp_path: Path
) -> None:
    files = board_files(transport, tmp_path)
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "machine.py").write_text(MACHINE)
    (shims / "bluetooth.py").write_text(BLUETOOTH)
    rom, program, packages = None, PROGRAM, (LOADER,)
    if code == "ram":
        packages += as_packages(bundle, tmp_path)
    else:
        files |= {f"a/{path}": content for path, content in bundle.slot_files.items()}
        rom = tmp_path / "rom.bin"
        rom.write_bytes(b"\xff" * ROM_BYTES)
        unix_run(PLACE, files, packages=packages, rom=rom)
        program = ATTACH + PROGRAM
    stand_ins = int(unix_run("import machine, bluetooth" + SPENT, shims=shims, rom=rom)) - int(unix_run(SPENT))
    heap_bytes = BOARD_HEAP_BYTES + stand_ins
    printed = unix_run(program, files, packages=packages, shims=shims, rom=rom, heap_bytes=heap_bytes)
    free = json.loads(printed.splitlines()[-1]) | {"stand_ins": stand_ins}
    print(code, transport, free)
    assert min(free["running"], free["streaming"]) >= LEAST_FREE_BYTES[code]
    # This import order leaves no large piece where code is in the heap; a boot does, see below.
    assert free["streams"] or code == "ram"


@pytest.mark.parametrize("code", sorted(LEAST_FREE_BYTES))
def test_what_a_board_gets_on_top_for_its_stand_ins_is_no_more_than_they_take(
    code: str, unix_run: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(USED_ANYHOW + OPEN_A_SENSOR + SPENT.replace("print(", "print('spent', "))
    board = UnixBoard(tmp_path, rom=tmp_path / "rom.bin" if code == "rom" else None)
    (spent,) = said(board, r"spent (\d+)")
    taken = int(spent) - int(unix_run(USED_ANYHOW + SPENT))
    print(code, taken)
    assert taken >= STAND_INS_BYTES + (ROM_STAND_IN_BYTES if code == "rom" else 0)


@pytest.mark.usefixtures("unix_run")
@pytest.mark.parametrize("code", sorted(LEAST_FREE_BYTES))
def test_a_whole_boot_leaves_its_memory_in_one_piece(code: str, tmp_path: Path) -> None:
    """Both at the boot that places the code in ROM and at the next. Long paths of the host once scattered it most."""
    files = tmp_path.joinpath(*["directory"] * 12)
    firmware = build_bundle("unix", 1, tmp_path / "bundle.zip", keep=re.findall(r"\w+", TELL), transports=["mqtt"])
    content = firmware.loader_files | {f"a/{path}": data for path, data in firmware.slot_files.items()}
    for path, data in content.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_bytes(data)
    identity = IDENTITY | {"transport": "mqtt", "broker": {"host": "127.0.0.1", "port": 9}, "fs_hz": 360}
    flash = Flash(str(files / "qepa"))
    _provision(flash, json.dumps(identity))
    _load(flash, "ab" * 48)
    flash.write("board.json", json.dumps({"target": "unix", "sensors": [AD8232]}).encode())
    wire_board(files, [AD8232])
    (files / "boot.py").write_text(TELL)
    for beats in (r"\d+", r"[1-9]\d*"):
        board = UnixBoard(files, rom=tmp_path / "rom.bin" if code == "rom" else None)
        free, piece = map(int, said(board, rf"memory (\d+) (\d+) {beats}"))
        print(code, {"free": free, "largest": piece})
        assert free >= LEAST_FREE_BYTES[code]
        assert piece >= LEAST_PIECE_BYTES[code]


def said(board: UnixBoard, pattern: str, timeout_s: float = 120) -> tuple[str, ...]:
    """The groups of the first line on the console that is ``pattern``; the power is cut then."""
    line, printed, deadline = re.compile(rf"^{pattern}\r$", re.MULTILINE), "", time.monotonic() + timeout_s
    try:
        while (found := line.search(printed)) is None:
            assert time.monotonic() < deadline, printed
            time.sleep(0.05)
            printed += board.read().decode(errors="replace")
        return found.groups()
    finally:
        board.close()


def compiled_bytes(target: str) -> int:
    return sum(len(content) for path, content in compiled_firmware(target).items() if path.endswith(".mpy"))


def test_the_compiled_firmware_does_not_grow() -> None:
    assert compiled_bytes("esp32") <= MOST_COMPILED_BYTES
