"""A board's firmware and the gateway's daemon over Bluetooth LE: waveforms, a model, a release of firmware.

The board is the i386 port with a heap of 160 kB and a ROM partition; above it the daemon with bleak's own classes, the
spool and the roll-out; between them bumble's stack. The server is played. No radio frequency, no NimBLE, no BlueZ, no
xtensa code; how fast it is here says nothing of a board.
"""

import asyncio
import contextlib
import json
from pathlib import Path

import numpy as np
import pyhsslms.pyhsslms as hsslms
import pytest

from qepa_board.streams.alerts import AlertEdges
from qepa_board.system.dock import _load, _provision
from qepa_board.system.flash import Flash
from qepa_gateway.ble.bleak_radio import BleakRadio
from qepa_gateway.ble.transport import BleTransport
from qepa_gateway.daemon import Daemon
from qepa_gateway.domain.rollout import Stage, Terms
from qepa_gateway.transport import Transports
from qepa_gateway.waves import KEPT_S
from qepa_tools.air.bleak_backend import backends
from qepa_tools.air.radio import SHIMS as AIR_SHIMS
from qepa_tools.air.radio import Radio
from qepa_tools.firmware_build.bundle import Bundle, build_bundle
from qepa_tools.recordings.chip_wiring import wire_board
from qepa_tools.unix_port.board import RADIO_STAND_IN_BYTES, SHIMS, UnixBoard
from qepa_uplink.messages import FirmwareRelease, ModelRelease, WaveWatch
from qepa_wire import frame, model
from qepa_wire.errors import WireError
from qepa_wire.firmware import COMPLETE, WANTS, Want, decode_want
from qepa_wire.fragments import FIRST, LAST, Reassembler
from qepa_wire.payloads import ALERT_ASYSTOLE, ALERT_LEAD_OFF, WAVE_ECG

from ..integration.living_rig import Keys, LivingRig, ToServer
from ..unit.board_app.slot_rig import ROOT, signed
from .test_memory import AD8232
from .test_update import flash_board, small_pauses, successor

pytestmark = pytest.mark.timeout(600)
BOARD = 1
ADDRESS = "F0:F1:F2:F3:F5:01"
KIND = "unix-ecg"
STACK_HOLDS = 12  # notifications under way in NimBLE, as the virtual stack has it
PATIENCE_S = 250
TERMS = Terms(600_000, soak_ms=0, again_after_ms=0, most_failures=1, reboots=True)
FEATURES, CLASSES = 17, 4

# boot.py: files in flash stand for an electrode that is off, and for a heart that stands still.
ELECTRODE_OFF, HEART_STANDS = "electrode_off", "heart_stands"
BODY = f"""
import asyncio, os, sys
def is_there(name):
    try:
        os.stat(name)
        return True
    except OSError:
        return False
async def body():
    while "chips.wiring" not in sys.modules:
        await asyncio.sleep_ms(20)
    shown = sys.modules["machine"]._AnalogueInput
    beating = shown.read
    while True:
        sys.modules["chips.wiring"]._levels[{AD8232["lo_plus"]}] = int(is_there("/{ELECTRODE_OFF}"))
        shown.read = (lambda self: 32768) if is_there("/{HEART_STANDS}") else beating
        await asyncio.sleep_ms(20)
asyncio.create_task(body())
"""


class AirBoard:
    """The board; its flash and ROM outlive its power."""

    def __init__(self, directory: Path, radio: Radio) -> None:
        self.flash, self._rom, self._radio = directory / "flash", directory / "rom", radio
        self._shims = directory / "shims"
        self._shims.mkdir()
        for shim in (*SHIMS.glob("*.py"), *AIR_SHIMS.glob("*.py")):
            (self._shims / shim.name).symlink_to(shim)
        self._board: UnixBoard | None = None
        self.printed = ""

    def start(self) -> None:
        self._board = UnixBoard(self.flash, rom=self._rom, shims=self._shims, radio=(self._radio.port, ADDRESS))
        self._reader = asyncio.create_task(self._read(self._board))

    async def _read(self, board: UnixBoard) -> None:
        while True:
            self.printed += board.read().decode(errors="replace")
            await asyncio.sleep(0.01)

    def cut_power(self) -> None:
        if self._board is not None:
            self._reader.cancel()
            self._board.close()
            self._board = None

    @property
    def air(self):
        """Its side of the radio."""
        return next(each for each in self._radio.peripherals if each.address == ADDRESS)


