"""The encrypted SQLite file behind key store and pad ledger: opening, schema migrations, sealing of secrets.

WAL with synchronous=FULL: what a committed transaction says survives a power cut. `secure_delete` overwrites what is
deleted. Secrets are sealed with AES-256-GCM under a key-encryption key (KEK) from a file of its own. A counter file
beside the KEK tells a restored copy from the original (`commit_counter`).
"""

import errno
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qepa_qkd.commit_counter import STORE_ID_BYTES, CommitCounter
from qepa_qkd.errors import ConfigError, CorruptError, TransientError

_NONCE_BYTES: Final = 12
_COMMITS: Final = "commits"

MIGRATIONS: Final = (
    """
    CREATE TABLE blocks (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id INTEGER NOT NULL UNIQUE,
        state TEXT NOT NULL CHECK (state IN ('pending', 'live', 'dropped')),
        created_s REAL NOT NULL,
        free TEXT NOT NULL,
        free_bytes INTEGER NOT NULL,
        sealed BLOB,
        passport TEXT NOT NULL
    );
    CREATE INDEX blocks_with_key ON blocks (sequence) WHERE free_bytes > 0;
    CREATE TABLE segments (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        id INTEGER NOT NULL UNIQUE,
        live INTEGER NOT NULL,
        pads INTEGER NOT NULL,
        send_next INTEGER NOT NULL,
        receive_next INTEGER NOT NULL,
        sealed_send BLOB,
        sealed_receive BLOB
    );
    CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    CREATE TABLE identity (name TEXT PRIMARY KEY, sealed BLOB NOT NULL);
    """,
    """
    CREATE TABLE answers (
        client TEXT NOT NULL,
        request_id TEXT,
        fingerprint BLOB NOT NULL,
        sealed BLOB NOT NULL,
        expires_s REAL NOT NULL,
        UNIQUE (client, request_id)
    );
    CREATE TABLE shares (
        key_id TEXT PRIMARY KEY,
        waiting INTEGER NOT NULL,
        sealed BLOB NOT NULL,
        created_s REAL NOT NULL
    );
    CREATE TABLE usage (sae TEXT PRIMARY KEY, hour INTEGER NOT NULL, bits INTEGER NOT NULL);
    """,
    # A pad has 32 bytes where it had 16: two unused ones make one, a used one spends what it became part of.
    """
    UPDATE segments SET pads = pads / 2, send_next = min(pads / 2, (send_next + 1) / 2),
        receive_next = min(pads / 2, (receive_next + 1) / 2);
    """,
)
"""Schema changes in order; `PRAGMA user_version` counts how many a file has seen."""


def read_secret_file(path: Path, what: str) -> bytes:
    """Return the bytes of `path`. Raises ConfigError when it is missing, unreadable or open to others."""
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}.") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{what} {path} is open to other users; set its mode to 0600.")
    return data


def write_secret_file(path: Path, data: bytes) -> None:
    """Create `path` with mode 0600 and `data`, durably. Raises FileExistsError rather than overwrite."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Under another name until it is whole: killed in between, the next start finds none rather than half a secret.
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        unfinished.unlink()
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    unfinished.rename(path)


class StoreDatabase:
    """One open store file. Not for sharing between threads or processes."""

    def __init__(self, path: Path, kek_path: Path) -> None:
        """Open or create the files.

        Raises ConfigError when they cannot be used, CorruptError when they are damaged or do not belong together,
        RestoredError when the store is an old copy.
        """
        if not kek_path.exists():
            if path.exists():
                raise CorruptError(f"Key store {path} exists but its key file {kek_path} is missing.")
            try:
                write_secret_file(kek_path, secrets.token_bytes(32))
            except OSError as error:
                raise ConfigError(f"Key file {kek_path} cannot be created: {error.strerror}.") from None
        kek = read_secret_file(kek_path, "Key file")
        if len(kek) != 32:
            raise CorruptError(f"Key file {kek_path} has {len(kek)} bytes instead of 32.")
        self._aead = AESGCM(kek)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._migrate()
            self._check_kek()
            self._counter = self._open_counter(kek_path.with_name(kek_path.name + ".counter"))
        except OSError as error:
            raise ConfigError(f"Key store {path} cannot be opened: {error.strerror}.") from None
        except sqlite3.DatabaseError as error:
            raise CorruptError(f"Key store {path} cannot be read: {error}.") from None

    def close(self) -> None:
        """Close the files."""
        self._connection.close()
        self._counter.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable and counted once the outermost block is left; exceptions roll back."""
        if self._connection.in_transaction:
            yield self._connection
            return
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self.add_total(_COMMITS, 1)
            commits = self.total(_COMMITS)
            self._connection.execute("COMMIT")
            self._counter.advance(commits)
        except sqlite3.OperationalError as error:  # disk full, locked by another process
            raise TransientError(f"the key store cannot be written: {error}") from error
        except sqlite3.DatabaseError as error:
            raise CorruptError(f"the key store is damaged: {error}") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def read(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        """Return the rows of a SELECT."""
        return self._connection.execute(query, parameters).fetchall()

    def write(self, statement: str, *parameters: object) -> None:
        """Execute one change, inside a transaction."""
        self._connection.execute(statement, parameters)

    def total(self, name: str) -> int:
        """Return a running total, 0 when it was never added to."""
        rows = self._connection.execute("SELECT value FROM totals WHERE name = ?", (name,)).fetchall()
        return int(rows[0][0]) if rows else 0

    def add_total(self, name: str, amount: int) -> None:
        """Add to a running total, inside a transaction."""
        self._connection.execute(
            "INSERT INTO totals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, amount),
        )

    def seal(self, secret: bytes, label: str) -> bytes:
        """Encrypt `secret`, bound to `label`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, secret, label.encode())

    def unseal(self, sealed: bytes, label: str) -> bytes:
        """Decrypt what `seal` returned. Raises CorruptError."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], label.encode())
        except InvalidTag:
            raise CorruptError(
                "The key store and its key file do not belong together, or the store is damaged."
            ) from None

    def sealed_value(self, name: str) -> bytes | None:
        """Return a named secret of the store itself, None when there is none yet."""
        rows = self._connection.execute("SELECT sealed FROM identity WHERE name = ?", (name,)).fetchall()
        return self.unseal(rows[0][0], name) if rows else None

    def put_sealed_value(self, name: str, secret: bytes) -> None:
        """Set a named secret once."""
        self._connection.execute("INSERT INTO identity VALUES (?, ?)", (name, self.seal(secret, name)))

    def _migrate(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise CorruptError("The key store was written by a newer version of this software.")
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._connection.executescript(f"BEGIN;{script};PRAGMA user_version = {number};COMMIT;")

    def _check_kek(self) -> None:
        if self.sealed_value("kek check") is None:
            self.put_sealed_value("kek check", b"qepa")

    def _open_counter(self, path: Path) -> CommitCounter:
        store_id = self.sealed_value("store id")
        if store_id is not None:
            counter = CommitCounter(path, store_id)
            counter.check(self.total(_COMMITS))
            return counter
        # File first: killed in between, the next start finds a store without identity and begins again.
        store_id = secrets.token_bytes(STORE_ID_BYTES)
        counter = CommitCounter(path, store_id)
        counter.create()
        self.put_sealed_value("store id", store_id)
        return counter
