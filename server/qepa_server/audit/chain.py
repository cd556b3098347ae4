"""Append-only hash chain: each entry's hash covers the one before, so nothing can be changed or dropped inside."""

import hashlib
import json
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from ..errors import AuditError
from ..store.schema import audit

GENESIS = bytes(32)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry: what to write down elsewhere to notice a cut-off tail."""

    seq: int
    hash: bytes


def entry_hash(previous: bytes, seq: int, at_ms: int, event: str, detail: str) -> bytes:
    """Return the hash of an entry after one with hash ``previous``; ``detail`` is JSON text."""
    record = json.dumps([seq, at_ms, event, detail], separators=(",", ":")).encode()
    return hashlib.sha256(b"qepa/1/audit" + previous + record).digest()


def head(connection: Connection) -> Head:
    """Return the newest entry, or (0, zeros) of an empty log."""
    row = connection.execute(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    return Head(0, GENESIS) if row is None else Head(row.seq, row.hash)


def append(connection: Connection, at_ms: int, event: str, **detail: str | int | bool | None) -> None:
    """Add an entry in the transaction of what it records. No secrets in ``detail``."""
    last = head(connection)
    text = json.dumps(detail, sort_keys=True, separators=(",", ":"))
    digest = entry_hash(last.hash, last.seq + 1, at_ms, event, text)
    connection.execute(insert(audit).values(seq=last.seq + 1, at_ms=at_ms, event=event, detail=text, hash=digest))


def verify(connection: Connection, expected: Head | None = None) -> int:
    """Return the number of entries if the chain holds; raise AuditError with the first that does not.

    With ``expected``, an earlier head kept elsewhere, a log that was cut or rewritten since is found too.
    """
    previous, count = GENESIS, 0
    for row in connection.execute(select(audit).order_by(audit.c.seq)):
        count += 1
        if row.seq != count:
            raise AuditError("audit", f"entry {count} is missing")
        if row.hash != entry_hash(previous, row.seq, row.at_ms, row.event, row.detail):
            raise AuditError("audit", f"entry {count} was altered")
        if expected is not None and count == expected.seq and row.hash != expected.hash:
            raise AuditError("audit", f"entry {count} is not the one that was noted")
        previous = row.hash
    if expected is not None and expected.seq > count:
        raise AuditError("audit", f"the log ends at {count}, before the noted entry {expected.seq}")
    return count


def size(connection: Connection) -> int:
    """Number of entries."""
    return connection.execute(select(func.count()).select_from(audit)).scalar_one()
