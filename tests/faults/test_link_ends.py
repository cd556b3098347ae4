"""Alice and Bob killed at any moment: both hold identical keys afterwards, or none; nothing is used twice."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from link_in_memory import ROLES, Link, Moments, blocks_of, check, install

from qepa_qkd.config import Role

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
    assert 0 < len(blocks_of(link.ends["alice"])) < fatal


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
