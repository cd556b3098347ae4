"""A virtual development board: chip, flash, the auto-reset circuit on DTR and RTS, and a real MicroPython.

What boots is decided by the flash alone, as on a chip: no valid loader or application, no MicroPython. The files of
MicroPython's own partition live in a directory while the application runs; in download mode they are in the flash, as
an archive, so that esptool can read, erase and restore them.
"""

import hashlib
import io
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..board.esp_image import PARTITION_TABLE, PARTITION_TABLE_BYTES, Partition, chip_of, is_whole, parse_partitions
from .chips import CHIPS
from .flash_chip import FLASH_BYTES, FlashChip, PowerLostError
from .images import synthetic_image
from .rom_loader import FRAME_END, SYNC_FRAME, RomLoader

OFF, DOWNLOAD, APPLICATION, DEAD = "off", "download", "application", "dead"

# The transistors pull EN low for (DTR, RTS) = (0, 1) and IO0 low for (1, 0); EN rises slowly, over a capacitor.
_EN_RISE_S = 0.002
_EN_RISE_BOTH_S = 0.4


class Interpreter(Protocol):
    """A running MicroPython with its console; it restarts itself on soft and hard resets."""

    def fileno(self) -> int:
        """Readable when it has printed something."""
        ...

    def read(self) -> bytes:
        """What it has printed since. Raises PowerLostError, once, if its power failed in the middle of a write."""
        ...

    def write(self, data: bytes) -> None:
        """Type on its console."""
        ...

    def close(self) -> None:
        """Cut its power."""
        ...


