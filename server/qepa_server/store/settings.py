"""The settings table: single values of the server by name, in the caller's transaction."""

from sqlalchemy import Connection, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from .schema import settings


def read(connection: Connection, key: str) -> bytes | None:
    """The value of ``key``; None where it has none yet."""
    value: bytes | None = connection.execute(select(settings.c.value).where(settings.c.key == key)).scalar()
    return value


def under(connection: Connection, prefix: str) -> dict[str, bytes]:
    """All values of keys that begin with ``prefix``, by what follows it."""
    chosen = select(settings).where(settings.c.key.startswith(prefix, autoescape=True))
    return {row.key.removeprefix(prefix): row.value for row in connection.execute(chosen)}


def add(connection: Connection, key: str, value: bytes) -> None:
    """Store what is made once, and never overwritten: a second time is an IntegrityError."""
    connection.execute(insert(settings).values(key=key, value=value))


def put(connection: Connection, key: str, value: bytes) -> None:
    """Store ``value`` in place of what was there."""
    row = upsert(settings).values(key=key, value=value)
    connection.execute(row.on_conflict_do_update(index_elements=["key"], set_={"value": row.excluded.value}))
