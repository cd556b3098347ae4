"""Both ends of a link in one process, each of which can die at any moment: stores on disk, messages by hand.

A moment lies before and after each durable write and each message. What is tested is what Alice's and Bob's programs
are made of: `LinkEnd`, both distillers, both KMEs' delivery. Light and proof are stand-ins, so that a block is small.
"""

import json
import os
import secrets
import sqlite3
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import coroutine
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from qepa_qkd import link_end, store_database
from qepa_qkd.authentication import PAD_BYTES, Pad
from qepa_qkd.commit_counter import CommitCounter
from qepa_qkd.config import LinkConfig, Role, load
from qepa_qkd.decoy import PROOFS, Costs, EpsilonItems, KeyLength
from qepa_qkd.delivery import KeyDelivery
from qepa_qkd.distill_alice import AliceDistiller
from qepa_qkd.distill_bob import BobDistiller
from qepa_qkd.distillation import Environment
from qepa_qkd.link_end import LinkEnd
from qepa_qkd.messages import Report, decode
from qepa_qkd.pads import PadStore
from qepa_qkd.vault import Vault
from qepa_tools.bench.physics import BenchSettings, OpticalBench, PulseSettings

ROLES: tuple[Role, Role] = ("alice", "bob")
BLOCK_BITS, KEY_BITS = 4000, 2560
CORRECTION_SEED_BYTES = 16
_CONFIG = """
link = "gw-1"
serial_port = "none"
initial_secret = "initial.secret"
listen = "127.0.0.1:0"
connect = "127.0.0.1:0"
[protocol]
block_bits = {block_bits}
proof = "stand-in"
[store]
path = "{role}/keys.db"
kek = "{role}/keys.kek"
signing_key = "{role}/passport.key"
[kme]
listen = "127.0.0.1:0"
id = "kme-{role}"
peer_id = "kme"
certificate = "none"
private_key = "none"
client_ca = "none"
replay_window_s = 300
sae = [{{ master = "dock", slave = "gw-1" }}]
"""


class Killed(BaseException):
    """What SIGKILL is to a process: nothing of it runs any more."""


class Moments:
    """Counts the moments of a victim and kills it at the one that is fatal."""

    def __init__(self) -> None:
        self.passed = 0
        self._acting = self._victim = ""
        self._fatal = 0

    def arm(self, victim: str, fatal: int) -> None:
        """Let `victim` die at its moment number `fatal`, counted from 1."""
        self._victim, self._fatal, self.passed = victim, fatal, 0

    @contextmanager
    def of(self, role: str) -> Iterator[None]:
        """What is done inside, `role` does."""
        before, self._acting = self._acting, role
        try:
            yield
        finally:
            self._acting = before

    def pass_one(self) -> None:
        """A moment at which death makes a difference."""
        if self._acting == self._victim:
            self.passed += 1
            if self.passed == self._fatal:
                raise Killed


def install(patch: pytest.MonkeyPatch) -> Moments:
    """Make stores killable and blocks small while `patch` lasts."""
    moments = Moments()

    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
            if statement == "PRAGMA synchronous=FULL":
                statement = "PRAGMA synchronous=OFF"  # a killed process loses nothing that it has written
            begins = statement.startswith(("BEGIN", "SELECT", "PRAGMA"))
            durable = statement == "COMMIT" or not (self.in_transaction or begins)
            return around(durable, super().execute, statement, *parameters)

        def executescript(self, script: str) -> sqlite3.Cursor:
            return around(True, super().executescript, script)

    def around(durable: bool, write: Any, *arguments: Any) -> Any:
        if durable:
            moments.pass_one()
        result = write(*arguments)
        if durable:
            moments.pass_one()
        return result

    connect, note = sqlite3.connect, CommitCounter._write
    patch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=Connection))
    patch.setattr(CommitCounter, "_write", lambda self, commits: around(True, note, self, commits))
    patch.setattr(os, "fdatasync", lambda _: None)
    for name in ("open", "fdopen", "fsync", "link", "unlink"):
        # The secrets that an end makes, step by step.
        patch.setattr(os, name, _stepwise(getattr(os, name), around))
    patch.setattr(link_end, "KmeServer", lambda *_: None)
    patch.setitem(PROOFS, "stand-in", _StandIn())  # type: ignore[arg-type]
    return moments


