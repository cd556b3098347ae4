"""Who has no part in sums: durable, with the evidence in the audit log, ended by a person.

A quarantine concerns the aggregate stream alone. Care, alarms and emergencies of the same boards go on as before
(policy.py), because somebody's heart must not go unwatched for what a board sent to a sum.
"""

import json
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select, update

from ..audit import chain
from ..enrolment.register import Board
from ..errors import RefusedError
from ..store.database import Store
from ..store.schema import quarantines

PATIENT, GATEWAY = "patient", "gateway"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A patient or gateway (``kind``) that is quarantined since ``round``."""

    kind: str
    name: str
    since_ms: int
    round: int
    evidence: dict[str, str | int | float]


class Quarantine:
    """The present quarantines, in memory and in the database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.last_release_ms = -1
        with store.read() as connection:
            released = connection.execute(select(func.max(quarantines.c.released_ms))).scalar()
            query = select(quarantines).where(quarantines.c.released_ms.is_(None)).order_by(quarantines.c.id)
            self._held = {
                (row.kind, row.name): Quarantined(row.kind, row.name, row.since_ms, row.round, json.loads(row.evidence))
                for row in connection.execute(query)
            }
        if released is not None:
            self.last_release_ms = int(released)

    @property
    def present(self) -> tuple[Quarantined, ...]:
        """All that hold now, oldest first."""
        return tuple(self._held.values())

    def holds(self, kind: str, name: str) -> bool:
        """Tell whether that patient or gateway is quarantined."""
        return (kind, name) in self._held

    def concerns(self, board: Board) -> bool:
        """Tell whether the board's patient or gateway is quarantined."""
        return self.holds(PATIENT, board.patient) or self.holds(GATEWAY, board.gateway)

    def impose(self, connection: Connection, found: Quarantined) -> None:
        """Record a quarantine and its evidence in the caller's transaction; :meth:`adopt` it when that is durable."""
        connection.execute(
            insert(quarantines).values(
                kind=found.kind,
                name=found.name,
                since_ms=found.since_ms,
                round=found.round,
                evidence=json.dumps(found.evidence, sort_keys=True),
            )
        )
        evidence = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in found.evidence.items()}
        detail = {"kind": found.kind, "name": found.name, "round": found.round, **evidence}
        chain.append(connection, found.since_ms, "quarantine.imposed", **detail)

    def adopt(self, found: Quarantined) -> None:
        """Take in what the database now holds."""
        self._held[(found.kind, found.name)] = found

    def end(self, connection: Connection, kind: str, name: str, now_ms: int, *, by: str, reason: str) -> None:
        """Record in the caller's transaction that a person ended it; :meth:`drop` it when that is durable.

        Raises RefusedError("quarantine") for none.
        """
        if not self.holds(kind, name):
            raise RefusedError("quarantine", f"the {kind} {name} is not quarantined")
        held = (quarantines.c.kind == kind) & (quarantines.c.name == name) & quarantines.c.released_ms.is_(None)
        connection.execute(update(quarantines).where(held).values(released_ms=now_ms, released_by=by))
        chain.append(connection, now_ms, "quarantine.released", kind=kind, name=name, by=by, reason=reason)

    def drop(self, kind: str, name: str, now_ms: int) -> None:
        """Take in that the database holds it no more."""
        del self._held[(kind, name)]
        self.last_release_ms = now_ms
