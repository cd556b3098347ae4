"""Writes a MicroPython image through esptool's own code: only what differs, never where a board keeps its files.

A flash that was cut goes on where it was: parts that are there already are skipped, by the MD5 that the chip computes.
"""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from esptool.cmds import attach_flash, detect_chip, reset_chip, run_stub, verify_flash, write_flash
from esptool.logger import EspLog, EsptoolLogger
from esptool.util import FatalError

from ..errors import ToolError
from .esp_image import PARTITION_TABLE, PARTITION_TABLE_BYTES, FirmwareImage, Partition, parse_partitions
from .ports import GONE

Step = Callable[[str, int, int], None]
"""Told what is being done, and how much of how much is done."""

BAUD = 460800
_PART = 64 * 1024  # what is compared, and written if it differs, at a time
_QUICK_BAUD_PORTS = ("/dev/tty", "COM")


class FlashError(ToolError):
    """The chip cannot be flashed; the message says why and what to do."""


class WrongChipError(FlashError):
    """Another chip than the image is for."""


@dataclass(frozen=True, slots=True)
class ChipInfo:
    """What the loader says of a chip."""

    target: str
    mac: str
    description: str
    partitions: tuple[Partition, ...]


class Flasher:
    """A chip in download mode, with esptool's stub running; a context manager that resets the chip on leaving."""

    def __init__(self, port: str, step: Step = lambda *_: None) -> None:
        self._port, self._step = port, step
        self._esp: Any = None
        self._log = _Silent()

    def __enter__(self) -> "Flasher":
        with self._translated():
            esp = detect_chip(self._port)
            try:
                esp = run_stub(esp)
                if self._port.startswith(_QUICK_BAUD_PORTS):
                    esp.change_baud(BAUD)
                attach_flash(esp)
            except BaseException:
                esp._port.close()
                raise
        self._esp = esp
        return self

    def __exit__(self, *_: object) -> None:
        esp, self._esp = self._esp, None
        try:
            with self._translated():
                reset_chip(esp, "hard-reset")
        except FlashError:
            pass  # the port is gone; whoever unplugged it knows
        finally:
            esp._port.close()

    def info(self) -> ChipInfo:
        """Kind of chip, its address, and the partitions that are on it now."""
        with self._translated():
            mac = ":".join(f"{byte:02x}" for byte in self._esp.read_mac("BASE_MAC"))
            table = self._esp.read_flash(PARTITION_TABLE, PARTITION_TABLE_BYTES)
            target = self._esp.CHIP_NAME.lower().replace("-", "")
            return ChipInfo(target, mac, self._esp.get_chip_description(), parse_partitions(table))

    def check(self, image: FirmwareImage, info: ChipInfo, *, keys_may_go: bool) -> None:
        """Raise FlashError unless ``image`` is for this chip and leaves its files where they are."""
        if info.target != image.target:
            raise WrongChipError(f"the image is for {image.target} and this chip is {info.target}: take its own image.")
        before = next((part for part in info.partitions if part.label == "vfs"), None)
        if before is not None and before != image.file_system() and not keys_may_go:
            raise FlashError(
                "this image keeps its files elsewhere, so the keys on this board would be lost: take an image with the "
                "same layout, or add --erase-keys to give them up after a backup."
            )

    def differing(self, image: FirmwareImage) -> list[tuple[int, bytes]]:
        """(offset, content) of the parts of ``image`` that are not in flash."""
        missing, parts = [], _parts(image)
        with self._translated():
            for done, (offset, data) in enumerate(parts, 1):
                if self._esp.flash_md5sum(offset, len(data)) != _md5(data):
                    missing.append((offset, data))
                self._step("compare", done, len(parts))
        return missing

    def write(self, image: FirmwareImage) -> int:
        """Write what differs and verify all of it; returns how many bytes were written."""
        missing = self.differing(image)
        written, total = 0, sum(len(data) for _, data in missing)
        with self._translated():
            for offset, data in missing:
                write_flash(self._esp, [(offset, data)])
                written += len(data)
                self._step("write", written, total)
            self._step("verify", 0, 1)
            verify_flash(self._esp, [(image.offset, image.data)])
            self._step("verify", 1, 1)
        return written

    def read_files_partition(self, info: ChipInfo) -> bytes | None:
        """The whole partition that holds the board's files, None if it is blank or there is none."""
        partition = next((part for part in info.partitions if part.label == "vfs"), None)
        if partition is None:
            return None
        with self._translated():
            if self._esp.flash_md5sum(partition.offset, partition.size) == _md5(b"\xff" * partition.size):
                return None
            content = self._esp.read_flash(
                partition.offset, partition.size, lambda done, total, *_: self._step("back up", done, total)
            )
            return bytes(content)

    def erase_files(self, info: ChipInfo) -> None:
        """Erase the partition that holds the board's files: its keys are gone."""
        for partition in info.partitions:
            if partition.label == "vfs":
                with self._translated():
                    self._esp.erase_region(partition.offset, partition.size)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        before = EspLog.instance
        EspLog.instance = self._log
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
        except (FatalError, EOFError, *GONE) as error:
            reason = str(error).splitlines()[0].rstrip(". ") if str(error) else type(error).__name__
            raise FlashError(
                f"the chip at {self._port} does not take it ({reason}): replug it, hold BOOT if it has no auto-reset, "
                "and run the same command again; it goes on where it was."
            ) from error
        finally:
            EspLog.instance = before


class _Silent(EsptoolLogger):  # type: ignore[misc]
    """esptool's words stay off the screen; its errors come as exceptions."""

    def print(self, *_: object, **__: object) -> None:
        """Nothing."""

    note = warn = warning = err = error = debug = hint = stage = print

    def progress_bar(self, *_: object, **__: object) -> None:
        """Nothing."""


def _parts(image: FirmwareImage) -> list[tuple[int, bytes]]:
    starts = range(0, len(image.data), _PART)
    return [(image.offset + start, image.data[start : start + _PART]) for start in starts]


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
