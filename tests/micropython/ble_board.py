"""The Bluetooth transport on MicroPython's i386 port, on the virtual air: a board that does what it is told."""

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

from bleak import BleakClient

from qepa_tools.air.bleak_backend import backends
from qepa_tools.air.central import BoardCentral
from qepa_tools.air.peripheral import Peripheral
from qepa_tools.air.radio import SHIMS, Radio
from qepa_tools.unix_port.run_once import BOARD_HEAP_BYTES
from qepa_tools.unix_port.runtime import ensure_unix_port

from .board_gateway import PATIENCE_S

BOARD = 0x2A
ADDRESS = "F0:F1:F2:F3:F5:2A"
FIRMWARE = Path(__file__).parents[2] / "firmware"

# The host's own paths: a VfsPosix with a root renames files to nowhere.
BOOT = """
import sys
flash, library, shims = sys.argv[1:]
sys.path[:] = [flash, ".frozen", library, shims]
import main
"""

# A frame that comes down is answered: "echo ..." by itself, "many N SIZE" by N frames, "heart HR" and "end" by the
# Heart Rate service, as if a consent began and ended.
PROGRAM = """
import asyncio, gc, sys, time
from qepa_board.system.flash import Flash
from qepa_board.transport.ble_connection import BleConnection
from qepa_board.transport.bonds import Bonds

class Source:
    def __init__(self):
        self.frames = []
        self.many = 0
    fails = False
    def connected(self):
        print("connected")
        if self.fails:
            self.fails = False
            raise ValueError("as told")
    def disconnected(self, reason):
        print("disconnected", reason)
    def next_frame(self, now_ms):
        if self.many:
            self.many -= 1
            return self.many.to_bytes(4, "little") + bytes(self.size - 4)
        return self.frames.pop(0) if self.frames else None
    def take(self, frame):
        words = frame.split(b" ")
        if words[0] == b"many":
            self.size = int(words[2])
            self.many = int(words[1])
        elif words[0] == b"heart":
            connection.show_heart_rate(int(words[1]), True)
        elif words[0] == b"fail":
            self.fails = True
        elif words[0] == b"end":
            connection.hide_heart_rate()
        elif words[0] == b"state":
            gc.collect()
            self.frames.append(repr((connection.refused, connection.congested, gc.mem_free())).encode())
        else:
            self.frames.append(frame)

source = Source()
connection = BleConnection(%d, source, source.take, time.ticks_ms, Bonds(Flash(sys.path[0] + "/qepa")), %r)

async def supervise():
    while True:
        try:
            await connection.run()
        except ValueError as error:
            print("failed", error)

asyncio.run(supervise())
"""


class BleBoard:
    """A board's process; ``lines`` is what it printed. Its flash outlives stop() and start()."""

    def __init__(self, radio: Radio, flash: Path, passkey: int | None = None, address: str = ADDRESS) -> None:
        self._radio = radio
        self.flash = flash
        self._program = PROGRAM % (BOARD, passkey)
        self.address = address
        self.lines: list[str] = []

    async def __aenter__(self) -> "BleBoard":
        self._directory = tempfile.TemporaryDirectory(prefix="qepa-ble-")
        self._library = Path(self._directory.name)
        for package in FIRMWARE.glob("*/__init__.py"):
            (self._library / package.parent.name).symlink_to(package.parent)
        (self._library / "boot.py").write_text(BOOT)
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        self._directory.cleanup()

    async def start(self) -> None:
        self.flash.mkdir(exist_ok=True)
        (self.flash / "main.py").write_text(self._program)
        self._process = await asyncio.create_subprocess_exec(
            *ensure_unix_port(),
            "-X",
            f"heapsize={BOARD_HEAP_BYTES}",
            self._library / "boot.py",
            self.flash,
            self._library,
            SHIMS,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | {"QEPA_RADIO": str(self._radio.port), "QEPA_RADIO_ADDRESS": self.address},
        )
        self._reading = asyncio.create_task(self._read())
        await self.until(lambda: self.is_advertising, "advertising")

    async def stop(self) -> None:
        """Cut its power."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading
        await self.until(lambda: self.radio_side is None, "off the air")

    async def _read(self) -> None:
        async for line in self._process.stdout:
            self.lines.append(line.decode().rstrip())

    @property
    def is_advertising(self) -> bool:
        return self.radio_side is not None and self.radio_side.is_advertising

    @property
    def radio_side(self) -> Peripheral | None:
        return next((each for each in self._radio.peripherals if each.address == self.address), None)

    async def until(self, condition, what: str, timeout_s: float = PATIENCE_S) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"did not happen: {what}; the board printed {self.lines}") from None


class Gateway:
    """A central with its memory of bonds."""

    def __init__(self, radio: Radio, passkey: int | None = None, address: str = "F0:F1:F2:F3:F4:00") -> None:
        self._radio = radio
        self._passkey = passkey
        self._address = address

    async def __aenter__(self) -> "Gateway":
        self.device = await self._radio.central(self._address, passkey=self._passkey)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.device.power_off()

    async def forget(self) -> None:
        """Lose all bonds."""
        await self.device.keystore.delete_all()

    @contextlib.asynccontextmanager
    async def connect(self, *, pair: bool, mtu: int = 247, address: str = ADDRESS):
        central = BoardCentral(address, backends(self.device, mtu=mtu)[1])
        try:
            yield await central.open(pair=pair)
        finally:
            if central.client.is_connected:
                await central.close()

    def client(self, mtu: int = 247) -> BleakClient:
        """A bare client, that neither pairs nor opens."""
        return BleakClient(ADDRESS, backend=backends(self.device, mtu=mtu)[1])
