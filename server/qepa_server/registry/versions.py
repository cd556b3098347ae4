"""What there ever was of each line of models: contents, origin, card, and how far each version has come."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert, select, true, update

from ..audit import chain
from ..store.database import Store
from ..store.schema import model_versions as table

# States. Prepared: signed and stored. Canary: the first board or gateway has it. Withdrawn: never offered again.
PREPARED, CANARY, RELEASED, WITHDRAWN = "prepared", "canary", "released", "withdrawn"
# Origins. Initial: zeros or random weights. Shipped: with the package.
INITIAL, SHIPPED, FEDERATED, PUSHED, ROLLBACK = "initial", "shipped", "federated", "pushed", "rollback"
UNBORNE = "not borne: "  # begins the reason of a version that failed and that nothing could take the place of

Card = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a line. ``digest`` is of the contents whatever their version, ``parent`` what it came from,
    ``began`` the version that was not learned here and that it has learned on from, or is.

    ``blob`` is empty for what gateways ship; ``envelope`` the signed message; ``canary`` the gateway that tries it;
    ``order_digest`` SHA-256 of the signed order that it came by.
    """

    name: str
    version: int
    origin: str
    digest: bytes
    blob: bytes = field(repr=False, default=b"")
    envelope: bytes = field(repr=False, default=b"")
    card: Card = field(repr=False, default_factory=dict)
    state: str = PREPARED
    parent: int = 0
    began: int = 0
    round: int = 0
    rounds_trained: int = 0
    by: str = ""
    reason: str = ""
    canary: str = ""
    drift_windows: int = 0
    order_digest: bytes | None = None
    created_ms: int = 0
    changed_ms: int = 0


class VersionStore:
    """Reads and writes rows; methods that take a connection belong to the caller's transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def newest(self, name: str) -> Version | None:
        """The highest version of a line, whatever its state."""
        return self._first(select(table).where(table.c.name == name).order_by(table.c.version.desc()))

    def find(self, name: str, version: int) -> Version | None:
        """One version."""
        return self._first(select(table).where(table.c.name == name, table.c.version == version))

    def of_order(self, order_digest: bytes) -> Version | None:
        """What an order brought, if it was carried out."""
        return self._first(select(table).where(table.c.order_digest == order_digest))

    def history(self, name: str, limit: int) -> list[Version]:
        """The newest versions, newest first, without contents."""
        columns = [column for column in table.c if column.name not in ("blob", "envelope")]
        query = select(*columns).where(table.c.name == name).order_by(table.c.version.desc()).limit(limit)
        with self.store.read() as connection:
            return [_version(row) for row in connection.execute(query)]

    def before(self, version: Version, *, steady: bool = False) -> Version | None:
        """The last one before ``version`` that held: released, else not withdrawn; None if there is none.

        ``steady``: none that was made while there was drift. Contents that were withdrawn under any version are not
        offered under another.
        """
        withdrawn = select(table.c.digest).where(table.c.name == version.name, table.c.state == WITHDRAWN)
        newest_first = (
            select(table)
            .where(table.c.name == version.name, table.c.version < version.version, table.c.state != WITHDRAWN)
            .where(table.c.digest != version.digest, table.c.digest.not_in(withdrawn))
            .where(table.c.drift_windows == 0 if steady else true())
            .order_by((table.c.state == RELEASED).desc(), table.c.version.desc())
        )
        return self._first(newest_first)

    def add(self, connection: Connection, version: Version) -> None:
        """Store a new version."""
        connection.execute(insert(table).values(**_columns(version)))
        chain.append(
            connection,
            version.created_ms,
            "model.signed" if version.envelope else "model.known",
            name=version.name,
            version=version.version,
            origin=version.origin,
            parent=version.parent,
            round=version.round,
            digest=version.digest.hex(),
            by=version.by,
            reason=version.reason,
        )

    def advance(
        self, connection: Connection, version: Version, state: str, now_ms: int, *, reason: str = "", canary: str = ""
    ) -> None:
        """Move a version to ``state``."""
        connection.execute(
            update(table)
            .where(table.c.name == version.name, table.c.version == version.version)
            .values(state=state, reason=reason or version.reason, canary=canary or version.canary, changed_ms=now_ms)
        )
        chain.append(
            connection, now_ms, f"model.{state}", name=version.name, version=version.version, reason=reason, at=canary
        )

    def withdraw_after(self, connection: Connection, name: str, kept: int, reason: str, now_ms: int) -> None:
        """Withdraw all versions after ``kept``: they came from one another."""
        rows = connection.execute(
            select(table).where(table.c.name == name, table.c.version > kept, table.c.state != WITHDRAWN)
        )
        for row in rows.all():
            self.advance(connection, _version(row), WITHDRAWN, now_ms, reason=reason)

    def note_unborne(self, connection: Connection, version: Version, reason: str, now_ms: int) -> None:
        """Store that a version failed and stays."""
        connection.execute(
            update(table).where(table.c.name == version.name, table.c.version == version.version).values(reason=reason)
        )
        chain.append(connection, now_ms, "model.unborne", name=version.name, version=version.version, reason=reason)

    def note_drift(self, connection: Connection, version: Version, windows: int) -> None:
        """Store how many windows in a row were beyond the limit."""
        connection.execute(
            update(table)
            .where(table.c.name == version.name, table.c.version == version.version)
            .values(drift_windows=windows)
        )

    def _first(self, query: Any) -> Version | None:
        with self.store.read() as connection:
            row = connection.execute(query.limit(1)).first()
        return None if row is None else _version(row)


def _version(row: Row[Any]) -> Version:
    values = dict(row._mapping)
    return Version(**{**values, "card": json.loads(values["card"])})


def _columns(version: Version) -> dict[str, Any]:
    values = {name: getattr(version, name) for name in Version.__dataclass_fields__}
    return {**values, "card": json.dumps(version.card, separators=(",", ":"))}
