"""The files of one application slot, written so that a power cut leaves a prefix of what was under way, never more.

A slot is complete once its manifest is there: it comes last and goes first. Until then a release is kept beside it.
"""

# ruff: noqa: B904  MicroPython knows no exception chaining and warns on the console

import hashlib
import os
import struct

from qepa_wire.errors import WireError
from qepa_wire.manifest import HEADER_BYTES, MAX_FILE_BYTES, MAX_SIGNATURE, decode_header

from ..errors import BoardError

MANIFEST = "manifest"
PENDING = "update"  # the release that an update is under way to
_LIB = "lib"
_CHUNK = 512
_DIRECTORY = 0x4000


class SlotFiles:
    """The directory ``root`` ("/a", or "" for packages in /lib); paths are relative to it, as in a manifest.

    Raises BoardError("flash") when the file system refuses.
    """

    def __init__(self, root):
        self._root = root

    def size(self, path):
        """Bytes of a file, or -1 if there is none."""
        try:
            return os.stat(self._path(path))[6]
        except OSError:
            return -1

    def digest(self, path):
        """SHA-256 of a file's content."""
        try:
            with open(self._path(path), "rb") as file:
                return _digest(file, MAX_FILE_BYTES)
        except OSError as error:
            raise BoardError("flash", "cannot read %s: %s" % (path, error))

    def holds(self, entry):
        """Whether the file of a manifest's ``entry`` is there as it says."""
        return self.size(entry.path) == entry.size and self.digest(entry.path) == entry.sha256

    def paths(self):
        """All files below lib, in no order."""
        found = []
        folders = [_LIB]
        while folders:
            folder = folders.pop()
            try:
                names = os.listdir(self._path(folder))
            except OSError:
                continue
            for name in names:
                path = folder + "/" + name
                is_folder = os.stat(self._path(path))[0] & 0xF000 == _DIRECTORY
                (folders if is_folder else found).append(path)
        return found

    def append(self, path, data):
        """Put ``data`` at the end of a file, which is made if there is none; on return it is durable."""
        try:
            self._make_folders(path)
            with open(self._path(path), "ab") as file:
                file.write(data)
        except OSError as error:
            raise BoardError("flash", "cannot write %s: %s" % (path, error))

    def remove(self, path):
        """Remove a file if it is there."""
        try:
            os.remove(self._path(path))
        except OSError as error:
            if self.size(path) >= 0:
                raise BoardError("flash", "cannot remove %s: %s" % (path, error))

    def copy(self, path, source):
        """Make a file what it is in ``source``, another SlotFiles, in steps: a generator."""
        self.remove(path)
        try:
            with open(source._path(path), "rb") as file:
                data = file.read(_CHUNK)
                while data:
                    self.append(path, data)
                    yield
                    data = file.read(_CHUNK)
        except OSError as error:
            raise BoardError("flash", "cannot read %s: %s" % (path, error))

    def header(self, name=MANIFEST):
        """Header of a release kept here, or None if there is none that can be read."""
        try:
            with open(self._path(name), "rb") as file:
                return decode_header(file.read(2 + HEADER_BYTES)[2:])
        except (OSError, WireError):
            return None

    def manifest(self, name=MANIFEST):
        """Manifest of a release kept here, as bytes, or None."""
        try:
            with open(self._path(name), "rb") as file:
                return file.read(_length(file))
        except OSError:
            return None

    def manifest_digest(self, name=MANIFEST):
        """SHA-256 of that manifest, or None."""
        try:
            with open(self._path(name), "rb") as file:
                return _digest(file, _length(file))
        except OSError:
            return None

    def signature(self, name=MANIFEST):
        """Signature of a release kept here, or None."""
        try:
            with open(self._path(name), "rb") as file:
                file.seek(2 + _length(file))
                return file.read(MAX_SIGNATURE)
        except OSError:
            return None

    def keep(self, manifest, signature):
        """Keep a release whose files are to come."""
        path = self._path(PENDING)
        try:
            self._make_folders(PENDING)
            with open(path + ".new", "wb") as file:
                file.write(struct.pack("<H", len(manifest)))
                file.write(manifest)
                file.write(signature)
            os.rename(path + ".new", path)
        except OSError as error:
            raise BoardError("flash", "cannot write %s: %s" % (path, error))

    def complete(self):
        """Make the release that is kept the slot's own: with its manifest the slot is complete."""
        try:
            os.rename(self._path(PENDING), self._path(MANIFEST))
        except OSError as error:
            raise BoardError("flash", "cannot rename %s: %s" % (PENDING, error))

    def free(self):
        """(bytes free in this file system, bytes of a block)."""
        try:
            info = os.statvfs("/" if not self._root else self._root[: self._root.rfind("/")] or "/")
        except (OSError, AttributeError):
            return 1 << 29, 1
        return min(info[0] * info[3], 1 << 29), info[0]

    def _make_folders(self, path):
        at = 0
        while at >= 0:
            folder = self._root if at == 0 else self._path(path[:at])
            try:
                if folder:
                    os.mkdir(folder)
            except OSError:
                pass  # it is there; if not, opening the file tells
            at = path.find("/", at + 1)

    def _path(self, path):
        return self._root + "/" + path


def _length(file):
    """Bytes of the manifest at the start of a release; 0 if that was cut."""
    head = file.read(2)
    return struct.unpack("<H", head)[0] if len(head) == 2 else 0


def _digest(file, limit):
    """SHA-256 of what follows in ``file``, at most ``limit`` bytes of it."""
    hasher = hashlib.sha256()
    while limit > 0:
        data = file.read(min(_CHUNK, limit))
        if not data:
            break
        hasher.update(data)
        limit -= len(data)
    return hasher.digest()
