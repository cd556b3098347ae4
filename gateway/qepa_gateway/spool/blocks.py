"""One-time blocks in the spool: secrets sealed, used bytes overwritten in the transaction that takes the frame."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from ..domain.pads import Block, Range, bytes_left
from ..errors import CorruptError
from .database import Spool


@dataclass(frozen=True, slots=True)
class BlockRow:
    """What is known of a block without opening it."""

    key_id: bytes
    board: int
    size: int
    free: list[Range]


class BlockStore:
    """Reads and writes inside the caller's transaction; nothing is kept in memory."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def find(self, key_id: bytes) -> BlockRow | None:
        """The block's row, or None."""
        found = self._spool.row("SELECT key_id, board, size, free FROM blocks WHERE key_id=?", (key_id,))
        return None if found is None else _row(found)

    def of_board(self, board: int) -> list[BlockRow]:
        """All blocks of a board."""
        rows = self._spool.rows("SELECT key_id, board, size, free FROM blocks WHERE board=?", (board,))
        return [_row(row) for row in rows]

    def open(self, row: BlockRow) -> Block:
        """The block with its bytes."""
        (sealed,) = self._spool.row("SELECT key FROM blocks WHERE key_id=?", (row.key_id,)) or (b"",)
        key = bytearray(self._spool.vault.open(sealed, _place(row.key_id)))
        return Block(row.key_id, row.board, list(row.free), key)

    def add(self, block: Block, seq: int) -> None:
        """Store a new block that the board's PADS number ``seq`` listed."""
        self._spool.execute(
            "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                block.key_id,
                block.board,
                len(block.key),
                json.dumps(block.free),
                block.left,
                seq,
                self._spool.vault.seal(bytes(block.key), _place(block.key_id)),
            ),
        )

    def save(self, block: Block) -> None:
        """Store what is left of a block."""
        self._spool.execute(
            "UPDATE blocks SET free=?, left=?, key=? WHERE key_id=?",
            (
                json.dumps(block.free),
                block.left,
                self._spool.vault.seal(bytes(block.key), _place(block.key_id)),
                block.key_id,
            ),
        )

    def listed(self, board: int, key_ids: Iterable[bytes], seq: int) -> None:
        """PADS number ``seq`` lists these: what an earlier one listed and this one does not is deleted."""
        for key_id in key_ids:
            self._spool.execute(
                "UPDATE blocks SET listed_seq=max(listed_seq, ?) WHERE key_id=? AND board=?", (seq, key_id, board)
            )
        self._spool.execute("DELETE FROM blocks WHERE board=? AND listed_seq<?", (board, seq))

    def left(self) -> dict[int, int]:
        """Unused bytes by board."""
        return dict(self._spool.rows("SELECT board, sum(left) FROM blocks GROUP BY board"))


def _row(found: tuple[bytes, int, int, str]) -> BlockRow:
    key_id, board, size, free = found
    ranges = [(int(start), int(end)) for start, end in json.loads(free)]
    if bytes_left(ranges) > size:
        raise CorruptError(f"a one-time block of {size} bytes has more left")
    return BlockRow(key_id, board, size, ranges)


def _place(key_id: bytes) -> str:
    return f"blocks/{key_id.hex()}"
