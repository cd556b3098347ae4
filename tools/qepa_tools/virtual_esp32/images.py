"""Synthetic firmware images that esptool and a chip's loader accept. They hold no MicroPython and run on no real chip.

They are laid out as MicroPython's downloads for a 4 MB board are: second-stage loader, partition table, application.
"""

import hashlib
import struct

from ..board.esp_image import PARTITION_TABLE, PARTITION_TABLE_BYTES
from .chips import CHIPS, Chip

APPLICATION = 0x10000
FILE_SYSTEM = 0x200000
_LOAD_ADDRESS = 0x3FFB0000
_DIO_4MB_40MHZ = (2, 0x20)


def synthetic_image(chip_name: str, *, payload: bytes = b"", file_system: int = FILE_SYSTEM) -> bytes:
    """A merged image for ``chip_name``; ``payload`` makes one differ from another."""
    chip = CHIPS[chip_name]
    flash = bytearray(b"\xff" * (APPLICATION - chip.boot_offset))
    loader = _image(chip, b"QEPA SYNTHETIC LOADER, NOT FIRMWARE ")
    flash[: len(loader)] = loader
    table = _partition_table(file_system)
    start = PARTITION_TABLE - chip.boot_offset
    flash[start : start + len(table)] = table
    return bytes(flash) + _image(chip, b"QEPA SYNTHETIC APPLICATION, NOT FIRMWARE" + payload)


def _image(chip: Chip, content: bytes) -> bytes:
    content += bytes(-len(content) % 4)
    header = struct.pack("<BBBBI", 0xE9, 1, *_DIO_4MB_40MHZ, 0x40080400)
    header += struct.pack("<B3xHBHH4xB", 0xEE, chip.image_id, 0, 0, 0xFFFF, 1)
    body = header + struct.pack("<II", _LOAD_ADDRESS, len(content)) + content
    body += bytes(15 - len(body) % 16)
    checksum = 0xEF
    for byte in content:
        checksum ^= byte
    body += bytes((checksum,))
    return body + hashlib.sha256(body).digest()


def _partition_table(file_system: int) -> bytes:
    rows = (
        (1, 2, 0x9000, 0x6000, b"nvs"),
        (1, 1, 0xF000, 0x1000, b"phy_init"),
        (0, 0, APPLICATION, FILE_SYSTEM - APPLICATION, b"factory"),
        (1, 0x81, file_system, (4 << 20) - file_system, b"vfs"),
    )
    table = b"".join(struct.pack("<2sBBII16sI", b"\xaa\x50", *row, 0) for row in rows)
    table += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(table, usedforsecurity=False).digest()
    return table.ljust(PARTITION_TABLE_BYTES, b"\xff")
