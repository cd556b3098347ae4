"""Which releases this board may still take: a floor that only rises, and what the newest one was.

One record, replaced as a whole. It rises when a release has proved itself, so that one that fails costs nothing.
"""

import struct

from ..errors import CorruptError, RefusedError
from .flash import read_record, write_record

FILE = "firmware"
_FORMAT = "<BII32s"
_LAYOUT = 1


class Releases:
    """``floor``: no version below is taken; ``newest`` version that ever proved itself, ``digest`` of its manifest."""

    def __init__(self, flash):
        self._flash = flash
        self.floor, self.newest, self.digest = 0, 0, bytes(32)
        try:
            body = read_record(flash, FILE)
        except CorruptError:
            body = None  # note() makes it anew from the slot in use
        if body is not None and len(body) == struct.calcsize(_FORMAT) and body[0] == _LAYOUT:
            self.floor, self.newest, self.digest = struct.unpack(_FORMAT, body)[1:]

    def check(self, version, digest):
        """Raise RefusedError("downgrade") or RefusedError("version") for a release that may not be taken."""
        if version < self.floor:
            raise RefusedError("downgrade", "version %d, this board takes none below %d" % (version, self.floor))
        if version == self.newest and digest != self.digest:
            raise RefusedError("version", "another version %d has run here" % version)

    def note(self, header, digest):
        """A release proved itself: Header and SHA-256 of its manifest. Durable on return; again, it does nothing."""
        floor, newest = max(self.floor, header.floor), max(self.newest, header.version)
        if header.version < newest:
            digest = self.digest
        if (floor, newest, digest) != (self.floor, self.newest, self.digest):
            write_record(self._flash, FILE, struct.pack(_FORMAT, _LAYOUT, floor, newest, digest))
            self.floor, self.newest, self.digest = floor, newest, digest
