# mypy: ignore-errors
# This is MicroPython.
"""An ESP32's ROM partition on the unix port: a file, mapped outside of the heap, which `vfs.rom_ioctl` gives.

As in NOR flash, erasing sets bits and writing only clears them.
"""

import os
import sys

import ffi
import uctypes
import vfs

_BLOCK = 4096
_READ_WRITE, _SHARED = 3, 1  # of mmap(2)


class _Partition(memoryview):
    """What esp32.Partition is, as far as it is used: a buffer, and a block device."""

    def ioctl(self, command, block):
        if command == 4:
            return len(self) // _BLOCK
        if command == 5:
            return _BLOCK
        if command == 6:
            _cells[block * _BLOCK : (block + 1) * _BLOCK] = b"\xff" * _BLOCK
        return 0

    def writeblocks(self, block, data, offset=None):
        at = block * _BLOCK + (offset or 0)
        if offset is None:
            for number in range(len(data) // _BLOCK):
                self.ioctl(6, block + number)
        for index, byte in enumerate(data):
            if byte != 0xFF:
                _cells[at + index] &= byte


class _Vfs:
    """The module, with what this port's own lacks."""

    def __getattr__(self, name):
        return getattr(vfs, name)

    def rom_ioctl(self, command, *_):
        return 1 if command == 1 else _Partition(_cells) if command == 2 else -22


def _mapped(path):
    libc = ffi.open("libc.so.6")
    size = os.stat(path)[6]
    descriptor = libc.func("i", "open", "si")(path, 2)
    address = libc.func("p", "mmap", "piiiii")(0, size, _READ_WRITE, _SHARED, descriptor, 0)
    return uctypes.bytearray_at(address, size)


def attach(path):
    """Make the file at ``path`` of the host the ROM partition; before the host's files are out of sight."""
    global _cells  # noqa: PLW0603  a board has one
    _cells = _mapped(path)
    sys.modules["vfs"] = _Vfs()