class Bed:
    """A board that is provisioned and not yet switched on, a gateway, what is around it.

    ``taken``: authentic frames, in the order in which the gateway took them.
    """

    def __init__(self, directory: Path, radio: Radio, device) -> None:
        self.directory, self.device = directory, device
        self.rig = LivingRig(directory, patients=1, min_group=5)
        self.rig.firmware_root, self.rig.firmware_terms = ROOT, TERMS
        self._restart_gateway()
        self.board = AirBoard(directory, radio)
        self._to_server = ToServer(self.rig)
        self._models = hsslms.HssPrivateKey(
            levels=1, lms_type=hsslms.lms_sha256_m32_h5, lmots_type=hsslms.lmots_sha256_n32_w4
        )
        self.taken: list[frame.Frame] = []

    def prepare(self, bundle: Bundle) -> None:
        """What the flasher and the dock do."""
        flash_board(self.board.flash, bundle)
        wire_board(self.board.flash, [AD8232])
        small_pauses(self.board.flash)
        (self.board.flash / "boot.py").write_text(BODY)
        identity = {
            "board": BOARD,
            "gateway": "gw-1",
            "transport": "ble",
            "fs_hz": 360,
            "rekey_s": 3600,
            "end_key": self.rig.boards[BOARD].end_key.hex(),
            "cohort_key": bytes(32).hex(),
            "model_root": self._models.publicKey().serialize().hex(),
            "firmware_root": ROOT.hex(),
        }
        flash = self.board_flash()
        _provision(flash, json.dumps(identity))
        _load(flash, b"".join(b"".join(self.rig.kme.pad()) for _ in range(4)).hex())
        flash.write("board.json", json.dumps({"target": bundle.target, "sensors": [AD8232]}).encode())

    def board_flash(self) -> Flash:
        return Flash(str(self.board.flash / "qepa"))

    @property
    def gateway(self):
        return self.rig.site.gateway

    @property
    def row(self):
        """What the board's last HELLO said."""
        return self.gateway.boards.get(BOARD).row

    @contextlib.asynccontextmanager
    async def daemon(self):
        """The gateway's life, until its board speaks; its end leaves the spool as it is."""
        handlers = self.gateway.intake.handlers
        handlers.update({type_: self._noting(take) for type_, take in handlers.items()})
        scanner, client = backends(self.device)
        self.ble = BleTransport(
            "gw-1",
            BleakRadio(scanner=scanner, client=client),
            serves=self.gateway.boards.serves,
            count=self.gateway.refusals.count,
            most=7,
            hold_s=1.0,
            scan_s=0.3,
            rest_s=0.1,
        )
        daemon = Daemon(self.gateway, Transports(self._to_server, self.ble), Keys(self.rig.kme))
        task = asyncio.create_task(daemon.run())
        try:
            await self.until(lambda: self.gateway.boards.serves(BOARD), "the server's Welcome")
            boots = self.row.boots
            self.board.start()
            await self.until(lambda: self.row.boots > boots, "HELLO of this boot")
            yield
            if task.done():
                task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self._restart_gateway()

    def _restart_gateway(self) -> None:
        self.rig.site.crash()
        self.rig.site.start()

    def _noting(self, take):
        def noted(board, keys, parsed):
            take(board, keys, parsed)
            self.taken.append(parsed)

        return noted

    async def grant(self) -> None:
        """The patient signs, and the care stream begins."""
        self.rig.server.send_sealed("gw-1", self.rig.server.grant(self.rig.boards[BOARD]))
        self._to_server.deliver()
        await self.until(lambda: self.of(frame.CARE), "care records")

    def look(self) -> None:
        """Somebody looks at the ward page."""
        self.rig.server.send_sealed("gw-1", WaveWatch(board=BOARD, seconds=600))
        self._to_server.deliver()

    def release_model(self, version: int) -> None:
        words = [version] * model.model_words(model.SOFTMAX, FEATURES, 0, CLASSES)
        blob = model.encode_model(model.Model(version, model.SOFTMAX, FEATURES, 0, CLASSES, 12, words))
        release = model.encode_release(blob, self._models.sign(model.CONTEXT + blob))
        self.rig.server.broadcast(ModelRelease(version=version, round=1, release=release))
        self._to_server.deliver()

    def release_firmware(self, bundle: Bundle, number: int) -> None:
        path = self.directory / "bundle.zip"
        bundle.write(path)
        data = path.read_bytes()
        self.rig.server.broadcast(FirmwareRelease(number=number, kind=KIND, boards=(BOARD,), bundle=data))
        self._to_server.deliver()

    def of(self, type_: int) -> list[frame.Frame]:
        return [each for each in self.taken if each.type == type_]

    def wants(self) -> list[Want]:
        """What the board said of firmware."""
        return [decode_want(each.payload) for each in self.of(frame.FIRMWARE_WANT)]

    async def until(self, condition, what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"did not happen: {what}; refused: {self.rig.site.refused}") from None