def _stepwise(function: Any, around: Any) -> Any:
    return lambda *arguments, **named: around(True, lambda: function(*arguments, **named))


class _StandIn:
    """Grants every block the same length: what is tested here is who keeps it."""

    name = "stand-in"
    needs_key_basis_errors = False

    def check(self, source: object) -> None:
        """Any."""

    def key_length(self, *_: object, **__: object) -> KeyLength:
        """Always `KEY_BITS`."""
        costs, epsilons = Costs(0.0, 0, 0, 0.0), EpsilonItems(0.0, 0.0, 0.0, 0.0)
        return KeyLength(KEY_BITS, 0.0, float(BLOCK_BITS), 0.0, float(KEY_BITS), costs, epsilons)


@dataclass
class Delivered:
    """What applications were given, over all lives."""

    given: dict[str, list[tuple[UUID, bytes]]] = field(default_factory=dict)
    """By request of Alice's."""
    redeemed: dict[str, list[tuple[UUID, bytes]]] = field(default_factory=dict)
    """By the same request, at Bob's."""


class Link:
    """Two ends. `live` runs a life of one of them; a survivor lives on, as its program would."""

    def __init__(self, directory: Path, moments: Moments) -> None:
        self.moments, self.directory = moments, directory
        directory.mkdir(parents=True, exist_ok=True)
        store_database.write_secret_file(directory / "initial.secret", secrets.token_bytes(4096))
        self.configs: dict[Role, LinkConfig] = {}
        for role in ROLES:
            (directory / f"{role}.toml").write_text(_CONFIG.format(role=role, block_bits=BLOCK_BITS))
            self.configs[role] = load(directory / f"{role}.toml", role)
        self.ends: dict[Role, LinkEnd] = {}
        self.inbox: dict[Role, deque[bytes]] = {role: deque() for role in ROLES}
        self.delivered = Delivered()
        self.pads: dict[tuple[str, str, int, int], bytes] = {}
        """Pads that came out of the ledgers: end, use, segment, position."""
        self.blocks = 0
        """With key, at Alice's end."""
        self.deaths = dict.fromkeys(ROLES, 0)
        self._wanted: str | None = None

    def open(self) -> None:
        """Start the ends that do not run."""
        for role in ROLES:
            if role not in self.ends:
                with self.moments.of(role):
                    end = self.ends[role] = LinkEnd(self.configs[role], role)
                pads = end.vault.pads
                pads.spend_own_pad = self._noting(role, "send", pads.spend_own_pad)  # type: ignore[method-assign]
                pads.spend_peer_pad = self._noting(role, "receive", pads.spend_peer_pad)  # type: ignore[method-assign]

    def live(self, victim: Role, fatal: int, blocks: int = 1, *, arrives: int | None = None) -> bool:
        """Connect, make `blocks` and deliver keys, unless `victim` dies at moment `fatal`; returns whether it did.

        Of what it said last and was not heard yet, the first `arrives` messages arrive (None: all).
        """
        self.moments.arm(victim, fatal)
        try:
            self.open()
            self.connect()
            for _ in range(blocks):
                self.make_block()
                self.deliver_keys()
            return False
        except Killed:
            self.moments.arm("", 0)
            self._bury(victim, arrives)
            return True
        finally:
            self.moments.arm("", 0)

    def connect(self) -> None:
        """Agree, and begin with fresh distillers."""
        for inbox in self.inbox.values():
            inbox.clear()
        self._handshakes: dict[Role, Coroutine[Any, Any, None]] = {role: self._agree(role) for role in ROLES}
        self._distillers: dict[Role, AliceDistiller | BobDistiller] = {}
        while self._handshakes:
            for role in ROLES:
                self._step_handshake(role)
        self.optics = OpticalBench(BenchSettings(slot_offset=0), PulseSettings(), np.random.default_rng(4))
        alice, bob = (self._repeatable(self.ends[role].environment) for role in ROLES)
        self._distillers = {
            "alice": AliceDistiller(alice),
            "bob": BobDistiller(bob, np.random.default_rng(3)),
        }

    def make_block(self) -> None:
        """Send pulses until a block has ended at both ends."""
        bob, before = self._distillers["bob"], self.blocks
        assert isinstance(bob, BobDistiller)
        while self.blocks == before:
            slots, detectors = self.optics.advance(20_000)
            with self.moments.of("bob"):
                for said in bob.report(1, slots, detectors):
                    self._say("bob", said)
            while any(self.inbox.values()):
                for role in ROLES:
                    self._hear(role)

    def deliver_keys(self) -> None:
        """An application takes two keys and its peer fetches them, each asking again until it is answered."""
        request = self._wanted or secrets.token_hex(8)
        self._wanted = request
        alice, bob = (self._delivery(role) for role in ROLES)
        if request not in self.delivered.given:
            with self.moments.of("alice"):
                keys = alice.hand_out("dock", ["gw-1"], 2, 32, request).keys
                self.moments.pass_one()
            self.delivered.given[request] = [(key.key_id, key.value) for key in keys]
        with self.moments.of("bob"):
            key_ids = [key_id for key_id, _ in self.delivered.given[request]]
            keys = bob.redeem("dock", "gw-1", key_ids, request).keys
            self.moments.pass_one()
        self.delivered.redeemed[request] = [(key.key_id, key.value) for key in keys]
        self._wanted = None

    def recover(self) -> None:
        """Start who is dead, connect, and finish the delivery that a death interrupted."""
        self.open()
        self.connect()
        if self._wanted:
            self.deliver_keys()

    def close(self) -> None:
        """Close the stores."""
        for end in self.ends.values():
            end.vault.close()

    def _repeatable(self, environment: Environment) -> Environment:
        """Every connection corrects the same errors in the same way, so that all moments of a life can be counted."""
        rng = np.random.default_rng(2)

        def random_bytes(count: int) -> bytes:
            # Names of blocks and privacy amplification make keys different all the same.
            return rng.bytes(count) if count == CORRECTION_SEED_BYTES else secrets.token_bytes(count)

        return replace(environment, random_bytes=random_bytes, unix_time_s=lambda: 1.7e9)

    def _delivery(self, role: Role) -> KeyDelivery:
        return KeyDelivery(self.configs[role].kme, role, self.ends[role].vault)

    async def _agree(self, role: Role) -> None:
        end, channel = self.ends[role], _Channel(self, role)
        if role == "alice":
            hello = decode(await channel.receive(0))
            channel.send(end.hello())
        else:
            channel.send(end.hello())
            hello = decode(await channel.receive(0))
        await end.agree(channel, hello)  # type: ignore[arg-type]

    def _step_handshake(self, role: Role) -> None:
        if role in self._handshakes:
            with self.moments.of(role):
                try:
                    self._handshakes[role].send(None)
                except StopIteration:
                    del self._handshakes[role]

    def _say(self, role: Role, payload: bytes) -> None:
        self.moments.pass_one()
        self.inbox["bob" if role == "alice" else "alice"].append(payload)
        self.moments.pass_one()

    def _hear(self, role: Role) -> None:
        if not self.inbox[role]:
            return
        raw, distiller, end = self.inbox[role].popleft(), self._distillers[role], self.ends[role]
        with self.moments.of(role):
            message = decode(raw)
            if isinstance(message, Report) and isinstance(distiller, AliceDistiller):
                distiller.on_report(message, raw, self.optics.states(message.slots))
            else:
                for said in distiller.on_message(message, raw):
                    self._say(role, said)
            if distiller.outcomes and role == "alice":
                assert [outcome.reason for outcome in distiller.outcomes] == [None]
                self.blocks += 1
            end.record(distiller.outcomes, running=True)

    def _bury(self, victim: Role, arrives: int | None) -> None:
        """The victim's memory is gone; the survivor hears what had left, and then that the connection is lost."""
        self.deaths[victim] += 1
        survivor: Role = "bob" if victim == "alice" else "alice"
        if dead := self.ends.pop(victim, None):
            dead.vault.close()
        heard = list(self.inbox[survivor])[:arrives]
        self.inbox[survivor].clear()
        for payload in heard:
            self.inbox[survivor].append(payload)
            if self._distillers:
                self._hear(survivor)
            elif survivor in self._handshakes:
                self._step_handshake(survivor)

    def _noting(self, role: Role, use: str, spend: Callable[..., Pad]) -> Callable[..., Pad]:
        def noted(*place: int) -> Pad:
            pad = spend(*place)
            name = (role, use, pad.segment, pad.position)
            assert name not in self.pads
            self.pads[name] = pad.value
            return pad

        return noted


