"""Counter of commits in a file of its own: tells a key store that was restored from a copy from the original.

A restored store would give keys and pads out again. The counter lies beside the key file, which no copy of the store
holds, and moves on after each commit but before anything of that commit leaves the process. So a store behind its
counter is a copy from before; a store one ahead is a process killed between the two, which had given nothing out yet.
A copy of the whole disk takes the counter along and is not told apart here: there the pad positions that both ends
exchange on connecting, and Bob, who redeems an identifier once, are what is left.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Final

from qepa_qkd.errors import CorruptError, RestoredError, TransientError

STORE_ID_BYTES: Final = 16
_RECORD: Final = struct.Struct(f">8s{STORE_ID_BYTES}sQ")
_MAGIC: Final = b"qepacnt1"
_SLOT_BYTES: Final = 512
"""Two sectors, written in turn: a torn write leaves the other."""


class CommitCounter:
    """The counter file of one store."""

    def __init__(self, path: Path, store_id: bytes) -> None:
        self._path, self._store_id = path, store_id
        self._file = -1

    def create(self) -> None:
        """Begin at zero, whatever was there: the store is new. Raises OSError."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._write(0)

    def check(self, commits: int) -> None:
        """Open the file and compare it with a store that counts `commits`. Raises RestoredError, CorruptError."""
        try:
            self._file = os.open(self._path, os.O_RDWR)
            data = os.pread(self._file, 2 * _SLOT_BYTES, 0)
        except OSError as error:
            raise CorruptError(
                f"Counter file {self._path} cannot be read ({error.strerror}): without it a restored key store cannot "
                "be told from the original. Bring it back, or move the store away to begin a new one."
            ) from None
        counts = [count for slot in (0, 1) if (count := self._parse(data[slot * _SLOT_BYTES :])) is not None]
        if not counts:
            raise CorruptError(f"Counter file {self._path} is damaged or belongs to another key store.")
        if max(counts) > commits:
            raise RestoredError(
                f"The key store is older than its counter {self._path}: it is a restored copy and would give keys out "
                "twice. Move it away to begin a new one."
            )
        if max(counts) < commits:
            self._write(commits)

    def advance(self, commits: int) -> None:
        """Note a commit, durably. Raises TransientError: nothing of that commit may be given out."""
        try:
            self._write(commits)
        except OSError as error:
            raise TransientError(f"the counter file {self._path} cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, commits: int) -> None:
        record = _RECORD.pack(_MAGIC, self._store_id, commits)
        os.pwrite(self._file, record + zlib.crc32(record).to_bytes(4, "big"), commits % 2 * _SLOT_BYTES)
        os.fdatasync(self._file)

    def _parse(self, slot: bytes) -> int | None:
        record, checksum = slot[: _RECORD.size], slot[_RECORD.size : _RECORD.size + 4]
        if len(checksum) < 4 or int.from_bytes(checksum, "big") != zlib.crc32(record):
            return None
        magic, store_id, count = _RECORD.unpack(record)
        return int(count) if (magic, store_id) == (_MAGIC, self._store_id) else None
