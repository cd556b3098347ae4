"""The durable record of rounds: every step is written here before anything of it leaves the server."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, func, insert, select, update

from ..store.database import Store
from ..store.schema import is_key, partials, readies, rounds, sums
from ..unmask.opening import OpenedSum

READY, COLLECT, DONE, VOID = "ready", "collect", "done", "void"
SUMMED = "summed"


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A row of the rounds table; ``state`` is ready, collect, done or void."""

    number: int
    state: str
    reason: str
    server_nonce: bytes
    open_envelope: bytes
    start_envelope: bytes | None
    expected: tuple[str, ...]
    opened_ms: int
    started_ms: int | None
    settled_ms: int | None
    latency_ms: int | None
    model_version: int | None


@dataclass(frozen=True, slots=True)
class SumRecord:
    """The verdict on one (cell, stream): ``total`` if it is ``summed``, a reason if it is ``void``."""

    cell: int
    stream: int
    state: str
    reason: str
    gateways: tuple[str, ...]
    boards: tuple[int, ...]
    patients: int
    total: tuple[int, ...] | None
    last_frame_ms: int | None


def _round(row: Row[tuple[object, ...]]) -> RoundRecord:
    values = dict(row._mapping)
    values["expected"] = tuple(json.loads(values["expected"]))
    return RoundRecord(**values)


class RoundLedger:
    """Reads and writes rounds; methods that take a connection belong to the caller's transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def last(self) -> RoundRecord | None:
        """The newest round."""
        with self.store.read() as connection:
            row = connection.execute(select(rounds).order_by(rounds.c.number.desc()).limit(1)).first()
        return None if row is None else _round(row)

    def newest(self, limit: int) -> list[RoundRecord]:
        """The newest rounds, newest first."""
        with self.store.read() as connection:
            return [
                _round(row) for row in connection.execute(select(rounds).order_by(rounds.c.number.desc()).limit(limit))
            ]

    def find(self, number: int) -> RoundRecord | None:
        """One round; None for a number that none has."""
        if not is_key(number):
            return None
        with self.store.read() as connection:
            row = connection.execute(select(rounds).where(rounds.c.number == number)).first()
        return None if row is None else _round(row)

    def next_number(self) -> int:
        """One above the highest number ever opened."""
        with self.store.read() as connection:
            return 1 + (connection.execute(select(func.max(rounds.c.number))).scalar() or 0)

    def open_round(
        self, connection: Connection, number: int, nonce: bytes, envelope: bytes, expected: Iterable[str], now_ms: int
    ) -> None:
        """Record a round before its RoundOpen leaves; the number is spent with this."""
        connection.execute(
            insert(rounds).values(
                number=number,
                state=READY,
                reason="",
                server_nonce=nonce,
                open_envelope=envelope,
                expected=json.dumps(sorted(expected)),
                opened_ms=now_ms,
            )
        )

    def add_ready(self, connection: Connection, number: int, gateway: str, envelope: bytes) -> None:
        """Record a gateway's Ready."""
        connection.execute(insert(readies).values(round=number, gateway=gateway, envelope=envelope))

    def readies(self, number: int) -> dict[str, bytes]:
        """Signed Readies of a round by gateway."""
        with self.store.read() as connection:
            query = select(readies).where(readies.c.round == number).order_by(readies.c.gateway)
            return {row.gateway: row.envelope for row in connection.execute(query)}

    def start(self, connection: Connection, number: int, envelope: bytes, now_ms: int) -> None:
        """Record the RoundStart before it leaves."""
        connection.execute(
            update(rounds)
            .where(rounds.c.number == number)
            .values(state=COLLECT, start_envelope=envelope, started_ms=now_ms)
        )

    def add_partial(
        self, connection: Connection, number: int, cell: int, stream: int, gateway: str, envelope: bytes
    ) -> None:
        """Record a Partial: one for each (round, cell, stream, gateway), ever."""
        connection.execute(
            insert(partials).values(round=number, cell=cell, stream=stream, gateway=gateway, envelope=envelope)
        )

    def partial(self, number: int, cell: int, stream: int, gateway: str) -> bytes | None:
        """The stored Partial of that place, as it was signed."""
        with self.store.read() as connection:
            query = select(partials.c.envelope).where(
                partials.c.round == number,
                partials.c.cell == cell,
                partials.c.stream == stream,
                partials.c.gateway == gateway,
            )
            return connection.execute(query).scalar()

    def partials(self, number: int) -> list[bytes]:
        """All stored Partials of a round."""
        with self.store.read() as connection:
            query = select(partials.c.envelope).where(partials.c.round == number)
            return list(connection.execute(query).scalars())

    def add_sum(
        self,
        connection: Connection,
        number: int,
        cell: int,
        stream: int,
        gateways: Sequence[str],
        opened: OpenedSum,
        last_frame_ms: int,
    ) -> None:
        """Record an opened sum: the one of its (round, cell, stream), ever."""
        connection.execute(
            insert(sums).values(
                round=number,
                cell=cell,
                stream=stream,
                state=SUMMED,
                reason="",
                gateways=json.dumps(list(gateways)),
                boards=json.dumps(opened.boards),
                patients=len(opened.patients),
                total=json.dumps(opened.total),
                last_frame_ms=last_frame_ms,
            )
        )

    def add_void(
        self, connection: Connection, number: int, cell: int, stream: int, gateways: Sequence[str], reason: str
    ) -> None:
        """Record that a (round, cell, stream) gives no sum, ever."""
        connection.execute(
            insert(sums).values(
                round=number,
                cell=cell,
                stream=stream,
                state=VOID,
                reason=reason,
                gateways=json.dumps(list(gateways)),
                boards="[]",
                patients=0,
            )
        )

    def sums(self, number: int) -> list[SumRecord]:
        """Verdicts of a round so far, by cell and stream."""
        with self.store.read() as connection:
            query = select(sums).where(sums.c.round == number).order_by(sums.c.cell, sums.c.stream)
            return [
                SumRecord(
                    row.cell,
                    row.stream,
                    row.state,
                    row.reason,
                    tuple(json.loads(row.gateways)),
                    tuple(json.loads(row.boards)),
                    row.patients,
                    None if row.total is None else tuple(json.loads(row.total)),
                    row.last_frame_ms,
                )
                for row in connection.execute(query)
            ]

    def settle(
        self,
        connection: Connection,
        number: int,
        state: str,
        reason: str,
        now_ms: int,
        *,
        latency_ms: int | None = None,
        model_version: int | None = None,
    ) -> None:
        """Record the end of a round."""
        connection.execute(
            update(rounds)
            .where(rounds.c.number == number)
            .values(state=state, reason=reason, settled_ms=now_ms, latency_ms=latency_ms, model_version=model_version)
        )


def verdicts_by_cell(sums: Sequence[SumRecord]) -> dict[int, list[SumRecord]]:
    """Group the verdicts of a round by cell."""
    cells: dict[int, list[SumRecord]] = {}
    for record in sums:
        cells.setdefault(record.cell, []).append(record)
    return cells
