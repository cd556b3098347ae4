"""History of a link end: one JSON object a line, for curves over time. Bounded, and never a reason to stop.

A line has `t` (Unix time) and `what`: `start` (of the program; `simulated` when its controller sits behind a
pseudo-terminal) or `block` (the fields of a BlockOutcome, and `stock_bits`). Counts, no key.
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from qepa_qkd.distillation import BlockOutcome

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 4_000_000
"""About 20,000 blocks; then the file becomes the old one, which replaces the one before."""


def history_path(store: Path) -> Path:
    """Where the history of the link end with this key store lies."""
    return store.with_name(f"{store.stem}.history.jsonl")


class History:
    """Appends to the file at `path`."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path, self._most_bytes = path, most_bytes

    def started(self, now_s: float, *, simulated: bool) -> None:
        """The program has opened its controller."""
        self._append({"t": now_s, "what": "start", "simulated": simulated})

    def block(self, now_s: float, outcome: BlockOutcome, stock_bits: int) -> None:
        """A block ended."""
        self._append({"t": now_s, "what": "block", **asdict(outcome), "stock_bits": stock_bits})

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            if self._path.exists() and self._path.stat().st_size > self._most_bytes:
                self._path.replace(_older(self._path))
            with self._path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            logger.warning("the history cannot be written: %s", error)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the entries, oldest first; a line that a crash cut is left out. Raises OSError."""
    entries = []
    for part in (_older(path), path):
        if part.exists():
            for line in part.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if isinstance(entry, dict) and "t" in entry and "what" in entry:
                    entries.append(entry)
    return entries


def behind_pseudo_terminal(serial_port: Path) -> bool:
    """Whether a port is none of a real controller."""
    return str(serial_port.resolve()).startswith("/dev/pts/")


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")
