"""Which releases this board may still take: a floor that only rises, and what the newest one was.

One record, replaced as a whole. It rises when a release has proved itself, so that one that fails costs nothing.
"""

import struct

from qepa_wire.errors import WireError
from qepa_wire.manifest import decode_manifest, decode_release, manifest_digest

from ..errors import CorruptError, RefusedError
from .flash import read_record, write_record

FILE = "firmware"
PENDING = "update"  # the release that an update is under way to
_FORMAT = "<BII32s"
_LAYOUT = 1


def manifest_of(release):
    """(manifest as bytes, decoded) of a slot's release, or (None, None) where there is none that can be read."""
    try:
        data = decode_release(release)[0] if release is not None else None
        return (None, None) if data is None else (data, decode_manifest(data))
    except WireError:
        return None, None


def pending_version(flash):
    """Version that an update is under way to, 0 if there is none."""
    try:
        manifest = manifest_of(read_record(flash, PENDING))[1]
    except CorruptError:
        manifest = None
    return 0 if manifest is None else manifest.version


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

    def note(self, data, manifest):
        """A release proved itself: its manifest as ``data`` and decoded. Durable on return; again, it does nothing."""
        digest = manifest_digest(data)
        floor, newest = max(self.floor, manifest.floor), max(self.newest, manifest.version)
        if manifest.version < newest:
            digest = self.digest
        if (floor, newest, digest) != (self.floor, self.newest, self.digest):
            write_record(self._flash, FILE, struct.pack(_FORMAT, _LAYOUT, floor, newest, digest))
            self.floor, self.newest, self.digest = floor, newest, digest
