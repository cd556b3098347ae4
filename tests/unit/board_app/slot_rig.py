"""A board's slots in a directory, signed releases for them, and a power supply that fails at any write."""

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pyhsslms.pyhsslms as hsslms

from qepa_board.errors import BoardError
from qepa_board.system.releases import Releases
from qepa_board.system.slot_files import MANIFEST, SlotFiles
from qepa_board.system.update import MAX_CHUNK, Updater
from qepa_boot.record import LIB, NAMES, A, B, Slots
from qepa_tools.firmware_build.bundle import Bundle, assemble
from qepa_wire.manifest import decode_release, lib_entries, signed_message

_KEY = hsslms.HssPrivateKey(levels=2, lms_type=hsslms.lms_sha256_m32_h5, lmots_type=hsslms.lmots_sha256_n32_w8)
ROOT: bytes = _KEY.publicKey().serialize()
TARGET = "unix"
COMMON = b"unchanged since version 1\n" * 90  # more than a piece of a copy


def signed(bundle: Bundle) -> Bundle:
    return bundle.signed(sign(bundle.manifest_bytes))


_signatures: dict[bytes, bytes] = {}


def sign(manifest: bytes) -> bytes:
    """The signature of a manifest, the same each time."""
    if manifest not in _signatures:  # one-time keys come to an end
        _signatures[manifest] = _KEY.sign(signed_message(hashlib.sha256(manifest).digest()))
    return _signatures[manifest]


def release(
    version: int, *, floor: int | None = None, target: str = TARGET, extra: bytes = b"", more: dict | None = None
) -> Bundle:
    """A release of a file that all have, one that each has of its own, and a loader."""
    files = {
        "lib/qepa_wire/common.mpy": COMMON,
        "lib/qepa_board/app.mpy": b"application of version %d" % version + extra,
        "lib/qepa_board/signals/deep.mpy": bytes([version % 256]) * (2 * MAX_CHUNK + 5),
        "main.py": b"the loader is not a slot's",
    }
    return signed(assemble(target, version, files | (more or {}), floor=floor))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


class MortalFiles(SlotFiles):
    """SlotFiles whose writes draw on the power of ``flash``; a write that is cut may be torn: half of it is there."""

    def __init__(self, root, flash):
        super().__init__(root)
        self.flash = flash
        self.torn = False

    def append(self, path, data):
        if self.torn and self.flash.operations + 1 == self.flash.dies_at:
            super().append(path, data[: len(data) // 2])
        self.flash._act(lambda: SlotFiles.append(self, path, data))

    def remove(self, path):
        self.flash._act(lambda: SlotFiles.remove(self, path))

    def keep(self, manifest, signature):
        self.flash._act(lambda: SlotFiles.keep(self, manifest, signature))

    def complete(self):
        self.flash._act(lambda: SlotFiles.complete(self))


@dataclass
class Board:
    """A board with ``bundle`` in slot a, confirmed, and in slot b version 99, which has not proved itself."""

    flash: object
    trees: dict
    running: int = A

    @classmethod
    def flashed(cls, directory, flash, bundle: Bundle) -> "Board":
        os.makedirs(directory, exist_ok=True)
        trees = {slot: MortalFiles(f"{directory}/{NAMES[slot]}", flash) for slot in (LIB, A, B)}
        for slot, filled in ((A, bundle), (B, release(99, more={"lib/qepa_board/removed.mpy": b"of this one only"}))):
            for path, content in filled.slot_files.items():
                if path != MANIFEST:
                    trees[slot].append(path, content)
            trees[slot].keep(*decode_release(filled.release))
            trees[slot].complete()
        board = cls(flash, trees)
        board.slots.choose(A)
        return board

    @property
    def slots(self) -> Slots:
        return Slots(self.flash, self.version_of)

    def updater(self, *, root: bytes | None = ROOT, target: str = TARGET, needs: tuple[str, ...] = ()) -> Updater:
        return Updater(self.slots, self.trees, self.running, root, lambda: Releases(self.flash), target, needs)

    def version_of(self, slot) -> int:
        header = self.trees[slot].header()
        return header.version if header is not None else 0

    def boot(self, *, restarted: bool = True) -> tuple[int, int]:
        self.running, mode = self.slots.begin(restarted)
        return self.running, mode

    def is_whole(self, slot) -> bool:
        """Whether a slot holds what its manifest says, and nothing else."""
        tree = self.trees[slot]
        manifest = tree.manifest()
        if manifest is None:
            return False
        files = list(lib_entries(manifest))
        return set(tree.paths()) == {entry.path for entry in files} and all(
            hashlib.sha256(content_of(tree, entry.path)).digest() == entry.sha256 for entry in files
        )


def content_of(tree, path) -> bytes:
    return Path(tree._root, path).read_bytes()


def deliver(updater: Updater, bundle: Bundle, *, chunk: int = MAX_CHUNK) -> int:
    """What a sender does, over any transport; returns how many bytes were sent."""
    sent = 0
    for path, size, there in updater.begin(bundle.manifest_bytes, bundle.signature):
        assert size == len(bundle.files[path])
        sent += _send(updater, path, bundle.files[path], there, chunk)
    updater.finish()
    return sent


def _send(updater: Updater, path: str, content: bytes, at: int, chunk: int) -> int:
    sent = 0
    while at < len(content):
        piece = content[at : at + chunk]
        sent += len(piece)
        try:
            at = updater.write(path, at, piece)
        except BoardError as error:
            if error.reason != "hash" or sent > 10 * len(content):
                raise
            at = 0  # what was left of an earlier attempt was no prefix of it
    return sent
