"""Both KMEs of a link, killed with SIGKILL hundreds of times at random points: every key once, none lost."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from kme_under_kill import open_delivery

Request = dict[str, Any]
Keys = list[tuple[str, str]]
"""Identifiers and values."""

LIVES = 150
"""Of each end."""
BLOCK_BYTES = 16_000
LONGEST_LIFE_S = 0.04


class Victim:
    """One KME that is killed again and again."""

    def __init__(self, role: str, directory: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("kme_under_kill.py")), role, str(directory)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def live(self, requests: list[Request], delay_s: float) -> list[dict[str, Any]]:
        """Let it answer `requests` for `delay_s`; return the answers that came out."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"delay_s": delay_s, "requests": requests}) + "\n")
        self.process.stdin.flush()
        answers = []
        while line := self.process.stdout.readline().rstrip("\n"):  # lines this short are written whole
            answers.append(json.loads(line))
        return answers

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(100) == 0


def answer_all(victim: Victim, requests: list[Request], rng: random.Random) -> tuple[dict[str, Keys], int]:
    """Send requests, each again until it is answered; return the answers by identifier and how many lives it took."""
    answers: dict[str, Keys] = {}
    lives = 0
    while waiting := [request for request in requests if request["id"] not in answers]:
        # Lives grow until one gets anything done: the machine may be slow.
        delay_s = rng.uniform(0, LONGEST_LIFE_S) * (1 + lives / LIVES)
        for answer in victim.live(waiting[:8], delay_s):
            assert isinstance(answer["keys"], list), answer["keys"]
            answers[answer["id"]] = [(key_id, value) for key_id, value in answer["keys"]]
        lives += 1
    return answers, lives


def test_no_key_is_given_twice_or_lost_however_often_both_ends_are_killed(tmp_path: Path) -> None:
    rng = random.Random(1)
    for role in ("alice", "bob"):
        vault, _ = open_delivery(role, tmp_path)
        for block_id in range(1, 5):
            vault.store_block(block_id << 40, random.Random(block_id).randbytes(BLOCK_BYTES), 0, "{}", live=True)
        vault.close()
    alice, bob = Victim("alice", tmp_path), Victim("bob", tmp_path)
    given: list[tuple[str, str]] = []
    redeemed: list[tuple[str, str]] = []
    lives = {"alice": 0, "bob": 0}
    batch = 0
    while min(lives.values()) < LIVES:
        batch += 1
        numbers = {f"{batch}-{i}": rng.randint(1, 3) for i in range(16)}
        requests = [{"id": name, "number": number} for name, number in numbers.items()]
        answers, took = answer_all(alice, requests, rng)
        lives["alice"] += took
        assert [len(answers[name]) for name in numbers] == list(numbers.values())
        given += [key for keys in answers.values() for key in keys]
        fetches = [{"id": name, "key_ids": [key_id for key_id, _ in keys]} for name, keys in answers.items()]
        fetched, took = answer_all(bob, fetches, rng)
        lives["bob"] += took
        redeemed += [key for keys in fetched.values() for key in keys]
    alice.close()
    bob.close()
    assert len({value for _, value in given}) == len({key_id for key_id, _ in given}) == len(given)
    assert sorted(redeemed) == sorted(given)
    figures = []
    for role in ("alice", "bob"):
        vault, _ = open_delivery(role, tmp_path)
        figures.append((vault.keys.stock_bits(), vault.keys.figures().consumed_bits))
        vault.close()
    assert figures == [(8 * 4 * BLOCK_BYTES - 256 * len(given), 256 * len(given))] * 2
