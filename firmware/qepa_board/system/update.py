"""Takes a signed release into the slot that is not in use. It knows no transport; every step survives a power cut.

begin() with the same release goes on where an update was cut. The confirmed slot is only read. Order in flash: the
spare slot stops being complete, it loses what does not belong in the release, the release is kept in /qepa/update,
files arrive, all are verified from flash, the slot becomes complete, its trial is armed, /qepa/update goes.
"""

from qepa_boot.record import A, B
from qepa_wire import lms
from qepa_wire.errors import WireError
from qepa_wire.manifest import (
    CONTEXT,
    MAX_BYTES,
    MAX_SIGNATURE,
    TARGETS,
    decode_manifest,
    decode_release,
    encode_release,
    lib_files,
    manifest_digest,
)

from ..errors import BoardError, CorruptError, RefusedError
from .flash import read_record, write_record
from .releases import PENDING
from .slot_files import MANIFEST

MAX_CHUNK = 4096


class Updater:
    """``slots``: qepa_boot.record.Slots; ``trees``: SlotFiles by slot; ``running``: slot whose code this is;
    ``root``: HSS public key or None; ``releases()``: Releases; ``target``: name of this kind of board.

    Raises BoardError or WireError with one word: firmware_root, signature, manifest, target, downgrade, version,
    installed, trial, full, flash, update, path, offset, incomplete, hash.
    """

    def __init__(self, flash, slots, trees, running, root, releases, target):
        self._flash = flash
        self._slots = slots
        self._trees = trees
        self._running = running
        self._root = root
        self._releases = releases
        self._target = target
        self._files = None

    @property
    def spare(self):
        """The slot that an update goes to."""
        return B if self._slots.confirmed == A else A

    def begin(self, manifest, signature):
        """Check the release, take from the confirmed slot what is the same there, and return what is missing.

        That is a list of (path, size, bytes that are there already).
        """
        if self._running == self.spare:
            raise RefusedError("trial", "this slot is on trial: wait until it is decided")
        if len(manifest) > MAX_BYTES or len(signature) > MAX_SIGNATURE:
            raise WireError("manifest", "%d and %d bytes" % (len(manifest), len(signature)))
        files = self._checked(manifest, signature)
        release = encode_release(manifest, signature)
        if self._pending() != release:
            self._clear(files)
            write_record(self._flash, PENDING, release)
        self._open()
        self._files = files
        self._copy(files)
        return self._missing(files)

    def _checked(self, manifest, signature):
        if self._root is None:
            raise BoardError("firmware_root", "absent in identity.json: this board takes no updates")
        lms.verify(self._root, CONTEXT + manifest, signature)
        decoded = decode_manifest(manifest)
        if TARGETS[decoded.target] != self._target:
            raise RefusedError("target", "for %s, this is %s" % (TARGETS[decoded.target], self._target))
        digest = manifest_digest(manifest)
        self._releases().check(decoded.version, digest)
        installed = self._trees[self._slots.confirmed].release()
        if installed is not None:
            present = decode_release(installed)[0]
            if present == manifest:
                raise RefusedError("installed", "version %d is the one in use" % decoded.version)
            if decode_manifest(present).version == decoded.version:
                raise RefusedError("version", "another version %d is in use" % decoded.version)
        return lib_files(decoded.files)

    def _pending(self):
        """The release that an update is under way to, or None."""
        try:
            return read_record(self._flash, PENDING)
        except CorruptError:
            return None

    def _clear(self, files):
        """Make the spare slot hold nothing but whole files of the new release, and see that there is room."""
        tree = self._trees[self.spare]
        self._open()
        self._flash.remove(PENDING)
        wanted = {entry.path: entry for entry in files}
        for path in tree.paths():
            entry = wanted.get(path)
            if entry is None or not tree.holds(entry):
                tree.remove(path)
        free, block = tree.free()
        need = sum((entry.size + block - 1) // block * block for entry in files if tree.size(entry.path) < 0)
        if need > free:
            raise BoardError("full", "the update needs %d bytes, %d are free" % (need, free))

    def _open(self):
        """The spare slot is not complete from here on: no loader starts it."""
        self._slots.disarm()
        self._trees[self.spare].remove(MANIFEST)

    def _copy(self, files):
        tree, source = self._trees[self.spare], self._trees[self._slots.confirmed]
        for entry in files:
            if tree.size(entry.path) != entry.size and source.holds(entry):
                tree.copy(entry.path, source)

    def _missing(self, files):
        tree = self._trees[self.spare]
        missing = []
        for entry in files:
            size = tree.size(entry.path)
            if size > entry.size or (size == entry.size and tree.digest(entry.path) != entry.sha256):
                self._open()
                tree.remove(entry.path)
                size = 0
            if size < entry.size:
                missing.append((entry.path, entry.size, max(size, 0)))
        return missing

    def _under_way(self):
        """Files of the release that an update is under way to."""
        if self._files is None:
            pending = self._pending()
            if pending is None:
                raise BoardError("update", "none is under way")
            self._files = lib_files(decode_manifest(decode_release(pending)[0]).files)
        return self._files

    def write(self, path, offset, data):
        """Put ``data`` at ``offset`` of a file, which must be its end; returns how many bytes of it are there."""
        entry = None
        for each in self._under_way():
            if each.path == path:
                entry = each
        if entry is None:
            raise BoardError("path", "not in this release")
        tree = self._trees[self.spare]
        size = max(tree.size(path), 0)
        if offset != size or not 0 < len(data) <= min(MAX_CHUNK, entry.size - size):
            raise BoardError("offset", "%s goes on at %d of %d" % (path, size, entry.size))
        tree.append(path, data)
        size += len(data)
        if size == entry.size and tree.digest(path) != entry.sha256:
            tree.remove(path)
            raise BoardError("hash", path)
        return size

    def finish(self):
        """Verify everything from flash and put the slot on trial from the next boot on; returns its version."""
        pending = self._pending()
        if pending is None:
            raise BoardError("update", "none is under way")
        manifest, signature = decode_release(pending)
        missing = self._missing(self._checked(manifest, signature))
        if missing:
            raise BoardError("incomplete", "%d files are missing, %s first" % (len(missing), missing[0][0]))
        self._trees[self.spare].complete(pending)
        self._slots.arm(self.spare)
        self._flash.remove(PENDING)
        return decode_manifest(manifest).version