class Tap:
    """What left the board's radio: ``frames`` with the number of their first fragment. It can cut a waveform off, of
    which nothing but the first fragment arrives, nor anything else until the next connection."""

    def __init__(self, air) -> None:
        self.fragments = self.most_fragments = 0
        self.frames: list[tuple[int, frame.Frame]] = []
        self.has_cut = self._to_cut = self._cuts = False
        self._frame = Reassembler(1 << 16)
        self._begun = 0
        air.device.on("connection", self._connected)
        air.loses = self._loses

    def cut_a_wave(self) -> None:
        self._to_cut = True

    def _connected(self, _) -> None:
        self._cuts = False
        self._frame.reset()

    def _loses(self, fragment: bytes) -> bool:
        if self._cuts:
            return True
        self.fragments += 1
        if fragment[0] & FIRST:
            self._begun = self.fragments
            if self._to_cut and not fragment[0] & LAST and fragment[3] == frame.WAVE:
                self._to_cut, self._cuts, self.has_cut = False, True, True
                return False
        with contextlib.suppress(WireError):  # of a frame that began before the tap
            if whole := self._frame.push(fragment):
                self.frames.append((self._begun, frame.parse(whole, frame.UP_TYPES)))
                self.most_fragments = max(self.most_fragments, self.fragments - self._begun + 1)
        return False

    def of(self, type_: int) -> list[tuple[int, frame.Frame]]:
        return [(at, each) for at, each in self.frames if each.type == type_]


@pytest.fixture(scope="module")
def first(unix_run, tmp_path_factory) -> Bundle:
    path = tmp_path_factory.mktemp("built") / "bundle.zip"
    return signed(build_bundle("unix", 1, path, chips=["ad8232"], transports=["ble"]))


@pytest.fixture
async def bed(first, tmp_path):
    async with Radio() as radio:
        bed = Bed(tmp_path, radio, await radio.central())
        bed.prepare(first)
        try:
            yield bed
        finally:
            bed.board.cut_power()
            print(bed.board.printed)  # for whoever reads about a failure


def end(wave) -> int:
    return wave.first + len(wave.samples) // (2 * wave.axes)


def going_on(waves) -> int:
    """How many of the newest follow each other without a gap."""
    count = min(1, len(waves))
    while 0 < count < len(waves) and waves[-count].first == end(waves[-count - 1]):
        count += 1
    return count


def values_of(waves) -> dict[int, int]:
    """Samples by number."""
    return {wave.first + i: value for wave in waves for i, value in enumerate(np.frombuffer(wave.samples, "<i2"))}


@pytest.mark.slow
async def test_waveforms_come_whole_and_in_order_a_fallen_link_leaves_a_gap_and_an_alert_overtakes_them(bed):
    async with bed.daemon():
        waves = []
        bed.gateway.waves.on_wave(lambda _, wave: waves.append(wave))
        await bed.grant()
        tap = Tap(bed.board.air)
        bed.look()
        await bed.until(lambda: going_on(waves) >= 3, "three waveforms that follow each other")
        await _fall_in_the_middle_of_one(bed, tap, waves)
        await _hold_the_air_until_an_alert(bed, tap)
        sent = [(each.seq, each.payload) for _, each in tap.of(frame.WAVE)]
        came = [(each.seq, each.payload) for each in bed.of(frame.WAVE)]
        assert set(came) <= set(sent)
        assert [seq for seq, _ in came] == sorted({seq for seq, _ in came})
        shown = [(record.seq, record.payload) for record in bed.rig.server.waves]
        assert shown == came[: len(shown)]
        assert not {"fragment", "late", "mac"} & bed.rig.site.refused.keys()


