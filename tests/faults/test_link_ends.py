"""Alice and Bob killed at any moment: both hold identical keys afterwards, or none; nothing is used twice."""

import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from link_in_memory import ROLES, Link, Moments, blocks_of, check, install
from test_link import Link as LinkOfProcesses

from qepa_qkd.authentication import InitialSecret
from qepa_qkd.config import Role
from qepa_qkd.errors import QkdError
from qepa_qkd.kme_client import QkdKey
from qepa_qkd.vault import Vault

KILLS = int(os.environ.get("QEPA_LINK_KILLS", "6"))
"""By SIGKILL, of processes that make keys on a virtual bench."""
EXCHANGE_LIMIT_S = 150
RANDOM_LIVES = int(os.environ.get("QEPA_LINK_LIVES", "100"))
"""Lives that end at random moments, beside one that ends at each."""


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Moments:
    return install(monkeypatch)


@pytest.fixture
def link(tmp_path: Path, moments: Moments) -> Iterator[Link]:
    link = Link(tmp_path / "link", moments)
    yield link
    link.close()


@pytest.mark.parametrize("arrives", [None, 0], ids=["its last words arrive", "its last words are lost"])
@pytest.mark.parametrize("victim", ROLES)
def test_killed_at_each_moment_of_a_block_both_ends_keep_the_same_or_nothing(
    link: Link, victim: Role, arrives: int | None
) -> None:
    link.recover()
    fatal = 1
    while link.live(victim, fatal, arrives=arrives):
        link.recover()
        check(link)
        fatal += 1
    check(link)
    assert fatal > 60
    assert 0 < len(blocks_of(link.ends["alice"].vault)) < fatal


@pytest.mark.parametrize("victim", ROLES)
def test_killed_at_each_moment_of_its_first_start_an_end_starts_again(
    victim: Role, moments: Moments, tmp_path: Path
) -> None:
    fatal, died = 1, True
    while died:
        link = Link(tmp_path / str(fatal), moments)
        died = link.live(victim, fatal, blocks=0)
        link.recover()
        link.make_block()
        link.deliver_keys()
        check(link)
        link.close()
        fatal += 1
    assert fatal > 20


def test_lives_of_either_end_that_end_at_random_moments(link: Link) -> None:
    rng = random.Random(1)
    deaths = dict.fromkeys(ROLES, 0)
    link.recover()
    for _ in range(RANDOM_LIVES):
        victim = rng.choice(ROLES)
        deaths[victim] += link.live(victim, rng.randint(1, 300), blocks=3, arrives=rng.randint(0, 4))
        link.recover()
        check(link)
    assert sum(deaths.values()) > 0.5 * RANDOM_LIVES
    assert link.blocks > RANDOM_LIVES / 4


class Ends(LinkOfProcesses):
    """A link whose ends are forked, so that a life begins at once. Blocks are short."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, quota=10_000_000, low=5_000_000)
        self.pids: dict[str, int] = {}
        self._cradles: dict[str, subprocess.Popen[str]] = {}
        program = Path(__file__).with_name("link_under_kill.py")
        for role in ROLES:
            config = directory / f"{role}.toml"
            protocol = "[protocol]\npulse_rate_hz = 2e6\nblock_bits = 60_000\n\n[kme]\nreplay_window_s = 300\n"
            config.write_text(config.read_text().replace("[kme]\n", protocol, 1))
            log = (directory / f"{role}.log").open("a")
            command = [sys.executable, str(program), role, str(config)]
            self._cradles[role] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def bear(self, role: Role) -> None:
        """Start an end."""
        cradle = self._cradles[role]
        assert cradle.stdin is not None
        assert cradle.stdout is not None
        cradle.stdin.write("\n")
        cradle.stdin.flush()
        self.pids[role] = int(cradle.stdout.readline())
        document = json.loads(cradle.stdout.readline())
        assert document, (self.directory / f"{role}.log").read_text()[-2000:]
        self.urls[role] = document["kme"]

    def shoot(self, role: Role) -> None:
        """Kill an end, at whatever it is."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pids[role], signal.SIGKILL)
        while Path(f"/proc/{self.pids[role]}").exists():
            time.sleep(0.01)

    def close(self) -> None:
        """Kill all."""
        for role in ROLES:
            if role in self.pids:
                self.shoot(role)
            self._cradles[role].kill()
            self._cradles[role].communicate()
        self.stop()


class Customers:
    """An application takes keys at Alice's KME and another fetches them at Bob's; both ask until they are answered."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self.taken: dict[str, list[QkdKey]] = {}
        self.fetched: dict[str, list[QkdKey]] = {}

    async def exchange(self) -> None:
        """Two keys. Raises TimeoutError if it takes too long."""
        request = secrets.token_hex(8)
        async with asyncio.timeout(EXCHANGE_LIMIT_S):
            while request not in self.fetched:
                try:
                    await self._attempt(request)
                except QkdError:  # dead, or there is no key yet
                    await asyncio.sleep(0.1)

    async def _attempt(self, request: str) -> None:
        if request not in self.taken:
            async with self._ends.client("alice", "dock") as dock:
                self.taken[request] = await dock.enc_keys("gw-1", 2, 256, request_id=request)
        async with self._ends.client("bob", "gw-1") as gateway:
            key_ids = [key.key_id for key in self.taken[request]]
            self.fetched[request] = await gateway.dec_keys("dock", key_ids, request_id=request)


@pytest.mark.slow
async def test_processes_killed_while_they_make_and_deliver_keys(tmp_path: Path) -> None:
    rng = random.Random(2)
    ends = Ends(tmp_path)
    customers = Customers(ends)
    try:
        ends.start("bench")
        for role in ROLES:
            ends.bear(role)
        await customers.exchange()
        for kill in range(KILLS):
            buying = asyncio.ensure_future(customers.exchange())
            await asyncio.sleep(rng.uniform(0, 1.5))
            ends.shoot(ROLES[kill % 2])
            ends.bear(ROLES[kill % 2])
            await buying
        await customers.exchange()
    finally:
        ends.close()
    keys = [[(key.key_id, key.value) for key in some] for some in customers.taken.values()]
    assert keys == [[(key.key_id, key.value) for key in some] for some in customers.fetched.values()]
    given = [key for some in keys for key in some]
    assert len({value for _, value in given}) == len(given) == 2 * (KILLS + 2)
    compare_stores(tmp_path, len(given))


def compare_stores(directory: Path, given: int) -> None:
    """Both hold the same, once what a death left pending is settled as the ends do when they connect."""
    secret = InitialSecret.parse((directory / "alice/initial.secret").read_bytes())
    alice, bob = (
        Vault(directory / role / "keys.db", directory / role / "keys.kek", secret, is_alice=role == "alice")
        for role in ROLES
    )
    for block_id in bob.keys.pending():
        bob.settle(block_id, live=bool(alice.keys.known([block_id])))
    assert alice.keys.pending() == ()
    assert blocks_of(alice) == blocks_of(bob)
    assert len(blocks_of(alice)) >= 1
    for vault in (alice, bob):
        figures = vault.keys.figures()
        assert figures.consumed_bits == 256 * given
        assert figures.produced_bits == figures.consumed_bits + figures.stock_bits
    assert alice.pads.spent_and_gained_bits()[1] == bob.pads.spent_and_gained_bits()[1]
    alice.close()
    bob.close()
