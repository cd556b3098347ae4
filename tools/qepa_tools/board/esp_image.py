"""What a MicroPython image for an ESP32 holds: chip, partitions, whether its application is whole.

Layout: ESP-IDF Programming Guide, "Application startup flow" and "Partition tables"; esptool reads the images.
"""

import hashlib
import struct
from dataclasses import dataclass

from esptool.bin_image import LoadFirmwareImage
from esptool.targets import CHIP_DEFS
from esptool.util import FatalError

from ..errors import ToolError

PARTITION_TABLE = 0x8000
PARTITION_TABLE_BYTES = 0xC00
TARGETS = ("esp32", "esp32s3", "esp32c6")

_IMAGE_MAGIC = 0xE9
_ENTRY_MAGIC = b"\xaa\x50"
_ENTRY = struct.Struct("<2sBBII16sI")
_APPLICATION, _DATA = 0, 1


class ImageError(ToolError):
    """The image cannot be flashed; the message says why."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One row of a partition table; ``offset`` and ``size`` in bytes of flash."""

    label: str
    is_application: bool
    offset: int
    size: int

    @property
    def end(self) -> int:
        """First byte after it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class FirmwareImage:
    """An image that passed its own checks. ``offset``: where in flash it begins."""

    target: str
    offset: int
    data: bytes
    partitions: tuple[Partition, ...]

    @property
    def sha256(self) -> str:
        """Of the whole file, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def end(self) -> int:
        """First byte of flash it does not touch."""
        return self.offset + len(self.data)

    def file_system(self) -> Partition | None:
        """The partition MicroPython keeps its files in."""
        return next((p for p in self.partitions if p.label == "vfs"), None)


def parse_partitions(table: bytes) -> tuple[Partition, ...]:
    """Rows of a partition table; empty if there is none. Stops at the first row that is no entry."""
    rows = []
    for start in range(0, len(table) - _ENTRY.size + 1, _ENTRY.size):
        magic, kind, _, offset, size, label, _ = _ENTRY.unpack_from(table, start)
        if magic != _ENTRY_MAGIC:
            break
        rows.append(Partition(label.rstrip(b"\0").decode("ascii", "replace"), kind == _APPLICATION, offset, size))
    return tuple(rows)


def chip_of(image: bytes) -> str | None:
    """Name of the chip in an image's extended header, None for one that is not known here."""
    if len(image) < 24 or image[0] != _IMAGE_MAGIC:
        return None
    chip_id = struct.unpack_from("<H", image, 12)[0]
    return next((name for name in TARGETS if chip_id == CHIP_DEFS[name].IMAGE_CHIP_ID), None)


def is_whole(target: str, image: bytes) -> bool:
    """Whether the image at the start of ``image`` has its checksum and its SHA-256 right."""
    try:
        loaded = LoadFirmwareImage(target, image)
    except (FatalError, struct.error, RuntimeError, ValueError):
        return False
    digest_is_right = not loaded.append_digest or loaded.stored_digest == loaded.calc_digest
    return bool(digest_is_right and loaded.checksum == loaded.calculate_checksum())


def read_image(data: bytes, expected_sha256: str) -> FirmwareImage:
    """Check an image the user supplies. Raises ImageError naming what does not fit."""
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected_sha256.lower().strip():
        raise ImageError(f"the image's SHA-256 is {digest}, not what was given: download it again or correct --sha256.")
    target = chip_of(data)
    if target is None:
        raise ImageError(
            f"the file is no firmware for any of {', '.join(TARGETS)}: take MicroPython's .bin for your chip."
        )
    offset = CHIP_DEFS[target].BOOTLOADER_FLASH_OFFSET
    table = PARTITION_TABLE - offset
    partitions = parse_partitions(data[table : table + PARTITION_TABLE_BYTES])
    if not partitions:
        raise ImageError("the image holds no partition table: take MicroPython's full .bin, not its .app-bin.")
    application = next((p for p in partitions if p.is_application), None)
    if application is None or not is_whole(target, data[application.offset - offset :]):
        raise ImageError("the application inside the image fails its own SHA-256: download it again.")
    image = FirmwareImage(target, offset, data, partitions)
    files = image.file_system()
    if files is None:
        raise ImageError("the image has no partition named vfs: it is not MicroPython with a file system.")
    if files.offset < image.end:
        raise ImageError(
            "the image reaches into its own file system, where a board keeps its keys: it would erase them."
        )
    return image
