"""The database: SQLite in WAL mode with synchronous=FULL, brought to the newest schema by Alembic."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from ..errors import StoreError

_MIGRATIONS = Path(__file__).parent / "migrations"


class Store:
    """One open database. Only one process may hold a folder: two would sign and count twice.

    ``before_commit(connection)`` is called at the end of each transaction, inside it. One thread uses a store.
    """

    def __init__(self, engine: Engine, lock: int) -> None:
        self._engine = engine
        self._lock = lock
        self._joined: Connection | None = None
        self.before_commit: Callable[[Connection], None] | None = None

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open or create the database in ``folder``; raises StoreError naming the file."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError("store", f"cannot use {folder}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise StoreError("store", f"{folder} is in use by another server") from error
        path = folder / "server.db"
        engine = create_engine(f"sqlite:///{path}")
        use_sqlite(engine)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            migrate(engine)
        except (SQLAlchemyError, CommandError, OSError) as error:
            engine.dispose()
            os.close(lock)
            raise StoreError("store", f"cannot open the database {path}: {type(error).__name__}") from error
        return cls(engine, lock)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction: durable when the block has ended, undone if it raises. In a :meth:`batch`: a part of that."""
        if self._joined is not None:
            with self._joined.begin_nested():
                yield self._joined
            return
        with self._engine.begin() as connection:
            yield connection
            if self.before_commit is not None:
                self.before_commit(connection)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Join the writes of the block into one transaction: durable together when the block has ended, or none.

        Nothing that rests on a write inside may leave before that. A write that raises undoes itself alone.
        """
        with self._engine.begin() as connection:
            self._joined = connection
            try:
                yield
                if self.before_commit is not None:
                    self.before_commit(connection)
            finally:
                self._joined = None

    def read(self) -> AbstractContextManager[Connection]:
        """A connection to read from; inside :meth:`batch` it sees what was written there."""
        return self._engine.connect() if self._joined is None else nullcontext(self._joined)

    def close(self) -> None:
        """Close the database and release the folder."""
        self._engine.dispose()
        os.close(self._lock)


def use_sqlite(engine: Engine) -> None:
    """Durable settings, and transactions that begin where SQLAlchemy says: also around CREATE TABLE."""
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _set_up(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin late, and leave DDL outside of transactions
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to ``revision``."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
