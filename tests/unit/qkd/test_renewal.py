"""Authentication key renewed from quantum key: from some block on nothing rests on the initial secret any more."""

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qepa_qkd import messages as m
from qepa_qkd import pads
from qepa_qkd.authentication import PAD_BYTES, InitialSecret, Pad
from qepa_qkd.distill_alice import PAD_TARGET
from qepa_qkd.errors import NoKey, SecurityError
from qepa_qkd.link_status import LinkStatus
from qepa_qkd.pads import RETIRE_AT
from qepa_qkd.vault import Vault

from .conftest import MemoryLink

MakeLink = Callable[..., MemoryLink]
SECRET_BYTES = bytes(range(256)) * 16
SECRET = InitialSecret.parse(SECRET_BYTES)
ENOUGH = 2 * PAD_BYTES * RETIRE_AT


def open_vault(directory: Path, *, is_alice: bool = True) -> Vault:
    return Vault(directory / "keys.db", directory / "keys.kek", SECRET, is_alice=is_alice)


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Vault, Vault]]:
    alice, bob = open_vault(tmp_path / "alice"), open_vault(tmp_path / "bob", is_alice=False)
    yield alice, bob
    alice.close()
    bob.close()


def store(vaults: tuple[Vault, ...], block_id: int, authentication_bytes: int) -> bytes:
    key = os.urandom(authentication_bytes + 64)
    for vault in vaults:
        vault.store_block(block_id, key, authentication_bytes, "{}", live=True)
    return key


def pass_tag(sender: Vault, receiver: Vault) -> Pad:
    pad = sender.pads.spend_own_pad()
    assert receiver.pads.spend_peer_pad(pad.segment, pad.position) == pad
    return pad


def test_the_initial_secret_serves_until_blocks_have_given_enough(ends: tuple[Vault, Vault]) -> None:
    alice, bob = ends
    store(ends, 5, ENOUGH - 2 * PAD_BYTES)
    assert pass_tag(alice, bob).segment == 0
    store(ends, 6, 2 * PAD_BYTES)
    assert pass_tag(alice, bob).segment == 5
    bob.pads.retire_initial()
    assert pass_tag(bob, alice).segment == 5


