"""Takes a signed release into the slot that is not in use. It knows no transport; every step survives a power cut.

begin() with the same release goes on where an update was cut. The confirmed slot is only read. Order in flash: the
spare slot stops being complete, it loses what does not belong in the release, the release is kept in it as `update`,
files arrive, all are verified from flash, `update` becomes the slot's manifest, its trial is armed.

What takes long is also there in steps, generators that yield after each file or piece of one, for a board that goes
on sampling meanwhile.
"""

from qepa_boot.record import A, B
from qepa_wire import lms
from qepa_wire.errors import WireError
from qepa_wire.manifest import MAX_BYTES, MAX_SIGNATURE, TARGETS, decode_header, lib_entries, signed_message
from qepa_wire.primitives import sha256

from ..errors import BoardError, RefusedError
from .slot_files import MANIFEST, PENDING

MAX_CHUNK = 4096
_APPLICATION = "lib/qepa_board/"


class Updater:
    """``slots``: qepa_boot.record.Slots; ``trees``: SlotFiles by slot; ``running``: slot whose code this is;
    ``root``: HSS public key or None; ``releases()``: Releases; ``target``: name of this kind of board; ``needs``:
    modules of qepa_board that this board cannot do without, as "drivers/max30003".

    Raises BoardError or WireError with one word: firmware_root, signature, manifest, target, profile, downgrade,
    version, installed, trial, full, flash, update, path, offset, incomplete, hash.
    """

    def __init__(self, slots, trees, running, root, releases, target, needs=()):
        self._slots = slots
        self._trees = trees
        self._running = running
        self._root = root
        self._releases = releases
        self.target = target
        self.needs = needs
        self._manifest = None
        self.missing = []  # (path, size, bytes that are there already), as begin() or finish() found it

    @property
    def spare(self):
        """The slot that an update goes to."""
        return B if self._slots.confirmed == A else A

    def begin(self, manifest, signature):
        """Check the release, take from the confirmed slot what is the same there, and return what is missing."""
        for _ in self.begin_in_steps(manifest, signature):
            pass
        return self.missing

    def has_begun(self, digest):
        """Whether the spare slot is being filled with the release whose manifest has this SHA-256."""
        return self._trees[self.spare].manifest_digest(PENDING) == digest

    def begun(self):
        """(manifest, signature) of the release that the spare slot is being filled with."""
        tree = self._trees[self.spare]
        return tree.manifest(PENDING), tree.signature(PENDING)

    def begin_in_steps(self, manifest, signature):
        """begin(), which leaves what is missing in ``missing``."""
        if self._running == self.spare:
            raise RefusedError("trial", "this slot is on trial: wait until it is decided")
        if len(manifest) > MAX_BYTES or len(signature) > MAX_SIGNATURE:
            raise WireError("manifest", "%d and %d bytes" % (len(manifest), len(signature)))
        digest = sha256(manifest)
        self._check(manifest, digest, signature)
        tree = self._trees[self.spare]
        self._open()
        if tree.manifest_digest(PENDING) != digest or tree.signature(PENDING) != signature:
            yield from self._clear(manifest)
            tree.keep(manifest, signature)
        self._manifest = manifest
        yield from self._copy()
        yield from self._look()

    def _check(self, manifest, digest, signature):
        if self._root is None:
            raise BoardError("firmware_root", "absent in identity.json: this board takes no updates")
        lms.verify(self._root, signed_message(digest), signature)
        header = decode_header(manifest)
        lacking = list(self.needs)
        for entry in lib_entries(manifest):  # to its end: all of it makes sense
            name = entry.path[len(_APPLICATION) :].rsplit(".", 1)[0]
            if entry.path.startswith(_APPLICATION) and name in lacking:
                lacking.remove(name)
        if TARGETS[header.target] != self.target:
            raise RefusedError("target", "for %s, this is %s" % (TARGETS[header.target], self.target))
        if lacking:
            raise RefusedError("profile", "without %s, which this board needs" % lacking[0])
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
            yield
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
                yield from tree.copy(entry.path, source)
            yield

    def _look(self):
        tree = self._trees[self.spare]
        self.missing = missing = []
        for entry in lib_entries(self._manifest):
            size = tree.size(entry.path)
            if size > entry.size or (size == entry.size and not tree.holds(entry)):
                tree.remove(entry.path)
                size = 0
            if size < entry.size:
                missing.append((entry.path, entry.size, max(size, 0)))
            yield

    def _under_way(self):
        """Manifest of the release that an update is under way to."""
        if self._manifest is None:
            self._manifest = self._trees[self.spare].manifest(PENDING)
            if self._manifest is None:
                raise BoardError("update", "none is under way")
        return self._manifest

    def number(self, path):
        """Which of the release's files below lib/ ``path`` is, from 0."""
        return [entry.path for entry in lib_entries(self._under_way())].index(path)

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
        for _ in self.finish_in_steps():
            pass
        return self._trees[self.spare].header().version

    def finish_in_steps(self):
        """finish(), in steps."""
        tree = self._trees[self.spare]
        manifest = self._under_way()
        self._check(manifest, sha256(manifest), tree.signature(PENDING))
        yield from self._look()
        if self.missing:
            raise BoardError("incomplete", "%d files are missing, %s first" % (len(self.missing), self.missing[0][0]))
        tree.complete()
        self._manifest = None
        self._slots.arm(self.spare)


def _find(manifest, path):
    for entry in lib_entries(manifest):
        if entry.path == path:
            return entry
    return None
