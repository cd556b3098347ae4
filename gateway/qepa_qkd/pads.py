"""Durable ledger of authentication key: pads in segments, each pad used at most once in each direction.

Segment 0 is the initial secret, every other one the head of a block and named like it. Tags name their pad, so a
crash wastes pads but never shifts them, and the positions both ends exchange on connecting bring back an end whose
store was lost.

The initial secret is used until `RETIRE_AT` pads from blocks are in stock for each direction. Then what is left of it
is erased, durably and before any other pad is used, and no tag is made or taken with it again: who learns it later,
by breaking the exchange it came from or from the stick it came on, learns no hash key and no mask of a later tag.
Alice decides when; Bob follows once he has checked a tag of hers under quantum key, or hears it when they connect.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final, cast

from qepa_qkd.authentication import PAD_BYTES, InitialSecret, Pad
from qepa_qkd.errors import NoKey, SecurityError
from qepa_qkd.messages import PadPosition
from qepa_qkd.store_database import StoreDatabase

INITIAL_SEGMENT: Final = 0
RETIRE_AT: Final = 16
_RENEWED_SINCE: Final = "authentication_renewed_since"


class PadStore:
    """Pads of one end. `is_alice` says which half of a segment is for sending."""

    def __init__(self, database: StoreDatabase, *, is_alice: bool) -> None:
        self._database = database
        self._is_alice = is_alice

    def import_initial(self, secret: InitialSecret) -> None:
        """Take the initial secret in, once; later calls check that it is still the same. Raises SecurityError."""
        known = self._database.sealed_value("channel key")
        if known is None:
            with self._database.transaction() as connection:
                self._database.put_sealed_value("channel key", secret.channel_key)
                self._insert(connection, INITIAL_SEGMENT, secret.pads_to_bob, secret.pads_to_alice, live=True)
        elif known != secret.channel_key:
            raise SecurityError("The initial secret is not the one this key store began with.")

    def add_segment(self, segment: int, material: bytes, *, live: bool) -> None:
        """Add the head of a block; its first half authenticates towards Bob, its second towards Alice."""
        half = len(material) // 2
        with self._database.transaction() as connection:
            self._insert(connection, segment, material[:half], material[half:], live=live)
            self._database.add_total("authentication_gained_bits", 8 * len(material))

    def settle(self, segment: int, *, live: bool) -> None:
        """Like `KeyStore.settle`, for the pads of the same block."""
        with self._database.transaction() as connection:
            if live:
                connection.execute("UPDATE segments SET live = 1 WHERE id = ?", (segment,))
            else:
                query = "SELECT pads FROM segments WHERE id = ? AND live = 0"
                for (pads,) in connection.execute(query, (segment,)).fetchall():
                    self._database.add_total("authentication_gained_bits", -2 * 8 * PAD_BYTES * pads)
                connection.execute("DELETE FROM segments WHERE id = ? AND live = 0", (segment,))
                if self.renewed_since() == segment:
                    self._database.add_total(_RENEWED_SINCE, -segment)

    def note_renewed(self, block_id: int) -> None:
        """Both tags of a block that is being stored were made with quantum key; the first one counts."""
        if self.renewed_since() is None:
            self._database.add_total(_RENEWED_SINCE, block_id)

    def renewed_since(self) -> int | None:
        """The first block that rests on nothing of the initial secret; None while there is none."""
        return self._database.total(_RENEWED_SINCE) or None

    def pads_left(self) -> tuple[int, int]:
        """Tags that can still be made and tags that can still be checked."""
        return self._left()

    def spent_and_gained_bits(self) -> tuple[int, int]:
        """The ledger: authentication key spent, and gained from blocks, since the store was made."""
        database = self._database
        return database.total("authentication_spent_bits"), database.total("authentication_gained_bits")

    def spend_own_pad(self) -> Pad:
        """Durably reserve the next pad for a tag to send. Raises NoKey when none is left."""
        with self._database.transaction() as connection:
            if self._is_alice and min(self._left(without=INITIAL_SEGMENT)) >= RETIRE_AT:
                self.retire_initial()
            rows = connection.execute(
                "SELECT id, send_next, sealed_send FROM segments "
                "WHERE live AND send_next < pads ORDER BY sequence LIMIT 1"
            ).fetchall()
            if not rows:
                raise NoKey("too little authentication key")
            segment, position, sealed = rows[0]
            connection.execute("UPDATE segments SET send_next = send_next + 1 WHERE id = ?", (segment,))
            self._forget_spent(connection)
            self._database.add_total("authentication_spent_bits", 8 * PAD_BYTES)
        return Pad(segment, position, self._pad(sealed, f"send {segment}", position))

    def spend_peer_pad(self, segment: int, position: int) -> Pad:
        """Durably mark the pad of a received tag as used. Raises SecurityError when it was used or skipped before."""
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT receive_next, pads, sealed_receive FROM segments WHERE id = ?", (segment,)
            ).fetchall()
            if not rows or not rows[0][0] <= position < rows[0][1]:
                raise SecurityError("a tag names authentication key that is unknown or was used before")
            connection.execute("UPDATE segments SET receive_next = ? WHERE id = ?", (position + 1, segment))
            self._forget_spent(connection)
            self._database.add_total("authentication_spent_bits", 8 * PAD_BYTES)
        return Pad(segment, position, self._pad(rows[0][2], f"receive {segment}", position))

    def retire_initial(self) -> None:
        """Durably skip and erase what is left of the initial secret's pads."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE segments SET send_next = pads, receive_next = pads, sealed_send = NULL, sealed_receive = NULL "
                "WHERE id = ? AND sealed_send IS NOT NULL",
                (INITIAL_SEGMENT,),
            )

    def positions(self) -> tuple[PadPosition, ...]:
        """How far each segment is spent, for the peer."""
        rows = self._database.read("SELECT id, send_next, receive_next FROM segments ORDER BY sequence")
        return tuple(PadPosition(*cast("tuple[int, int, int]", row)) for row in rows)

    def advance(self, peer: Iterable[PadPosition]) -> None:
        """Skip what the peer knows to be used: an end restored from an old copy must not use a pad again.

        A segment that the peer does not list is used up at its end, or was lost with its store.
        """
        listed = {position.segment: position for position in peer}
        with self._database.transaction() as connection:
            for (segment,) in connection.execute("SELECT id FROM segments WHERE live").fetchall():
                if segment not in listed and segment != INITIAL_SEGMENT:
                    connection.execute("DELETE FROM segments WHERE id = ?", (segment,))
            for position in listed.values():
                connection.execute(
                    "UPDATE segments SET send_next = min(pads, max(send_next, ?)), "
                    "receive_next = min(pads, max(receive_next, ?)) WHERE id = ?",
                    (position.receive, position.send, position.segment),
                )
            self._forget_spent(connection)

    def _left(self, *, without: int = -1) -> tuple[int, int]:
        query = (
            "SELECT coalesce(sum(pads - send_next), 0), coalesce(sum(pads - receive_next), 0) FROM segments "
            "WHERE live AND id != ?"
        )
        send, receive = self._database.read(query, without)[0]
        return cast(int, send), cast(int, receive)

    def _forget_spent(self, connection: sqlite3.Connection) -> None:
        """Drop what is used up both ways; the initial secret's row stays, so that its pads are never taken in again."""
        spent = "live AND send_next >= pads AND receive_next >= pads"
        connection.execute(f"DELETE FROM segments WHERE {spent} AND id != ?", (INITIAL_SEGMENT,))  # noqa: S608
        connection.execute(
            f"UPDATE segments SET sealed_send = NULL, sealed_receive = NULL WHERE {spent} AND sealed_send IS NOT NULL"  # noqa: S608
        )

    def _insert(
        self, connection: sqlite3.Connection, segment: int, to_bob: bytes, to_alice: bytes, *, live: bool
    ) -> None:
        send, receive = (to_bob, to_alice) if self._is_alice else (to_alice, to_bob)
        connection.execute(
            "INSERT INTO segments (id, live, pads, send_next, receive_next, sealed_send, sealed_receive) "
            "VALUES (?, ?, ?, 0, 0, ?, ?)",
            (
                segment,
                live,
                len(send) // PAD_BYTES,
                self._database.seal(send, f"send {segment}"),
                self._database.seal(receive, f"receive {segment}"),
            ),
        )

    def _pad(self, sealed: bytes, label: str, position: int) -> bytes:
        material = self._database.unseal(sealed, label)
        return material[position * PAD_BYTES : (position + 1) * PAD_BYTES]
