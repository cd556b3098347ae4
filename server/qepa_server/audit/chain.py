"""Append-only hash chain: each entry's hash covers the one before, so nothing can be changed or dropped inside."""

import hashlib
import json
import os

from sqlalchemy import Connection, func, insert, select

from qepa_uplink.audit import GENESIS, Head, chained

from ..errors import AuditError
from ..store.schema import audit

__all__ = ["GENESIS", "Head", "append", "at", "entry_hash", "head", "link_of", "links", "size", "verify"]

_SALT = "_salt"  # sorts before the names of details: a salted entry begins with it
_SALTED = f'{{"{_SALT}":"'
_SALT_BYTES = 16


def entry_hash(previous: bytes, seq: int, at_ms: int, event: str, detail: str) -> bytes:
    """Return the hash of an entry after one with hash ``previous``; ``detail`` is JSON text.

    Entries without salt, from before gateways followed the log, are hashed as they were then.
    """
    if detail.startswith(_SALTED):
        return chained(previous, link_of(seq, at_ms, event, detail))
    return hashlib.sha256(b"qepa/1/audit" + previous + _record(seq, at_ms, event, detail)).digest()


def link_of(seq: int, at_ms: int, event: str, detail: str) -> bytes:
    """Return what stands for an entry where its record is not to be seen: gateways get no more (qepa_uplink.audit)."""
    return hashlib.sha256(_record(seq, at_ms, event, detail)).digest()


def _record(seq: int, at_ms: int, event: str, detail: str) -> bytes:
    return json.dumps([seq, at_ms, event, detail], separators=(",", ":")).encode()


def head(connection: Connection) -> Head:
    """Return the newest entry, or (0, zeros) of an empty log."""
    row = connection.execute(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).first()
    return Head(0, GENESIS) if row is None else Head(row.seq, row.hash)


def append(connection: Connection, at_ms: int, event: str, **detail: str | int | bool | None) -> None:
    """Add an entry in the transaction of what it records. No secrets in ``detail``."""
    last = head(connection)
    # Few records are possible at a time, so without a salt who sees a link could guess what it stands for.
    salted = {_SALT: os.urandom(_SALT_BYTES).hex(), **detail}
    text = json.dumps(salted, sort_keys=True, separators=(",", ":"))
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


def links(connection: Connection, after: int, until: int) -> tuple[bytes, ...] | None:
    """Return the links of the entries ``after`` + 1 to ``until``; None if one of them is without salt."""
    chosen = select(audit).where(audit.c.seq > after, audit.c.seq <= until).order_by(audit.c.seq)
    rows = connection.execute(chosen).all()
    if not all(row.detail.startswith(_SALTED) for row in rows):
        return None
    return tuple(link_of(row.seq, row.at_ms, row.event, row.detail) for row in rows)


def at(connection: Connection, seq: int) -> Head | None:
    """Return the head as it was when entry ``seq`` was the newest; None if there is no such entry."""
    digest = connection.execute(select(audit.c.hash).where(audit.c.seq == seq)).scalar()
    return None if digest is None else Head(seq, digest)


def size(connection: Connection) -> int:
    """Number of entries."""
    return connection.execute(select(func.count()).select_from(audit)).scalar_one()