class _Channel:
    """A classical channel that the link moves by hand."""

    def __init__(self, link: Link, role: Role) -> None:
        self._link, self._role = link, role

    def send(self, payload: bytes) -> None:
        """Say something."""
        self._link._say(self._role, payload)

    async def receive(self, timeout_s: float) -> bytes:  # noqa: ARG002
        """Hear something."""
        while not self._link.inbox[self._role]:
            await _pause()
        return self._link.inbox[self._role].popleft()


@coroutine
def _pause() -> Generator[None, None, None]:
    yield


def blocks_of(vault: Vault) -> dict[int, tuple[str, str, bytes]]:
    """State, free bytes and key of each block that an end has or had."""
    database = vault.keys._database
    rows = database.read("SELECT id, state, free, sealed FROM blocks")
    return {
        id: (state, free, b"" if sealed is None else vault.keys._unseal(id, free, sealed))  # type: ignore[arg-type]
        for id, state, free, sealed in rows
        if state != "dropped"
    }


def check(link: Link) -> None:
    """What must hold whenever both ends are connected and all deliveries are complete."""
    alice, bob = (link.ends[role].vault for role in ROLES)
    # Identical keys under identical names, or none.
    assert blocks_of(alice) == blocks_of(bob)
    assert {state for state, _, _ in blocks_of(alice).values()} <= {"live"}
    # Each key once, the same at both ends.
    assert link.delivered.given == link.delivered.redeemed
    given = [key for keys in link.delivered.given.values() for key in keys]
    assert len({key_id for key_id, _ in given}) == len({value for _, value in given}) == len(given)
    _check_pads(link)
    # The ledgers add up.
    for vault in (alice, bob):
        total = vault.keys._database.total
        assert total("produced_bits") == vault.keys.stock_bits() + total("consumed_bits")
        assert total("consumed_bits") == 256 * len(given)


