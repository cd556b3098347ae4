"""The slots of this board: which one runs, in which mode, and what is in them."""

from qepa_boot import loader
from qepa_boot.record import LIB, NAMES, NORMAL, SAFE, TRIAL, A, B, Slots
from qepa_wire.errors import WireError
from qepa_wire.manifest import decode_manifest, decode_release, lib_files, manifest_digest

from ..errors import BoardError
from .board_file import load_board, target_of
from .flash import read_record
from .releases import PENDING, Releases
from .slot_files import SlotFiles

LIB_VERSION = 1  # what packages in /lib, which have no manifest, say they are


class BoardSlots:
    """A view of the slots for whoever runs: the application, or the dock while it does not.

    ``slot`` this code runs from, ``mode`` of this boot (qepa_boot.record), ``version`` of this code.
    """

    def __init__(self, flash):
        self._flash = flash
        self.record = Slots(flash)
        self.trees = {slot: SlotFiles(loader.directory(slot)) for slot in (LIB, A, B)}
        self.slot = LIB if loader.slot is None else loader.slot
        if loader.booted:
            self.mode = loader.mode
        else:
            self.mode = SAFE if self.record.is_safe else NORMAL
        self.version = loader.version_of(self.slot) if self.slot != LIB else LIB_VERSION

    @property
    def name(self):
        """ "lib", "a" or "b"."""
        return NAMES[self.slot]

    @property
    def on_trial(self):
        """Whether this code still has to prove itself."""
        return self.mode == TRIAL and self.record.trial == self.slot

    def manifest(self, slot):
        """(manifest as bytes, decoded) of a complete slot, or (None, None)."""
        release = self.trees[slot].release()
        try:
            data = decode_release(release)[0] if release is not None else None
            return (None, None) if data is None else (data, decode_manifest(data))
        except WireError:
            return None, None

    def pending_version(self):
        """Version that an update is under way to, 0 if there is none."""
        try:
            release = read_record(self._flash, PENDING)
            return 0 if release is None else decode_manifest(decode_release(release)[0]).version
        except (BoardError, WireError):
            return 0

    def prove(self):
        """This slot has proved itself: a trial is confirmed, earlier crashes are forgotten, the floor rises.

        The floor rises first; a power cut in between leaves a trial, which proves itself again.
        """
        data, manifest = self.manifest(self.slot)
        if manifest is not None:
            Releases(self._flash).note(manifest, manifest_digest(data))
        if self.on_trial:
            self.record.confirm()
            self.mode = NORMAL
        else:
            self.record.healthy()

    def choose(self, name):
        """Run slot ``name`` from the next boot on: for the cable, which has just filled it. All files are verified."""
        slot = NAMES.index(name) if name in NAMES else LIB
        _, manifest = self.manifest(slot)
        if slot == LIB or manifest is None:
            raise BoardError("incomplete", "there is no complete slot of this name")
        for entry in lib_files(manifest.files):
            if not self.trees[slot].holds(entry):
                raise BoardError("hash", entry.path)
        self.record.choose(slot)

    def updater(self, root):
        """An Updater that accepts what the HSS public key ``root`` has signed; with None, nothing."""
        from .update import Updater  # noqa: PLC0415  seldom needed

        target = target_of(load_board(self._flash))
        return Updater(self._flash, self.record, self.trees, self.slot, root, Releases(self._flash), target)
