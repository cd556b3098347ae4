"""One SQLite connection: schema steps, transactions, one error."""

import logging
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigError, CorruptError, SpoolError
from .migrations import MIGRATIONS
from .vault import Vault, load_kek

_LOG = logging.getLogger(__name__)
_CHECK = b"qepa gateway spool"
# Exclusive, because counters are reserved in memory: a second process on the same spool would use numbers twice.
_PRAGMAS = (
    "busy_timeout=2000",
    "locking_mode=EXCLUSIVE",
    "journal_mode=WAL",
    "synchronous=FULL",
    "secure_delete=ON",
)


class Spool:
    """The gateway's database in ``state_dir``. Every failure of SQLite is a SpoolError.

    Nothing may leave the gateway before the transaction that it was made in has been committed: callers queue what
    they send and publish it afterwards.
    """

    def __init__(self, connection: sqlite3.Connection, vault: Vault, directory: Path) -> None:
        self._connection = connection
        self._directory = directory
        self._depth = 0
        self._failure: SpoolError | None = None  # of a transaction
        self.vault = vault

    @classmethod
    def open(cls, state_dir: Path) -> "Spool":
        """Open or create the spool. Raises ConfigError or SpoolError with one sentence."""
        path = state_dir / "spool.db"
        try:
            state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"cannot make the state directory {state_dir}: {error.strerror}") from error
        kek = load_kek(state_dir / "kek", create=not path.exists())
        try:
            connection = sqlite3.connect(path, isolation_level=None)
        except sqlite3.Error as error:
            raise SpoolError(f"cannot open the spool {path}: {error}") from error
        spool = cls(connection, Vault(kek), state_dir)
        try:
            path.chmod(0o600)
            for pragma in _PRAGMAS:
                spool.execute(f"PRAGMA {pragma}")
            spool.migrate()
            spool._check_key()
        except SpoolError as error:
            connection.close()
            taken = isinstance(error.__cause__, sqlite3.OperationalError) and "locked" in str(error)
            why = "another program has it, a second gateway perhaps" if taken else error
            raise type(error)(f"the spool {path} cannot be used: {why}") from error
        return spool

    def migrate(self, migrations: tuple[str, ...] = MIGRATIONS) -> None:
        """Bring the schema up to date, each step in a transaction of its own with its number."""
        (version,) = self.row("PRAGMA user_version") or (0,)
        if version > len(migrations):
            raise CorruptError(f"it has schema {version}, this program knows {len(migrations)}")
        for number, script in enumerate(migrations[version:], start=version + 1):
            with self._begun():
                for statement in script.split(";"):
                    if statement.strip():
                        self.execute(statement)
                self.execute(f"PRAGMA user_version={number}")
            if version:
                _LOG.info("spool schema=%d", number)

    def _check_key(self) -> None:
        row = self.row("SELECT value FROM meta WHERE name='check'")
        if row is None:
            self.set("check", self.vault.seal(_CHECK, "meta/check"))
        elif self.vault.open(row[0], "meta/check") != _CHECK:
            raise CorruptError("its check value is wrong")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable on return; inside another one it joins that.

        After one that failed no other begins: what is in memory may be ahead of the disk, whoever caught the error.
        """
        if self._depth:
            yield
            return
        if self._failure is not None:
            raise SpoolError(f"it failed before: {self._failure}")
        try:
            with self._begun():
                yield
        except SpoolError as error:
            self._failure = error
            raise

    @contextmanager
    def _begun(self) -> Iterator[None]:
        self.execute("BEGIN IMMEDIATE")
        self._depth = 1
        try:
            yield
        except BaseException:
            self._depth = 0
            if self._connection.in_transaction:
                self._connection.rollback()
            raise
        self._depth = 0
        self.execute("COMMIT")

    def execute(self, sql: str, arguments: Iterable[Any] = ()) -> int:
        """Run one statement; return how many rows it changed."""
        try:
            return self._connection.execute(sql, tuple(arguments)).rowcount
        except (sqlite3.Error, OverflowError) as error:
            raise SpoolError(f"{type(error).__name__}: {error}") from error

    def rows(self, sql: str, arguments: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        try:
            return self._connection.execute(sql, tuple(arguments)).fetchall()
        except sqlite3.Error as error:
            raise SpoolError(f"{type(error).__name__}: {error}") from error

    def row(self, sql: str, arguments: Iterable[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query, or None."""
        rows = self.rows(sql, arguments)
        return rows[0] if rows else None

    def get(self, name: str) -> Any:
        """Return the value of ``name`` in meta, or None."""
        row = self.row("SELECT value FROM meta WHERE name=?", (name,))
        return row[0] if row else None

    def set(self, name: str, value: bytes | int) -> None:
        """Set ``name`` in meta."""
        self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def free_bytes(self) -> int:
        """Free space on the disk it is on."""
        try:
            return shutil.disk_usage(self._directory).free
        except OSError as error:
            raise SpoolError(f"{self._directory}: {error.strerror}") from error

    def write_file(self, name: str, text: str) -> None:
        """Write a file beside the spool, for others to read: whole or not at all."""
        try:
            path = self._directory / f"{name}.new"
            path.write_text(text)
            path.replace(self._directory / name)
        except OSError as error:
            raise SpoolError(f"{self._directory / name}: {error.strerror}") from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
