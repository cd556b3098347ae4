"""The code of a slot in the ROM partition, where it runs from flash and takes no heap.

MicroPython gives the partition as vfs.rom_ioctl(2, 0): memory-mapped to be read, written in blocks (its documentation,
reference/romfs). Each slot has half of it: a block with a record, then a ROMFS image of the slot's packages. The record
names the release that the image was made from; it is erased first and written last, so that a half is whole or not
there. No half begins with an image, so that MicroPython itself mounts none.
"""

import hashlib
import struct
import sys

BLOCK = 4096
MOUNT = "/code"
_MAGIC = b"QEP\1"
_FORMAT = (
    "<4sI32s32s"  # magic, bytes of the image, SHA-256 of the slot's manifest with its signature, SHA-256 of the image
)
_ERASE = 6  # what ioctl() of a block device calls it (MicroPython documentation, library/os.html)
_OTHERS = ("/rom", "/rom/lib")  # where MicroPython mounts what somebody else has put into the partition


class Half:
    """Half ``number`` of the partition ``device``, a buffer with writeblocks() and ioctl().

    ``room``: bytes that an image may have, less than 0 if there is none. It is written in blocks of ``block`` bytes.
    """

    block = BLOCK

    def __init__(self, device, number):
        memory = memoryview(device)
        blocks = len(memory) // (2 * BLOCK)
        self.room = (blocks - 1) * BLOCK
        self._device = device
        self._first = number * blocks
        self._memory = memory[self._first * BLOCK : (self._first + blocks) * BLOCK]

    def image(self, release):
        """The image, where it is in flash, if that of the ``release`` with this SHA-256 is here and whole; or None."""
        if self.room < 0:
            return None
        magic, size, made_from, digest = struct.unpack_from(_FORMAT, self._memory)
        if magic != _MAGIC or made_from != release or size > self.room:
            return None
        image = self._memory[BLOCK : BLOCK + size]
        hasher = hashlib.sha256()
        for at in range(0, size, BLOCK):
            hasher.update(image[at : at + BLOCK])
        return image if hasher.digest() == digest else None

    def open(self):
        """From here on no image is here."""
        self._device.ioctl(_ERASE, self._first)

    def write(self, number, block):
        """Write block ``number`` of the image, from 0 on."""
        self._device.writeblocks(self._first + 1 + number, block)

    def close(self, release, size, digest):
        """The image is written: ``size`` bytes with this SHA-256, made from ``release``."""
        block = bytearray(BLOCK)
        struct.pack_into(_FORMAT, block, 0, _MAGIC, size, release, digest)
        self._device.writeblocks(self._first, block)


def mount(vfs, number, directory, make):
    """Mount the code of the slot in ``directory`` from half ``number``; returns where, or None if it is not there.

    ``make``: put it there first, from the slot's files. Nothing may run from that half then. Raises OSError.
    """
    release = _digest(directory + "/manifest")
    half = Half(vfs.rom_ioctl(2, 0), number)
    image = half.image(release)
    if image is None and make:
        from .place import place  # noqa: PLC0415  seldom

        place(half, directory, release)
        image = half.image(release)
    if image is None:
        return None
    for path in _OTHERS:
        if path in sys.path:
            sys.path.remove(path)
    vfs.mount(vfs.VfsRom(image), MOUNT)
    return MOUNT


def _digest(path):
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        data = file.read(512)
        while data:
            hasher.update(data)
            data = file.read(512)
    return hasher.digest()
