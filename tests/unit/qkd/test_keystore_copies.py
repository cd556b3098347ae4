"""A key store that was restored, moved or made by an older version."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.errors import CorruptError, RestoredError, TransientError
from qepa_qkd.store_database import MIGRATIONS
from qepa_qkd.vault import Vault

SECRET = InitialSecret.parse(bytes(range(256)) * 2)
KEY = os.urandom(1000)


def open_vault(directory: Path) -> Vault:
    return Vault(directory / "keys.db", directory / "keys.kek", SECRET, is_alice=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    vault = open_vault(tmp_path)
    vault.store_block(5, KEY, 0, "{}", live=True)
    vault.close()
    return tmp_path


def test_a_restored_copy_gives_nothing_out(store: Path) -> None:
    shutil.copy(store / "keys.db", store / "backup.db")
    vault = open_vault(store)
    vault.keys.take(1, 32)
    vault.close()
    shutil.copy(store / "backup.db", store / "keys.db")
    with pytest.raises(RestoredError, match="restored copy"):
        open_vault(store)


def test_a_copy_of_the_newest_state_is_as_good_as_the_original(store: Path) -> None:
    shutil.copy(store / "keys.db", store / "backup.db")
    open_vault(store).close()  # reading is no commit
    shutil.copy(store / "backup.db", store / "keys.db")
    vault = open_vault(store)
    assert len(vault.keys.take(1, 32)) == 1
    vault.close()


def test_killed_between_commit_and_counter_it_goes_on(store: Path) -> None:
    counter = (store / "keys.kek.counter").read_bytes()
    vault = open_vault(store)
    (first,) = vault.keys.take(1, 32)
    vault.close()
    (store / "keys.kek.counter").write_bytes(counter)
    vault = open_vault(store)
    assert vault.keys.take(1, 32)[0].location != first.location
    vault.close()


def test_a_torn_counter_write_leaves_the_other_slot(store: Path) -> None:
    data = bytearray((store / "keys.kek.counter").read_bytes())
    newest = max((0, 512), key=lambda at: data[at + 24 : at + 32])
    data[newest + 20] ^= 1
    (store / "keys.kek.counter").write_bytes(data)
    open_vault(store).close()


def test_without_its_own_counter_a_store_does_not_open(store: Path, tmp_path: Path) -> None:
    counter = store / "keys.kek.counter"
    other = tmp_path / "other"
    open_vault(other).close()
    for change in (
        lambda: counter.write_bytes((other / "keys.kek.counter").read_bytes()),
        lambda: counter.write_bytes(b"garbage" * 99),
        lambda: counter.write_bytes(b""),
        counter.unlink,
    ):
        change()
        with pytest.raises(CorruptError, match="Counter file"):
            open_vault(store)


def test_a_new_store_beside_an_old_counter_begins_anew(store: Path) -> None:
    for path in store.glob("keys.db*"):
        path.unlink()
    vault = open_vault(store)
    vault.store_block(6, KEY, 0, "{}", live=True)
    vault.close()
    open_vault(store).close()


def test_what_could_not_be_counted_is_not_given_out(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = open_vault(store)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        with pytest.raises(TransientError, match="No space"):
            vault.keys.take(1, 32)
    assert vault.keys.take(1, 32)[0].location.offset == 32
    vault.close()


def test_a_store_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    shutil.copy(_first_version(tmp_path / "old"), tmp_path / "keys.db")
    shutil.copy(tmp_path / "old/keys.kek", tmp_path / "keys.kek")
    vault = open_vault(tmp_path)
    assert vault.keys.take(1, 32)[0].value == KEY[:32]
    vault.close()
    shutil.copy(tmp_path / "old/keys.db", tmp_path / "keys.db")
    open_vault(tmp_path).close()  # a store from before the counter has no identity: nothing to compare


def test_damaged_key_is_never_given_out(store: Path) -> None:
    with sqlite3.connect(store / "keys.db") as connection:
        (sealed,) = connection.execute("SELECT sealed FROM blocks").fetchone()
        damaged = sealed[:100] + bytes([sealed[100] ^ 1]) + sealed[101:]
        connection.execute("UPDATE blocks SET sealed = ?", (damaged,))
    connection.close()
    vault = open_vault(store)
    with pytest.raises(CorruptError, match="damaged"):
        vault.keys.take(1, 32)
    assert vault.keys.stock_bits() == 8000
    vault.close()


def test_what_was_given_out_never_passes_for_key_again(store: Path) -> None:
    vault = open_vault(store)
    vault.keys.take(1, 32)
    vault.close()
    with sqlite3.connect(store / "keys.db") as connection:
        connection.execute("UPDATE blocks SET free = '[[0, 1000]]', free_bytes = 1000")
    connection.close()
    vault = open_vault(store)
    with pytest.raises(CorruptError, match="damaged"):
        vault.keys.take(1, 32)
    vault.close()


def _first_version(directory: Path) -> Path:
    """A store as version 1 left it: neither the new tables nor an identity, and blocks sealed to their name only."""
    vault = open_vault(directory)
    vault.store_block(5, KEY, 0, "{}", live=True)
    vault.close()
    aead = AESGCM((directory / "keys.kek").read_bytes())
    with sqlite3.connect(directory / "keys.db") as connection:
        connection.execute("UPDATE blocks SET sealed = ?", (bytes(12) + aead.encrypt(bytes(12), KEY, b"block 5"),))
        for table in ("answers", "shares", "usage"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("DELETE FROM identity WHERE name = 'store id'")
        connection.execute("DELETE FROM totals WHERE name = 'commits'")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    (directory / "keys.kek.counter").unlink()
    assert len(MIGRATIONS) == 3
    return directory / "keys.db"
