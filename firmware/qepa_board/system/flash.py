"""Files that are either old or new after a power cut, never in between.

LittleFS and POSIX replace a file by ``rename`` as a whole, so a file is written under another name, closed, and
renamed. Records carry eight bytes of SHA-256, because flash wears.
"""

# ruff: noqa: B904  MicroPython knows no exception chaining and warns on the console

import hashlib
import os

from ..errors import BoardError, CorruptError

ROOT = "/qepa"
_NEW = ".new"
_SUM_BYTES = 8


class Flash:
    """The directory ``root``; names are plain file names.

    Raises BoardError("flash") when the file system refuses, CorruptError("flash") for a record that was altered.
    """

    def __init__(self, root=ROOT):
        self._root = root
        try:
            os.mkdir(root)
        except OSError:
            pass  # it is there already; if not, the next line tells
        for name in self.names():
            if name.endswith(_NEW):
                self.remove(name)

    def names(self):
        """All file names, sorted."""
        try:
            return sorted(os.listdir(self._root))
        except OSError as error:
            raise BoardError("flash", "cannot list %s: %s" % (self._root, error))

    def read(self, name):
        """Content as bytes, or None if there is no such file."""
        try:
            with open(self._path(name), "rb") as file:
                return file.read()
        except OSError as error:
            if name in self.names():
                raise BoardError("flash", "cannot read %s: %s" % (name, error))
            return None

    def write(self, name, data):
        """Replace the file by ``data``; on return it is durable."""
        path = self._path(name)
        try:
            with open(path + _NEW, "wb") as file:
                file.write(data)
                file.flush()
            os.rename(path + _NEW, path)
        except OSError as error:
            try:
                os.remove(path + _NEW)  # where flash is full, what was half written takes the room of what comes next
            except OSError:
                pass
            raise BoardError("flash", "cannot write %s: %s" % (name, error))

    def remove(self, name):
        """Remove the file if it is there."""
        try:
            os.remove(self._path(name))
        except OSError as error:
            if name in self.names():
                raise BoardError("flash", "cannot remove %s: %s" % (name, error))

    def _path(self, name):
        return self._root + "/" + name


def read_record(flash, name):
    """Body of a record, or None if there is none; raises CorruptError for one that was altered or cut."""
    data = flash.read(name)
    if data is None:
        return None
    body = data[:-_SUM_BYTES]
    if len(data) <= _SUM_BYTES or hashlib.sha256(body).digest()[:_SUM_BYTES] != data[-_SUM_BYTES:]:
        raise CorruptError("flash", name)
    return body


def write_record(flash, name, body):
    """Write ``body`` so that read_record() notices a change."""
    flash.write(name, body + hashlib.sha256(body).digest()[:_SUM_BYTES])
