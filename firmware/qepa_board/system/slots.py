"""The slots of this board: which one runs, in which mode, and what is in them.

The application has this from boot to boot; what reads manifests is loaded where it is needed, which is seldom.
"""

# ruff: noqa: PLC0415  see above

from qepa_boot import loader
from qepa_boot.record import LIB, NAMES, NORMAL, SAFE, TRIAL, A, B, Slots

from ..errors import BoardError

LIB_VERSION = 1  # what packages in /lib, which have no manifest, say they are


class BoardSlots:
    """A view of the slots for whoever runs: the application, or the dock while it does not.

    ``slot`` this code runs from, ``mode`` of this boot (qepa_boot.record), ``version`` of this code.
    """

    def __init__(self, flash):
        self._flash = flash
        self.record = Slots(flash, loader.version_of)
        self.slot = LIB if loader.slot is None else loader.slot
        if loader.booted:
            self.mode = loader.mode
        else:
            self.mode = SAFE if self.record.is_safe else NORMAL
        self.version = loader.version_of(self.slot) if self.slot != LIB else LIB_VERSION

    @property
    def name(self):
        """Name of the slot that this code runs from: "lib", "a" or "b"."""
        return NAMES[self.slot]

    @property
    def on_trial(self):
        """Whether this code still has to prove itself."""
        return self.mode == TRIAL and self.record.trial == self.slot

    def files(self, slot):
        """SlotFiles of a slot."""
        from .slot_files import SlotFiles

        return SlotFiles(loader.directory(slot))

    def prove(self):
        """This slot has proved itself: a trial is confirmed and the floor rises, earlier crashes are forgotten.

        The floor rises first; a power cut in between leaves a trial, which proves itself again.
        """
        if self.on_trial:
            self.releases(self.slot)
            self.record.confirm(self.slot)
            self.mode = NORMAL
        else:
            self.record.healthy()

    def releases(self, slot):
        """The Releases of this board, in which the release in ``slot``, which has proved itself, is noted."""
        from .releases import Releases

        releases = Releases(self._flash)
        files = self.files(slot)
        header = files.header()
        if header is not None:
            releases.note(header, files.manifest_digest())
        return releases

    def pending_version(self):
        """Version that an update is under way to, 0 if there is none."""
        headers = [self.files(slot).header("update") for slot in (A, B)]
        return max(0 if header is None else header.version for header in headers)

    def choose(self, name):
        """Run slot ``name`` from the next boot on: for the cable, which has just filled it. All files are verified."""
        from qepa_wire.manifest import lib_entries

        slot = NAMES.index(name) if name in NAMES else LIB
        files = self.files(slot)
        manifest = files.manifest()
        if slot == LIB or manifest is None:
            raise BoardError("incomplete", "there is no complete slot of this name")
        for entry in lib_entries(manifest):
            if not files.holds(entry):
                raise BoardError("hash", entry.path)
        self.record.choose(slot)

    def updater(self, root, transport=None):
        """An Updater that accepts what the HSS public key ``root`` has signed; with None, nothing.

        A release must have the drivers of this board's sensors and, where it is given, the ``transport``.
        """
        from .board_file import load_board, needs_of, target_of
        from .update import Updater

        board = load_board(self._flash)
        files = {slot: self.files(slot) for slot in (LIB, A, B)}
        releases = lambda: self.releases(self.record.confirmed)  # noqa: E731
        needs = needs_of(board, transport)
        return Updater(self.record, files, self.slot, root, releases, target_of(board), needs)
