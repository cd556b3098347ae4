"""Takes a signed release into the slot that is not in use. It knows no transport; every step survives a power cut.

begin() with the same release goes on where an update was cut. The confirmed slot is only read. Order in flash: the
spare slot stops being complete, it loses what does not belong in the release, the release is kept in it as `update`,
files arrive, all are verified from flash, `update` becomes the slot's manifest, its trial is armed.
"""

from qepa_boot.record import A, B
from qepa_wire import lms
from qepa_wire.errors import WireError
from qepa_wire.manifest import MAX_BYTES, MAX_SIGNATURE, TARGETS, decode_header, lib_entries, signed_message
from qepa_wire.primitives import sha256

from ..errors import BoardError, RefusedError
from .slot_files import MANIFEST, PENDING

MAX_CHUNK = 4096


class Updater:
    """``slots``: qepa_boot.record.Slots; ``trees``: SlotFiles by slot; ``running``: slot whose code this is;
    ``root``: HSS public key or None; ``releases()``: Releases; ``target``: name of this kind of board.

    Raises BoardError or WireError with one word: firmware_root, signature, manifest, target, downgrade, version,
    installed, trial, full, flash, update, path, offset, incomplete, hash.
    """

    def __init__(self, slots, trees, running, root, releases, target):
        self._slots = slots
        self._trees = trees
        self._running = running
        self._root = root
        self._releases = releases
        self._target = target
        self._manifest = None

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
        digest = sha256(manifest)
        self._check(manifest, digest, signature)
        tree = self._trees[self.spare]
        self._open()
        if tree.manifest_digest(PENDING) != digest or tree.signature(PENDING) != signature:
            self._clear(manifest)
            tree.keep(manifest, signature)
        self._manifest = manifest
        self._copy()
        return self._missing()

    def _check(self, manifest, digest, signature):
        if self._root is None:
            raise BoardError("firmware_root", "absent in identity.json: this board takes no updates")
        lms.verify(self._root, signed_message(digest), signature)
        header = decode_header(manifest)
        for _ in lib_entries(manifest):
            pass  # it makes sense to its end
        if TARGETS[header.target] != self._target:
            raise RefusedError("target", "for %s, this is %s" % (TARGETS[header.target], self._target))
        self._releases().check(header.version, digest)
        confirmed = self._trees[self._slots.confirmed]
        installed = confirmed.header()
        if installed is not None and installed.version == header.version:
            if confirmed.manifest_digest() == digest:
                raise RefusedError("installed", "version %d is the one in use" % header.version)
            raise RefusedError("version", "another version %d is in use" % header.version)

    def _open(self):
        """The spare slot is not complete from here on: no loader starts it."""
        self._slots.disarm()
        self._trees[self.spare].remove(MANIFEST)

    def _clear(self, manifest):
        """Make the spare slot hold nothing but whole files of the new release, and see that there is room."""
        tree = self._trees[self.spare]
        tree.remove(PENDING)
        for path in tree.paths():
            entry = _find(manifest, path)
            if entry is None or not tree.holds(entry):
                tree.remove(path)
        free, block = tree.free()
        need = 0
        for entry in lib_entries(manifest):
            if tree.size(entry.path) < 0:
                need += (entry.size + block - 1) // block * block
        if need > free:
            raise BoardError("full", "the update needs %d bytes, %d are free" % (need, free))

    def _copy(self):
        tree, source = self._trees[self.spare], self._trees[self._slots.confirmed]
        for entry in lib_entries(self._manifest):
            if tree.size(entry.path) != entry.size and source.holds(entry):
                tree.copy(entry.path, source)

    def _missing(self):
        tree = self._trees[self.spare]
        missing = []
        for entry in lib_entries(self._manifest):
            size = tree.size(entry.path)
            if size > entry.size or (size == entry.size and not tree.holds(entry)):
                tree.remove(entry.path)
                size = 0
            if size < entry.size:
                missing.append((entry.path, entry.size, max(size, 0)))
        return missing

    def _under_way(self):
        """Manifest of the release that an update is under way to."""
        if self._manifest is None:
            self._manifest = self._trees[self.spare].manifest(PENDING)
            if self._manifest is None:
                raise BoardError("update", "none is under way")
        return self._manifest

    def write(self, path, offset, data):
        """Put ``data`` at ``offset`` of a file, which must be its end; returns how many bytes of it are there."""
        entry = _find(self._under_way(), path)
        if entry is None:
            raise BoardError("path", "not in this release")
        tree = self._trees[self.spare]
        size = max(tree.size(path), 0)
        if offset != size or not 0 < len(data) <= min(MAX_CHUNK, entry.size - size):
            raise BoardError("offset", "%s goes on at %d of %d" % (path, size, entry.size))
        tree.append(path, data)
        size += len(data)
        if size == entry.size and not tree.holds(entry):
            tree.remove(path)
            raise BoardError("hash", path)
        return size

    def finish(self):
        """Verify everything from flash and put the slot on trial from the next boot on; returns its version."""
        tree = self._trees[self.spare]
        manifest = self._under_way()
        self._check(manifest, sha256(manifest), tree.signature(PENDING))
        missing = self._missing()
        if missing:
            raise BoardError("incomplete", "%d files are missing, %s first" % (len(missing), missing[0][0]))
        tree.complete()
        self._manifest = None
        self._slots.arm(self.spare)
        return tree.header().version


def _find(manifest, path):
    for entry in lib_entries(manifest):
        if entry.path == path:
            return entry
    return None
