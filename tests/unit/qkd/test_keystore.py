"""Key store and pad ledger: every bit once, also across kill -9; nothing readable at rest."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.errors import ConfigError, CorruptError, KeyNotFound, NoKey, SecurityError, StockTooLow
from qepa_qkd.key_id import KeyLocation
from qepa_qkd.vault import Vault

SECRET = InitialSecret.parse(bytes(range(256)) * 2)
BLOCK_KEY = os.urandom(1000)


def open_vault(directory: Path, *, is_alice: bool = True) -> Vault:
    return Vault(directory / "keys.db", directory / "keys.kek", SECRET, is_alice=is_alice)


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    vault = open_vault(tmp_path)
    yield vault
    vault.close()


def test_alice_takes_and_bob_redeems_the_same_bytes_once(tmp_path: Path) -> None:
    alice, bob = open_vault(tmp_path / "a"), open_vault(tmp_path / "b", is_alice=False)
    for end in (alice, bob):
        end.store_block(77, BLOCK_KEY, 64, "{}", live=True)
    seen = b""
    for number, size in ((3, 32), (1, 500), (2, 8), (1, 1)):
        keys = alice.keys.take(number, size)
        assert [k.value for k in bob.keys.redeem([k.location for k in reversed(keys)])] == [
            k.value for k in reversed(keys)
        ]
        seen += b"".join(k.value for k in keys)
        with pytest.raises(KeyNotFound):
            bob.keys.redeem([keys[0].location])
    assert BLOCK_KEY[64:].startswith(seen)
    assert alice.keys.figures().consumed_bits == bob.keys.figures().consumed_bits == 8 * len(seen)


def test_overlapping_identifiers_cannot_give_a_byte_twice(vault: Vault) -> None:
    vault.store_block(5, BLOCK_KEY, 0, "{}", live=True)
    vault.keys.redeem([KeyLocation(5, 100, 32)])
    for offset, size in ((100, 32), (99, 2), (131, 1), (0, 1000), (990, 32)):
        with pytest.raises(KeyNotFound):
            vault.keys.redeem([KeyLocation(5, offset, size)])
    with pytest.raises(KeyNotFound):
        vault.keys.redeem([KeyLocation(5, 200, 8), KeyLocation(5, 204, 8)])
    assert len(vault.keys.redeem([KeyLocation(5, 200, 8)])) == 1  # all or none: the pair above took nothing


def test_too_large_a_request_takes_nothing(vault: Vault) -> None:
    vault.store_block(5, BLOCK_KEY, 0, "{}", live=True)
    with pytest.raises(StockTooLow):
        vault.keys.take(32, 32)
    assert vault.keys.stock_bits() == 8000
    assert vault.keys.key_count(32) == 31


def test_pending_blocks_are_redeemed_but_not_handed_out(vault: Vault) -> None:
    vault.store_block(5, BLOCK_KEY, 64, "{}", live=False)
    with pytest.raises(StockTooLow):
        vault.keys.take(1, 32)
    assert vault.keys.pending() == (5,)
    vault.keys.redeem([KeyLocation(5, 0, 32)])
    vault.settle(5, live=True)
    assert len(vault.keys.take(1, 32)) == 1
    vault.settle(5, live=False)  # settled blocks stay as they are
    assert vault.keys.stock_bits() > 0


def test_a_dropped_block_is_gone_with_its_pads(vault: Vault) -> None:
    pads = vault.pads.pads_left()
    vault.store_block(5, BLOCK_KEY, 64, "{}", live=False)
    vault.settle(5, live=False)
    assert vault.keys.stock_bits() == 0
    assert vault.keys.known([5]) == ()
    assert vault.pads.pads_left() == pads
    assert vault.keys.figures().produced_bits == 0


def test_keys_survive_kill_9_and_none_comes_twice(tmp_path: Path) -> None:
    vault = open_vault(tmp_path)
    for block_id in range(1, 6):
        vault.store_block(block_id, os.urandom(3200), 0, "{}", live=True)
    vault.close()
    program = textwrap.dedent(f"""
        from pathlib import Path
        from qepa_qkd.authentication import InitialSecret
        from qepa_qkd.vault import Vault
        secret = InitialSecret.parse(bytes(range(256)) * 2)
        vault = Vault(Path({str(tmp_path / "keys.db")!r}), Path({str(tmp_path / "keys.kek")!r}), secret, is_alice=True)
        while True:
            for key in vault.keys.take(2, 32):
                print(key.value.hex(), flush=True)
            print(vault.pads.spend_own_pad().position if vault.pads.pads_left()[0] else "", flush=True)
    """)
    given_out: list[str] = []
    for kill_after in (7, 31, 64):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(kill_after)]
        process.kill()
        lines += process.stdout.read().split("\n")
        process.wait()
        given_out += [line for line in lines if line]
    vault = open_vault(tmp_path)
    rest = [key.value.hex() for key in vault.keys.take(vault.keys.key_count(32), 32)]
    vault.close()
    keys = [line for line in given_out if len(line) == 64]
    pads = [line for line in given_out if len(line) < 64]
    assert len(set(keys + rest)) == len(keys) + len(rest)
    assert len(set(pads)) == len(pads) > 3
    assert 0 <= 500 - len(keys) - len(rest) <= 3 * 3  # at most the request under way is lost at each kill


def test_nothing_is_readable_at_rest(tmp_path: Path) -> None:
    vault = open_vault(tmp_path)
    vault.store_block(5, BLOCK_KEY, 64, "{}", live=True)
    vault.keys.take(1, 32)
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("keys.db*"))
    assert BLOCK_KEY[64:80] not in raw
    assert BLOCK_KEY[500:516] not in raw
    assert SECRET.pads_to_bob[:16] not in raw
    vault.close()
    for name in ("keys.db", "keys.kek"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    open_vault(tmp_path).close()
    (tmp_path / "keys.kek").write_bytes(os.urandom(32))
    with pytest.raises(CorruptError):
        open_vault(tmp_path)
    (tmp_path / "keys.kek").unlink()
    with pytest.raises(CorruptError, match="missing"):
        open_vault(tmp_path)
    (tmp_path / "keys.kek").write_bytes(os.urandom(32))
    (tmp_path / "keys.kek").chmod(0o640)
    with pytest.raises(ConfigError, match="0600"):
        open_vault(tmp_path)


def test_a_store_of_the_future_is_refused(tmp_path: Path) -> None:
    open_vault(tmp_path).close()
    with sqlite3.connect(tmp_path / "keys.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(CorruptError, match="newer"):
        open_vault(tmp_path)


def test_pads_are_used_once_and_in_order(tmp_path: Path) -> None:
    alice, bob = open_vault(tmp_path / "a"), open_vault(tmp_path / "b", is_alice=False)
    first, second = alice.pads.spend_own_pad(), alice.pads.spend_own_pad()
    assert first.value != second.value
    assert bob.pads.spend_peer_pad(second.segment, second.position).value == second.value
    for position in (second.position, first.position, 10_000):
        with pytest.raises(SecurityError):
            bob.pads.spend_peer_pad(0, position)
    while alice.pads.pads_left()[0]:
        alice.pads.spend_own_pad()
    with pytest.raises(NoKey, match="authentication key"):
        alice.pads.spend_own_pad()


def test_a_store_that_was_lost_does_not_use_pads_again(tmp_path: Path) -> None:
    alice, bob = open_vault(tmp_path / "a"), open_vault(tmp_path / "b", is_alice=False)
    for _ in range(3):
        pad = alice.pads.spend_own_pad()
        bob.pads.spend_peer_pad(pad.segment, pad.position)
    again = open_vault(tmp_path / "a2")
    again.pads.advance(bob.pads.positions())
    assert again.pads.spend_own_pad().position == 3


def test_another_links_secret_is_refused(tmp_path: Path) -> None:
    open_vault(tmp_path).close()
    with pytest.raises(SecurityError):
        Vault(tmp_path / "keys.db", tmp_path / "keys.kek", InitialSecret.parse(bytes(512)), is_alice=True)


def test_pruning_destroys_the_oldest_first(vault: Vault) -> None:
    for block_id in (1, 2, 3):
        vault.store_block(block_id, BLOCK_KEY, 0, "{}", live=True)
    assert vault.keys.prune(17_000) == 8000
    with pytest.raises(KeyNotFound):
        vault.keys.redeem([KeyLocation(1, 0, 32)])
    assert vault.keys.redeem([KeyLocation(2, 0, 32)])