async def _fall_in_the_middle_of_one(bed: Bed, tap: Tap, waves: list) -> None:
    tap.cut_a_wave()
    await bed.until(lambda: tap.has_cut, "a waveform under way")
    before = len(waves)
    for connection in list(bed.device.connections.values()):
        await connection.disconnect()
    await bed.until(lambda: len(waves) >= before + 2, "waveforms over the next connection")
    assert bed.ble.report().connects >= 2
    lost = waves[before].first - end(waves[before - 1])
    assert lost > 0
    samples, _, number = bed.gateway.waves.window(BOARD, WAVE_ECG, KEPT_S)
    shown = {number + i: value for i, value in enumerate(samples[:, 0]) if not np.isnan(value)}
    assert shown == {n: value for n, value in values_of(waves).items() if n >= number}
    assert len(samples) - len(shown) >= min(lost, waves[before].first - number)


async def _hold_the_air_until_an_alert(bed: Bed, tap: Tap) -> None:
    air, passed, printed = bed.board.air, tap.fragments, len(bed.board.printed)
    air.clear.clear()
    await bed.until(lambda: air.under_way >= STACK_HOLDS, "a stack that takes no more")
    (bed.board.flash / ELECTRODE_OFF).touch()
    await bed.until(lambda: f"alert {ALERT_LEAD_OFF} level 1" in bed.board.printed[printed:], "the alert on the board")
    air.clear.set()
    await bed.until(lambda: any(at > passed for at, _ in tap.of(frame.ALERT)), "the alert on the air")
    waited = min(at for at, _ in tap.of(frame.ALERT) if at > passed) - 1 - passed
    assert waited <= STACK_HOLDS + tap.most_fragments  # those of the frame that had begun
    await bed.until(lambda: bed.rig.server.alerts, "the alert at the server")


@pytest.mark.slow
async def test_a_model_and_firmware_come_over_bluetooth_firmware_while_all_is_quiet_and_through_a_power_cut(bed, first):
    second = successor(first, 2)
    heart_stands, electrode_off = bed.board.flash / HEART_STANDS, bed.board.flash / ELECTRODE_OFF
    AlertEdges(bed.board_flash()).confirm(ALERT_ASYSTOLE, 1)
    heart_stands.touch()
    async with bed.daemon():
        bed.release_firmware(second, 1)
        await bed.until(lambda: bed.gateway.firmware.under_way() == [BOARD], "the offer")
        bed.release_model(5)
        await bed.until(lambda: bed.row.model == 5, "the model")
        electrode_off.touch()
        await bed.until(lambda: bed.of(frame.ALERT), "another alert")
        assert bed.wants() == []
        electrode_off.unlink()
        heart_stands.unlink()
        await bed.until(lambda: any(want.file > 1 and want.offset for want in bed.wants()), "a part of it")
        bed.board.cut_power()
    there = bed.wants()[-1]
    bed.taken.clear()
    async with bed.daemon():
        await bed.until(lambda: "slot b on trial" in bed.board.printed, "version 2 on trial")
        await bed.until(lambda: (bed.row.firmware, bed.row.mode) == (2, 0), "version 2 confirmed")
        await bed.until(lambda: bed.gateway.firmware.stage(KIND) is Stage.WARD, "the ward")
        assert {want.state for want in bed.wants()} == {WANTS, COMPLETE}
        missing = [(want.file, want.offset) for want in bed.wants() if want.state == WANTS]
        assert min(missing) >= (there.file, there.offset)  # what had come by then is not fetched again


def test_what_a_board_gets_on_top_for_its_radio_is_no_more_than_that_takes(unix_run):
    started = "import bluetooth\nradio = bluetooth.BLE()\nchunk = bytearray(4096)\nfragments = bytes(2000)\n"
    spent = "import gc\ngc.collect()\nprint(gc.mem_alloc())\n"
    anyhow = "import asyncio, json, os, socket\n"
    taken = int(unix_run(anyhow + started + spent, shims=AIR_SHIMS)) - int(unix_run(anyhow + spent))
    print(taken)
    assert taken >= RADIO_STAND_IN_BYTES
