"""What a link has left behind: its history of blocks, and key passports, each verified and its proof repeated.

The store is opened for reading only, so that Alice may go on meanwhile.
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from qepa_qkd.config import LinkConfig
from qepa_qkd.errors import CorruptError, SecurityError
from qepa_qkd.history import history_path, read_history
from qepa_qkd.passport import verify_passport
from qepa_qkd.passport_proof import repeat_proof
from qepa_qkd.store_database import read_secret_file

from ..errors import ToolError
from .monitor import BlockRecord, block_records

MOST_PASSPORTS: Final = 2000
MOST_APART_S: Final = 60.0
"""Between a block's passport and its line in the history."""
GAP: Final = 5.0
"""A block that took this many times the median is taken for a pause."""

Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Archive:
    """One end's past."""

    config: LinkConfig
    blocks: list[BlockRecord]
    passports: list[dict[str, Any]] = field(default_factory=list)
    """Fields of those that verify and whose proof gives the stated length again, oldest first."""
    rejected: list[str] = field(default_factory=list)
    """Why others do not."""
    left_out: int = 0
    """Passports that are older than the newest `MOST_PASSPORTS`."""

    @property
    def simulated(self) -> bool:
        """Whether any block came from a stand-in."""
        return any(block.simulated for block in self.blocks)

    @property
    def longest_fill_s(self) -> float:
        """What took longer was a pause."""
        taken = [b.seconds for b in self.blocks if b.seconds is not None]
        return GAP * median(taken) if taken else 0.0

    def fill_seconds(self) -> dict[int, float]:
        """Return for how long each block with a passport took light, by its place in `passports`.

        Where the history does not count pulses, the time since the block before stands in; pauses are left out.
        """
        rate_hz, limit = self.config.protocol.pulse_rate_hz, self.longest_fill_s
        timed: dict[int, list[tuple[float, float, float]]] = {}
        for block in self.blocks:
            if block.pulses:
                timed.setdefault(block.key_bits, []).append((block.t, block.pulses / rate_hz, MOST_APART_S))
            elif block.seconds is not None and block.seconds <= limit:
                timed.setdefault(block.key_bits, []).append((block.t, block.seconds, block.seconds / 2))
        found = {}
        for place, passport in enumerate(self.passports):
            made_s, key_bits = passport["made_s"], passport["key_bits"] - passport["authentication_bits"]
            near = timed.get(key_bits)
            if near:
                t, seconds, most_apart_s = min(near, key=lambda one: abs(one[0] - made_s))
                if abs(t - made_s) < most_apart_s:
                    found[place] = seconds
        return found


def read_archive(config: LinkConfig, progress: Progress = lambda *_: None) -> Archive:
    """Read and verify. Raises ToolError when there is no store to read."""
    try:
        archive = Archive(config, block_records(read_history(history_path(config.store.path))))
    except OSError as error:
        raise ToolError(f"the history of the link cannot be read: {error}") from None
    texts, archive.left_out = _passports(config.store.path)
    if not texts:
        return archive
    seed = read_secret_file(config.store.signing_key, "Signing key")
    public = MLDSA65PrivateKey.from_seed_bytes(seed).public_key()
    for number, text in enumerate(texts, 1):
        try:
            passport = verify_passport(text, public)
            repeat_proof(passport)
            archive.passports.append(passport)
        except (CorruptError, SecurityError) as error:
            archive.rejected.append(f"block {_block_id(text)}: {error}")
        progress("verifying passports", number, len(texts))
    return archive


def _passports(store: Path) -> tuple[list[str], int]:
    if not store.exists():
        raise ToolError(f"there is no key store {store} yet; `qepa link run` makes one")
    query = "SELECT passport FROM blocks WHERE state != 'dropped' ORDER BY sequence DESC LIMIT ?"
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5.0)) as connection:
            rows = connection.execute(query, (MOST_PASSPORTS,)).fetchall()
            (total,) = connection.execute("SELECT count(*) FROM blocks WHERE state != 'dropped'").fetchone()
    except sqlite3.DatabaseError as error:
        raise ToolError(f"the key store {store} cannot be read: {error}") from None
    return [str(text) for (text,) in reversed(rows)], int(total) - len(rows)


def _block_id(text: str) -> str:
    try:
        return f"{json.loads(text)['passport']['block_id']:016x}"
    except (ValueError, KeyError, TypeError):
        return "without a number"
