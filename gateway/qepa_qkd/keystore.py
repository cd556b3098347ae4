"""Key store of one end of a link: blocks of secret key, each bit given out exactly once.

Alice takes keys (`take`), Bob redeems the places she names (`redeem`). Either commits before it returns, and erases
the given bytes in the same transaction: a crash between commit and use loses a key, it never repeats one.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from qepa_qkd.errors import CorruptError, KeyNotFound, StockTooLow
from qepa_qkd.key_id import BLOCK_ID_BITS, PREFIX_BITS, KeyLocation
from qepa_qkd.store_database import StoreDatabase

Intervals = list[tuple[int, int]]


@dataclass(frozen=True, slots=True, repr=False)
class StoredKey:
    """One key and where it lay."""

    location: KeyLocation
    value: bytes


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """What screens show of a store."""

    stock_bits: int
    produced_bits: int
    consumed_bits: int
    blocks: int
    last_block_s: float | None
    """Unix time at which the newest block was stored."""


class KeyStore:
    """Blocks of one link end. `on_change` is called after every change of the stock."""

    def __init__(self, database: StoreDatabase, on_change: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self.on_change = on_change

    def add_block(
        self, block_id: int, key: bytes, passport: str, *, live: bool, created_s: float | None = None
    ) -> None:
        """Store the key of a block, durably. Pending blocks wait for `settle`; their keys can only be redeemed."""
        free = json.dumps([(0, len(key))])
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO blocks (id, state, created_s, free, free_bytes, sealed, passport) VALUES (?,?,?,?,?,?,?)",
                (
                    block_id,
                    "live" if live else "pending",
                    time.time() if created_s is None else created_s,
                    free,
                    len(key),
                    self._database.seal(key, _label(block_id, free)),
                    passport,
                ),
            )
            self._database.add_total("produced_bits", 8 * len(key))
        self.on_change()

    def settle(self, block_id: int, *, live: bool) -> None:
        """End a block's pending state: it becomes live, or its key is destroyed. Settled blocks stay as they are."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT free_bytes FROM blocks WHERE id = ? AND state = 'pending'", (block_id,)
            ).fetchall()
            if rows and live:
                connection.execute("UPDATE blocks SET state = 'live' WHERE id = ?", (block_id,))
            elif rows:
                connection.execute(
                    "UPDATE blocks SET state = 'dropped', free = '[]', free_bytes = 0, sealed = NULL WHERE id = ?",
                    (block_id,),
                )
                self._database.add_total("produced_bits", -8 * int(rows[0][0]))
        self.on_change()

    def pending(self) -> tuple[int, ...]:
        """Identifiers of blocks that the peer may or may not have."""
        rows = self._database.read("SELECT id FROM blocks WHERE state = 'pending' ORDER BY sequence")
        return tuple(cast(int, row[0]) for row in rows)

    def known(self, block_ids: Iterable[int]) -> tuple[int, ...]:
        """Those of `block_ids` that this store has or had."""
        query = "SELECT 1 FROM blocks WHERE id = ? AND state != 'dropped'"
        return tuple(block_id for block_id in block_ids if self._database.read(query, block_id))

    def take(self, number: int, size_bytes: int, *, keep_bits: int = 0, newer_than_s: float = 0.0) -> list[StoredKey]:
        """Give out `number` fresh keys, oldest blocks first; all or none. Raises StockTooLow.

        At least `keep_bits` stay in stock, and blocks stored before `newer_than_s` (Unix time) are not touched. A key
        never spans two blocks: the tail of a block waits for a request that fits.
        """
        taken: list[StoredKey] = []
        with self._database.transaction() as connection:
            if self.live_bits(newer_than_s) - 8 * number * size_bytes < keep_bits:
                raise StockTooLow(f"the store does not hold {number} keys of {8 * size_bytes} bits for this request")
            rows = connection.execute(
                "SELECT id, free FROM blocks WHERE state = 'live' AND free_bytes >= ? AND created_s >= ? "
                "ORDER BY sequence",
                (size_bytes, newer_than_s),
            )
            for block_id, free in rows.fetchall():
                wanted = []
                for start, end in json.loads(free):
                    room = range(start, end - size_bytes + 1, size_bytes)
                    wanted += [KeyLocation(block_id, offset, size_bytes) for offset in room]
                wanted = wanted[: number - len(taken)]
                if wanted:
                    taken += self._consume(block_id, wanted)
                if len(taken) == number:
                    break
            else:
                raise StockTooLow(f"the store does not hold {number} keys of {8 * size_bytes} bits")
        self.on_change()
        return taken

    def redeem(self, locations: Sequence[KeyLocation]) -> list[StoredKey]:
        """Give out the keys that the peer handed out at `locations`; all or none. Raises KeyNotFound."""
        by_block: dict[int, list[KeyLocation]] = {}
        for location in locations:
            by_block.setdefault(location.block_id, []).append(location)
        found: dict[KeyLocation, StoredKey] = {}
        with self._database.transaction():
            for block_id, wanted in by_block.items():
                found |= {key.location: key for key in self._consume(block_id, wanted)}
        self.on_change()
        return [found[location] for location in locations]

    def blocks_named(self, prefix: int) -> tuple[int, ...]:
        """Identifiers of the blocks, used up or not, that begin with these `PREFIX_BITS` bits; rarely more than one."""
        shift = BLOCK_ID_BITS - PREFIX_BITS
        first = prefix << shift
        rows = self._database.read("SELECT id FROM blocks WHERE id BETWEEN ? AND ?", first, first + (1 << shift) - 1)
        return tuple(cast(int, row[0]) for row in rows)

    def expire(self, before_s: float) -> int:
        """Destroy what is left of blocks stored before `before_s` (Unix time); returns the bits destroyed."""
        query = "SELECT id, free_bytes FROM blocks WHERE free_bytes > 0 AND state = 'live' AND created_s < ?"
        if not self._database.read(query, before_s):
            return 0
        with self._database.transaction():
            old = cast("list[tuple[int, int]]", self._database.read(query, before_s))
            destroyed = self._destroy(old)
        self.on_change()
        return destroyed

    def prune(self, most_bits: int) -> int:
        """Destroy the oldest blocks until at most `most_bits` remain; returns the bits destroyed."""
        excess = self.figures().stock_bits - most_bits
        destroyed = 0
        if excess <= 0:
            return 0
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT id, free_bytes FROM blocks WHERE free_bytes > 0 ORDER BY sequence")
            for block_id, free_bytes in rows.fetchall():
                if destroyed >= excess:
                    break
                destroyed += self._destroy([(block_id, free_bytes)])
        self.on_change()
        return destroyed

    def stock_bits(self) -> int:
        """Bits that can still be given out, pending blocks included."""
        return 8 * cast(int, self._database.read("SELECT coalesce(sum(free_bytes), 0) FROM blocks")[0][0])

    def live_bits(self, newer_than_s: float = 0.0) -> int:
        """Bits that can be taken now, of blocks stored since `newer_than_s`."""
        query = "SELECT coalesce(sum(free_bytes), 0) FROM blocks WHERE state = 'live' AND created_s >= ?"
        return 8 * cast(int, self._database.read(query, newer_than_s)[0][0])

    def key_count(self, size_bytes: int, newer_than_s: float = 0.0) -> int:
        """How many keys of `size_bytes` can be taken now, from blocks stored since `newer_than_s`."""
        query = "SELECT free FROM blocks WHERE state = 'live' AND free_bytes > 0 AND created_s >= ?"
        rows = self._database.read(query, newer_than_s)
        return sum((end - start) // size_bytes for (free,) in rows for start, end in json.loads(cast(str, free)))

    def figures(self) -> StoreFigures:
        """Totals since the store was made."""
        blocks, newest = self._database.read("SELECT count(*), max(created_s) FROM blocks WHERE state != 'dropped'")[0]
        return StoreFigures(
            stock_bits=self.stock_bits(),
            produced_bits=self._database.total("produced_bits"),
            consumed_bits=self._database.total("consumed_bits"),
            blocks=cast(int, blocks),
            last_block_s=cast("float | None", newest),
        )

    def passports(self, newest: int = 1) -> list[str]:
        """Signed passports (JSON) of the newest blocks, newest first."""
        rows = self._database.read("SELECT passport FROM blocks ORDER BY sequence DESC LIMIT ?", newest)
        return [cast(str, row[0]) for row in rows]

    def _destroy(self, blocks: Iterable[tuple[int, int]]) -> int:
        """Destroy the rest of blocks, given with their free bytes, inside a transaction; returns the bits."""
        bits = 0
        for block_id, free_bytes in blocks:
            self._database.write("UPDATE blocks SET free = '[]', free_bytes = 0, sealed = NULL WHERE id = ?", block_id)
            bits += 8 * free_bytes
        self._database.add_total("destroyed_bits", bits)
        return bits

    def _consume(self, block_id: int, wanted: Sequence[KeyLocation]) -> list[StoredKey]:
        """Cut `wanted` out of one block, inside a transaction."""
        rows = self._database.read("SELECT free, sealed FROM blocks WHERE id = ? AND free_bytes > 0", block_id)
        if not rows:
            raise KeyNotFound("the block of a key_ID is unknown or used up")
        free: Intervals = [(start, end) for start, end in json.loads(cast(str, rows[0][0]))]
        key = bytearray(self._unseal(block_id, cast(str, rows[0][0]), cast(bytes, rows[0][1])))
        keys = []
        for location in wanted:
            start, end = location.offset, location.offset + location.size
            free = _cut(free, start, end, location)
            keys.append(StoredKey(location, bytes(key[start:end])))
            key[start:end] = bytes(location.size)
        free_bytes, rest = sum(end - start for start, end in free), json.dumps(free)
        sealed = self._database.seal(bytes(key), _label(block_id, rest)) if free_bytes else None
        with_key = (rest, free_bytes, sealed, block_id)
        self._database.write("UPDATE blocks SET free = ?, free_bytes = ?, sealed = ? WHERE id = ?", *with_key)
        self._database.add_total("consumed_bits", 8 * sum(location.size for location in wanted))
        return keys

    def _unseal(self, block_id: int, free: str, sealed: bytes) -> bytes:
        try:
            return self._database.unseal(sealed, _label(block_id, free))
        except CorruptError:
            # Blocks stored by version 1 of the schema and not touched since.
            return self._database.unseal(sealed, f"block {block_id}")


def _cut(free: Intervals, start: int, end: int, location: KeyLocation) -> Intervals:
    for index, (first, last) in enumerate(free):
        if first <= start and end <= last:
            rest = [(first, start), (end, last)]
            return free[:index] + [(a, b) for a, b in rest if a < b] + free[index + 1 :]
    raise KeyNotFound(f"{location} is unknown or was used before")


def _label(block_id: int, free: str) -> str:
    """Bind a sealed block to what is left of it: given bytes are zeros inside, and must never pass for key."""
    return f"block {block_id} {free}"
