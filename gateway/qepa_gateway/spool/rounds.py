"""Rounds in the spool: what was opened and started, stripped vectors, frozen lists, counts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..domain.rounds import Phase, ShareKey
from .database import Spool


@dataclass(frozen=True, slots=True)
class StoredRound:
    """One row of rounds; ``opened`` and ``started`` are the messages' JSON, ``ready`` is the signed envelope."""

    round: int
    opened: bytes
    nonce: bytes
    patients: dict[int, str]
    ready: bytes
    started: bytes | None
    readies: dict[str, tuple[bytes, int]]
    started_ms: int
    closed: bool


@dataclass(frozen=True, slots=True)
class StoredShare:
    """One row of shares; ``count`` is the signed Count to the peers."""

    key: ShareKey
    phase: Phase
    contributors: tuple[int, ...]
    count: bytes | None
    reason: str


@dataclass(frozen=True, slots=True)
class StoredCount:
    """A peer's Count."""

    key: ShareKey
    gateway: str
    patients: int
    boards: int
    digest: bytes


class RoundStore:
    """Writes inside the caller's transaction."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def highest(self) -> int:
        """The highest round ever opened."""
        return int(self._spool.get("highest_round") or 0)

    def open(self, round_: int, opened: bytes, nonce: bytes, patients: Mapping[int, str], ready: bytes) -> None:
        """Store a round with the Ready that will be sent for it."""
        self._spool.execute(
            "INSERT INTO rounds (round, opened, nonce, patients, ready) VALUES (?, ?, ?, ?, ?)",
            (round_, opened, nonce, json.dumps({str(board): name for board, name in patients.items()}), ready),
        )
        self._spool.set("highest_round", round_)

    def start(self, round_: int, started: bytes, readies: Mapping[str, tuple[bytes, int]], now_ms: int) -> None:
        """Store what fixed the cells."""
        text = json.dumps({name: [nonce.hex(), patients] for name, (nonce, patients) in readies.items()})
        self._spool.execute(
            "UPDATE rounds SET started=?, readies=?, started_ms=? WHERE round=?", (started, text, now_ms, round_)
        )

    def started(self, round_: int) -> bytes | None:
        """What :meth:`start` stored for a round that is kept."""
        row = self._spool.row("SELECT started FROM rounds WHERE round=?", (round_,))
        return None if row is None else row[0]

    def load(self) -> list[StoredRound]:
        """Rounds that are kept, in rising order."""
        rows = self._spool.rows(
            "SELECT round, opened, nonce, patients, ready, started, readies, started_ms, closed FROM rounds"
            " ORDER BY round"
        )
        return [
            StoredRound(
                round_,
                opened,
                nonce,
                {int(board): patient for board, patient in json.loads(patients).items()},
                ready,
                started,
                {name: (bytes.fromhex(value), count) for name, (value, count) in json.loads(readies or "{}").items()},
                started_ms or 0,
                bool(closed),
            )
            for round_, opened, nonce, patients, ready, started, readies, started_ms, closed in rows
        ]

    def close(self, round_: int, *, keep: int) -> None:
        """Nothing more comes of a round: delete its vectors, and all of it once ``keep`` later ones are there."""
        self._spool.execute("UPDATE rounds SET closed=1 WHERE round=?", (round_,))
        self._spool.execute("DELETE FROM vectors WHERE round=?", (round_,))
        row = self._spool.row("SELECT round FROM rounds ORDER BY round DESC LIMIT 1 OFFSET ?", (keep,))
        if row is not None:
            for table in ("rounds", "vectors", "shares", "counts"):
                self._spool.execute(f"DELETE FROM {table} WHERE round<=?", row)  # noqa: S608 (names of tables)

    def add_vector(self, round_: int, board: int, stream: int, sealed: bytes, now_ms: int) -> None:
        """Store a stripped vector; a second one for (round, board, stream) is a SpoolError, never a replacement."""
        self._spool.execute("INSERT INTO vectors VALUES (?, ?, ?, ?, ?)", (round_, board, stream, sealed, now_ms))

    def arrived(self, round_: int) -> list[tuple[int, int]]:
        """(board, stream) of all vectors of a round."""
        return [(b, s) for b, s in self._spool.rows("SELECT board, stream FROM vectors WHERE round=?", (round_,))]

    def vectors(self, round_: int, stream: int) -> dict[int, tuple[bytes, int]]:
        """Stripped vector and time of arrival by board."""
        rows = self._spool.rows(
            "SELECT board, sealed, received_ms FROM vectors WHERE round=? AND stream=?", (round_, stream)
        )
        return {board: (sealed, received_ms) for board, sealed, received_ms in rows}

    def freeze(self, round_: int, key: ShareKey, contributors: tuple[int, ...]) -> None:
        """Store a contributor list; a second one is a SpoolError."""
        self._spool.execute(
            "INSERT INTO shares (round, cell, stream, phase, contributors) VALUES (?, ?, ?, ?, ?)",
            (round_, *key, Phase.FROZEN, json.dumps(contributors)),
        )

    def set_count(self, round_: int, key: ShareKey, count: bytes) -> None:
        """Store the signed Count that will be sent."""
        self._spool.execute(
            "UPDATE shares SET phase=?, count=? WHERE round=? AND cell=? AND stream=?",
            (Phase.COUNTED, count, round_, *key),
        )

    def conclude(self, round_: int, key: ShareKey, phase: Phase, reason: str = "") -> None:
        """Store SUBMITTED or VOID."""
        self._spool.execute(
            "UPDATE shares SET phase=?, reason=? WHERE round=? AND cell=? AND stream=?", (phase, reason, round_, *key)
        )

    def shares(self, round_: int) -> list[StoredShare]:
        """Frozen shares of a round."""
        rows = self._spool.rows(
            "SELECT cell, stream, phase, contributors, count, reason FROM shares WHERE round=?", (round_,)
        )
        return [
            StoredShare((cell, stream), Phase(phase), tuple(json.loads(contributors)), count, reason)
            for cell, stream, phase, contributors, count, reason in rows
        ]

    def add_count(self, round_: int, count: StoredCount) -> None:
        """Store a peer's Count."""
        self._spool.execute(
            "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (round_, *count.key, count.gateway, count.patients, count.boards, count.digest),
        )

    def count(self, round_: int, key: ShareKey, gateway: str) -> StoredCount | None:
        """A peer's Count if it is there."""
        row = self._spool.row(
            "SELECT patients, boards, digest FROM counts WHERE round=? AND cell=? AND stream=? AND gateway=?",
            (round_, *key, gateway),
        )
        return None if row is None else StoredCount(key, gateway, *row)

    def counts(self, round_: int) -> list[StoredCount]:
        """All peers' Counts of a round."""
        rows = self._spool.rows(
            "SELECT cell, stream, gateway, patients, boards, digest FROM counts WHERE round=?", (round_,)
        )
        return [StoredCount((cell, stream), *rest) for cell, stream, *rest in rows]
