"""Makes the ROMFS image of a slot in its half of the ROM partition, a block at a time.

The format is in MicroPython's documentation, reference/romfs. All lengths are written in four bytes, so that they are
known from names and sizes alone.
"""

import hashlib
import struct

_FILE_SYSTEM = b"\xd2\xcd\x31"
_DATA, _DIRECTORY, _FILE = 2, 4, 5
_HEADER_BYTES, _COUNT_AT, _DIGEST_BYTES = 14, 12, 32  # of a manifest (qepa_wire/manifest.py)
_PIECE = 512


def place(half, directory, release):
    """Put the files of the slot in ``directory`` into ``half`` (rom.Half) as the image of ``release``.

    Raises OSError, with the half untouched, for files that are not what the manifest says or do not fit.
    """
    files = _listed(directory + "/manifest")
    for path, size, digest in files:
        _read(directory + "/lib/" + path, size, digest, None)
    size = _tree(files, 0, len(files), 0, None)
    head = _FILE_SYSTEM + b"\x80" * (size % 2 == 0) + _number(size)
    if len(head) + size > half.room:
        raise OSError(28)  # ENOSPC
    half.open()
    image = _Image(half, directory)
    image.put(head)
    _tree(files, 0, len(files), 0, image)
    half.close(release, image.size, image.end())


def _listed(path):
    """[(path below lib, size, SHA-256)] of a manifest, in ascending order."""
    files = []
    with open(path, "rb") as file:
        file.read(2)
        (count,) = struct.unpack_from("<H", file.read(_HEADER_BYTES), _COUNT_AT)
        for _ in range(count):
            name = file.read(file.read(1)[0]).decode()
            (size,) = struct.unpack("<I", file.read(4))
            digest = file.read(_DIGEST_BYTES)
            if name.startswith("lib/"):
                files.append((name[4:], size, digest))
    return files


def _read(path, size, digest, put):
    """Give the file to ``put``, unless that is None, in pieces; raises OSError if it is another than expected."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        data = file.read(_PIECE)
        while data:
            hasher.update(data)
            size -= len(data)
            if put:
                put(data)
            data = file.read(_PIECE)
    if size or hasher.digest() != digest:
        raise OSError("%s is not what the manifest says" % path)


def _tree(files, first, last, start, image):
    """Put the records of ``files[first:last]``, whose paths are the same up to ``start``, into ``image``, unless that
    is None; returns their bytes."""
    total = 0
    while first < last:
        path, size, digest = files[first]
        slash = path.find("/", start)
        if slash < 0:
            name = path[start:].encode()
            after = first + 1
            content = 5 + size
        else:
            name = path[start:slash].encode()
            after = first
            while after < last and files[after][0].startswith(path[: slash + 1]):
                after += 1
            content = _tree(files, first, after, slash + 1, None)
        inside = 1 + len(name) + content
        total += 5 + inside
        if image:
            image.put(bytes((_FILE if slash < 0 else _DIRECTORY,)) + _number(inside) + bytes((len(name),)) + name)
            if slash < 0:
                image.put(bytes((_DATA,)) + _number(size))
                image.copy(path, size, digest)
            else:
                _tree(files, first, after, slash + 1, image)
        first = after
    return total


def _number(value):
    """A length below 2^28 as a varuint of four bytes."""
    return bytes((0x80 | value >> 21, 0x80 | value >> 14 & 0x7F, 0x80 | value >> 7 & 0x7F, value & 0x7F))


class _Image:
    """Bytes in a row, written to ``half`` as each block is full."""

    def __init__(self, half, directory):
        self._half = half
        self._directory = directory
        self._block = bytearray(half.block)
        self._hasher = hashlib.sha256()
        self.size = 0

    def put(self, data):
        self._hasher.update(data)
        block = len(self._block)
        at = 0
        while at < len(data):
            inside = self.size % block
            count = min(block - inside, len(data) - at)
            self._block[inside : inside + count] = data[at : at + count]
            at += count
            self.size += count
            if inside + count == block:
                self._half.write(self.size // block - 1, self._block)

    def copy(self, path, size, digest):
        _read(self._directory + "/lib/" + path, size, digest, self.put)

    def end(self):
        """Write what is left; returns the SHA-256 of it all."""
        block = len(self._block)
        if self.size % block:
            self._half.write(self.size // block, self._block)
        return self._hasher.digest()