class VirtualEsp32:
    """One board. ``start`` makes the interpreter on a directory of files, a fresh one at each reset."""

    def __init__(
        self,
        directory: Path,
        start: Callable[[Path], Interpreter],
        *,
        chip: str = "esp32",
        mac: bytes = b"\x02\x00\x00\x00\x00\x01",
        blank: bool = False,
        lines: bool = True,
    ) -> None:
        """``blank``: a flash fresh from the factory, without firmware. ``lines``: whether DTR and RTS are wired.

        Without them what the host sends presses the buttons: a SYNC frame on the console EN with BOOT held, a byte
        between two frames of the loader EN.
        """
        self._chip = CHIPS[chip]
        self._start, self._mac, self._wired = start, mac, lines
        self.files = directory / "files"
        directory.mkdir(parents=True, exist_ok=True)
        self.files.mkdir(exist_ok=True)
        factory = {} if blank else {self._chip.boot_offset: synthetic_image(chip)}
        self.flash = FlashChip(directory / "flash.bin", factory)
        self.mode = OFF
        self.resets: list[str] = []
        self._rom: RomLoader | None = None
        self._app: Interpreter | None = None
        self._out = bytearray()
        self._archived = b""
        self._dtr = self._rts = False
        self._en_low = False
        self._boot_due: float | None = None
        self._download_next = False

    def power_on(self) -> None:
        """Plug it in."""
        self.reset(download=False)

    def power_off(self) -> None:
        """Unplug it; nothing is saved that was not in flash."""
        self._stop()
        self.mode = OFF
        self._out.clear()

    def close(self) -> None:
        """Unplug it and release its files."""
        self.power_off()
        self.flash.close()

    def reset(self, *, download: bool) -> None:
        """EN was pressed, with BOOT held for ``download``."""
        self._stop()
        self._say(self._chip.boot_words)
        if download:
            self._archive_files()
            self._rom = RomLoader(self._chip, self.flash, self._mac)
            self.mode = DOWNLOAD
            self._say("rst:0x1 (POWERON_RESET),boot:0x3 (DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2))")
            self._say("waiting for download")
        else:
            self._say("rst:0x1 (POWERON_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)")
            self._boot()
        self.resets.append(self.mode)

    def set_lines(self, *, dtr: bool, rts: bool) -> None:
        """The host moved DTR and RTS (true is asserted)."""
        self._dtr, self._rts = dtr, rts
        if rts and not dtr:
            self._en_low, self._boot_due = True, None
        elif self._en_low:
            both = dtr and rts
            self._boot_due = time.monotonic() + (_EN_RISE_BOTH_S if both else _EN_RISE_S)
            self._download_next = dtr and not rts
            self._en_low = both

    @property
    def lines(self) -> tuple[bool, bool]:
        """DTR and RTS."""
        return self._dtr, self._rts

    @property
    def is_resetting(self) -> bool:
        """Whether its reset line is rising: call tick() every few milliseconds."""
        return self._boot_due is not None

    def tick(self) -> None:
        """Let time pass."""
        if self._boot_due is not None and time.monotonic() >= self._boot_due:
            self._boot_due, self._en_low = None, False
            self.reset(download=self._download_next)

    def fileno(self) -> int | None:
        """Readable when the application has printed something."""
        return self._app.fileno() if self._app is not None else None

    def read(self) -> bytes:
        """What the board has sent."""
        self.tick()
        if self._app is not None:
            try:
                self._out += self._app.read()
            except PowerLostError:
                self.power_off()
        out = bytes(self._out)
        self._out.clear()
        return out

    def write(self, data: bytes) -> None:
        """What the host sent."""
        if not self._wired:
            data = self._press_buttons(data)
        if self._rom is not None:
            try:
                self._out += self._rom.receive(data)
            except PowerLostError:
                self.power_off()
        elif self._app is not None:
            self._app.write(data)

    def release(self) -> None:
        """The host closed the port. Without wired lines someone now presses EN."""
        if not self._wired and self.mode == DOWNLOAD:
            self.reset(download=False)

    def _press_buttons(self, data: bytes) -> bytes:
        """Enter or leave download mode if ``data`` asks for it; returns what is left of it."""
        if self._rom is not None and self._rom.between_frames and not data.startswith(FRAME_END):
            self.reset(download=False)
        elif self.mode not in (OFF, DOWNLOAD) and SYNC_FRAME in data:
            self.reset(download=True)
            self._out.clear()
            return data[data.index(SYNC_FRAME) :]
        return data

    def _say(self, line: str) -> None:
        self._out += line.encode() + b"\r\n"

    def _stop(self) -> None:
        if self._app is not None:
            self._app.close()
        self._app = self._rom = None

    def _boot(self) -> None:
        fault = self._boot_fault()
        if fault is not None:
            self._say(fault)
            self.mode = DEAD
            return
        self._unpack_files()
        self._app = self._start(self.files)
        self.mode = APPLICATION

    def _boot_fault(self) -> str | None:
        """What keeps the flash from booting, in the words of a chip's loader."""
        loader = self.flash.read(self._chip.boot_offset, PARTITION_TABLE - self._chip.boot_offset)
        if loader[0] != 0xE9:
            return f"invalid header: 0x{loader[3::-1].hex()}"
        if chip_of(loader) != self._chip.name:
            return "ets_main.c: wrong chip id in image header"
        if not is_whole(self._chip.name, loader):
            return "csum err in loader: 0xff!=0x00"
        application = next((p for p in self._partitions() if p.is_application), None)
        if application is None:
            return "E (43) boot: No bootable app partitions in the partition table"
        if not is_whole(self._chip.name, self.flash.read(application.offset, application.size)):
            return "E (43) esp_image: Image hash failed - image is corrupt"
        return None

    def _partitions(self) -> tuple[Partition, ...]:
        return parse_partitions(self.flash.read(PARTITION_TABLE, PARTITION_TABLE_BYTES))

    def _file_partition(self) -> Partition | None:
        found = next((p for p in self._partitions() if p.label == "vfs"), None)
        return found if found is not None and found.end <= FLASH_BYTES else None

    def _archive_files(self) -> None:
        """Put the files into their partition, so that the loader can reach them."""
        partition = self._file_partition()
        if partition is None:
            return
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in sorted(self.files.rglob("*")):
                archive.add(path, str(path.relative_to(self.files)), recursive=False)
        content = buffer.getvalue() if any(self.files.iterdir()) else b""
        self.flash.erase(partition.offset, partition.size)
        fault, self.flash.fail_after = self.flash.fail_after, None
        self.flash.program(partition.offset, content[: partition.size])
        self.flash.fail_after = fault
        self._archived = self._file_digest(partition)

    def _unpack_files(self) -> None:
        """Take the files from their partition if the loader changed it; what is no archive is a fresh file system."""
        partition = self._file_partition()
        if partition is None or not self._archived or self._file_digest(partition) == self._archived:
            return
        shutil.rmtree(self.files)
        self.files.mkdir()
        try:
            with tarfile.open(fileobj=io.BytesIO(self.flash.read(partition.offset, partition.size))) as archive:
                archive.extractall(self.files, filter="data")
        except (tarfile.TarError, EOFError, OSError):
            self._say("vfs: no file system, formatting")
        self._archived = self._file_digest(partition)

    def _file_digest(self, partition: Partition) -> bytes:
        return hashlib.sha256(self.flash.read(partition.offset, partition.size)).digest()


def mac_of(number: int) -> bytes:
    """A locally administered address for board ``number``."""
    return b"\x02" + number.to_bytes(5, "big")