def _check_pads(link: Link) -> None:
    seen = {}
    for role in ROLES:
        keys, pads = link.ends[role].vault.keys, link.ends[role].vault.pads
        spent_bits, gained_bits = pads.spent_and_gained_bits()
        rows = keys._database.read("SELECT passport FROM blocks WHERE state != 'dropped'")
        passports = [json.loads(str(text))["passport"] for (text,) in rows]
        assert gained_bits == sum(passport["authentication_bits"] for passport in passports)
        # What a death kept from coming out counts as spent.
        noted = sum(end == role for end, *_ in link.pads)
        assert 0 <= spent_bits // (8 * PAD_BYTES) - noted <= link.deaths[role]
        seen[role] = _segments(pads)
    mirrored = [(*names, received, sent, receive, send) for *names, sent, received, send, receive in seen["bob"]]
    assert seen["alice"] == mirrored
    # What one end checked a tag with is what the other made it with.
    for (role, use, segment, position), value in link.pads.items():
        peer = ("bob" if role == "alice" else "alice", "send" if use == "receive" else "receive", segment, position)
        assert link.pads.get(peer, value) == value


def _segments(pads: PadStore) -> list[tuple[Any, ...]]:
    query = "SELECT id, live, pads, send_next, receive_next, sealed_send, sealed_receive FROM segments ORDER BY id"
    rows: list[Any] = pads._database.read(query)

    def opened(sealed: bytes | None, label: str) -> bytes | None:
        return None if sealed is None else pads._database.unseal(sealed, label)

    return [
        (name, *numbers, opened(send, f"send {name}"), opened(receive, f"receive {name}"))
        for name, *numbers, send, receive in rows
    ]