def test_what_was_retired_is_refused_and_erased_also_after_kill_9(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from qepa_qkd.authentication import InitialSecret
        from qepa_qkd.vault import Vault
        directory = Path({str(tmp_path)!r})
        secret = InitialSecret.parse(bytes(range(256)) * 16)
        vault = Vault(directory / "keys.db", directory / "keys.kek", secret, is_alice=True)
        vault.store_block(5, bytes(range(128)) * {ENOUGH // 64}, {ENOUGH}, "{{}}", live=True)
        print(vault.pads.spend_own_pad().segment, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (killed.stdout, killed.returncode) == ("5\n", -9)
    vault = open_vault(tmp_path)  # takes the initial secret in only once
    for position in (0, 62):
        with pytest.raises(SecurityError, match="used before"):
            vault.pads.spend_peer_pad(0, position)
    assert vault.pads.spend_own_pad() == Pad(5, 1, (bytes(range(128)) * 99)[PAD_BYTES : 2 * PAD_BYTES])
    vault.close()
    with sqlite3.connect(tmp_path / "keys.db") as connection:
        assert connection.execute("SELECT sealed_send, sealed_receive FROM segments WHERE id = 0").fetchall() == [
            (None, None)
        ]
    connection.close()


def test_the_initial_secret_is_not_gone_back_to_when_quantum_key_runs_out(ends: tuple[Vault, Vault]) -> None:
    alice, bob = ends
    store(ends, 5, ENOUGH)
    for _ in range(RETIRE_AT):
        assert pass_tag(alice, bob).segment == 5
    with pytest.raises(NoKey, match="authentication key"):
        alice.pads.spend_own_pad()


def test_an_end_that_missed_the_change_hears_of_it_when_they_connect(ends: tuple[Vault, Vault]) -> None:
    alice, bob = ends
    store(ends, 5, ENOUGH)
    alice.pads.spend_own_pad()  # the tag is lost
    bob.pads.advance(alice.pads.positions())
    pad = pass_tag(bob, alice)
    assert (pad.segment, pad.position) == (5, 0)


def test_an_end_that_lost_its_store_and_its_peer_name_only_pads_both_have(ends: tuple[Vault, Vault]) -> None:
    alice, bob = ends
    store((alice,), 5, 2 * PAD_BYTES)  # Bob's store is new
    pass_tag(alice, bob)
    alice.pads.advance(bob.pads.positions())
    assert alice.pads.pads_left() == bob.pads.pads_left()[::-1] == (62, 63)


def test_used_up_segments_do_not_pile_up(ends: tuple[Vault, Vault]) -> None:
    alice, bob = ends
    store(ends, 1, ENOUGH)
    for block_id in range(2, 2 + 3 * RETIRE_AT):
        store(ends, block_id, 2 * PAD_BYTES)
        pass_tag(alice, bob)
        bob.pads.retire_initial()
        pass_tag(bob, alice)
    assert len(alice.pads.positions()) == len(bob.pads.positions()) <= RETIRE_AT + 2


def test_a_store_with_pads_of_sixteen_bytes_is_taken_over_without_using_a_byte_twice(tmp_path: Path) -> None:
    vault = open_vault(tmp_path)
    vault.store_block(5, bytes(64) + bytes(100), 64, "{}", live=True)
    vault.close()
    with sqlite3.connect(tmp_path / "keys.db") as connection:  # as version 2 counted: three of 126 sent, two received
        connection.execute("UPDATE segments SET pads = 126, send_next = 3, receive_next = 2 WHERE id = 0")
        connection.execute("UPDATE segments SET pads = 3, send_next = 3, receive_next = 0 WHERE id = 5")
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    vault = open_vault(tmp_path)
    assert vault.pads.positions() == (m.PadPosition(0, 2, 1), m.PadPosition(5, 1, 0))
    assert vault.pads.spend_own_pad().value == SECRET.pads_to_bob[2 * PAD_BYTES : 3 * PAD_BYTES]
    vault.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pads from blocks are enough: what the first block gives."""
    monkeypatch.setattr(pads, "RETIRE_AT", 2)


def next_block(link: MemoryLink) -> None:
    link.alice.outcomes.clear()
    link.bob.outcomes.clear()
    link.run_block()


def meet_again(link: MemoryLink) -> None:
    alice, bob = link.vaults["alice"], link.vaults["bob"]
    for own, peer in ((alice, bob), (bob, alice)):
        own.pads.advance(peer.pads.positions())
    for block_id in bob.keys.pending():
        bob.settle(block_id, live=bool(alice.keys.known([block_id])))
    link.connect()


@pytest.mark.usefixtures("soon")
def test_blocks_say_what_authenticated_them_and_the_status_since_when(make_link: MakeLink) -> None:
    link = make_link()
    status = LinkStatus(authentication_origin="pqc")
    link.run_block()
    for vault in link.vaults.values():
        assert vault.pads.renewed_since() is None
        assert status.authentication(vault.pads.renewed_since()) == "computational"
    next_block(link)
    next_block(link)
    for vault in link.vaults.values():
        newest, middle, first = (json.loads(text)["passport"] for text in vault.keys.passports(3))
        assert first["tags_from"] == "initial secret"
        assert newest["tags_from"] == middle["tags_from"] == "quantum key"
        assert vault.pads.renewed_since() == middle["block_id"]
        assert status.authentication(vault.pads.renewed_since()) == "information-theoretic"


@pytest.mark.usefixtures("soon")
def test_who_learns_the_initial_secret_later_cannot_make_a_tag_with_it(make_link: MakeLink) -> None:
    link = make_link()
    link.run_block()
    next_block(link)
    known = iter(range(40, 63))

    def name_the_initial_secret(receiver: str, data: bytes) -> bytes:
        message = m.decode(data)
        if receiver == "bob" and isinstance(message, m.Tag):
            return m.encode(replace(message, segment=0, position=next(known)))
        return data

    link.wire = name_the_initial_secret
    stock = [vault.keys.stock_bits() for vault in link.vaults.values()]
    with pytest.raises(SecurityError, match="used before"):
        next_block(link)
    assert [vault.keys.stock_bits() for vault in link.vaults.values()] == stock


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize(
    ("receiver", "lost_kind"), [("bob", m.Amplify), ("bob", m.Tag), ("alice", m.Tag), ("bob", m.Stored)]
)
def test_a_connection_that_breaks_while_they_change_over_goes_on_with_quantum_key(
    make_link: MakeLink, receiver: str, lost_kind: type
) -> None:
    link = make_link()
    link.run_block()
    used: list[tuple[str, int, int]] = []
    broken = []

    def cut(to: str, data: bytes) -> bytes | None:
        message = m.decode(data)
        if isinstance(message, m.Tag):
            used.append((to, message.segment, message.position))
        if broken or (to == receiver and isinstance(message, lost_kind)):
            broken.append(to)
            return None
        return data

    link.wire = cut
    next_block(link)
    assert broken
    broken.clear()
    meet_again(link)
    receiver = "nobody"
    next_block(link)
    assert link.alice.outcomes[0].reason is None
    assert len(set(used)) == len(used)
    assert all(segment for _, segment, _ in used)
    stocks = {vault.keys.stock_bits() for vault in link.vaults.values()}
    assert len(stocks) == 1
    since = {vault.pads.renewed_since() for vault in link.vaults.values()}
    assert len(since) == 1
    assert None not in since


def test_a_block_gives_a_share_of_its_key_until_there_are_pads_enough(make_link: MakeLink) -> None:
    link = make_link()
    vaults = tuple(link.vaults.values())
    link.run_block()
    (outcome,) = link.alice.outcomes
    gained = vaults[0].pads.spent_and_gained_bits()[1]
    assert gained >= 4 * 8 * PAD_BYTES
    assert gained <= max(4 * 8 * PAD_BYTES, (outcome.key_bits + gained) // 16)
    store(vaults, 7, 2 * PAD_BYTES * PAD_TARGET)
    next_block(link)
    assert link.alice.outcomes[0].reason is None
    before = gained + 8 * 2 * PAD_BYTES * PAD_TARGET
    assert {vault.pads.spent_and_gained_bits()[1] for vault in vaults} == {before}
