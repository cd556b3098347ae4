"""Small blocks, many of them: the ends hold the same bits afterwards, or verification says that they do not.

2,000 blocks by default; QEPA_SMALL_BLOCKS says how many. Run as a program it prints what it counted.
"""

import os
from dataclasses import dataclass

import numpy as np

from qepa_qkd.reconciliation import METHODS
from qepa_qkd.verification import make_tag

BLOCKS = int(os.environ.get("QEPA_SMALL_BLOCKS", "2000"))


@dataclass
class Counts:
    """What came of the blocks."""

    blocks: int = 0
    left_wrong: int = 0
    """Blocks in which correction left errors."""
    passed_wrong: int = 0
    """Blocks with errors that verification let pass."""
    refused_right: int = 0
    """Blocks without errors that verification refused."""
    leaks_differ: int = 0
    """Blocks whose ends count different leaks, or not what was told."""


def correct_blocks(blocks: int, seed: int = 0) -> Counts:
    """Correct `blocks` blocks of 100 to 2,000 bits with 0 to 9 % errors, their rate misjudged by up to a factor 2."""
    counts, method = Counts(), METHODS["cascade"]
    for number in range(blocks):
        rng = np.random.default_rng([seed, number])
        n, rate = int(rng.integers(100, 2001)), rng.uniform(0, 0.09)
        alice = rng.integers(0, 2, n, dtype=np.uint8)
        bob = alice ^ (rng.random(n) < rate).astype(np.uint8)
        key, assumed = rng.bytes(16), max(1e-3, rate * rng.uniform(0.5, 2))
        reference, corrector = method.reference(alice, key, assumed), method.corrector(bob, key, assumed)
        told = 0
        while (question := corrector.request()) is not None:
            parities = reference.answer(question)
            told += len(parities)
            corrector.receive(question, parities)
        right = np.array_equal(corrector.bits, alice)
        passed = make_tag(rng.bytes(16), alice).matches(corrector.bits)
        counts.blocks += 1
        counts.left_wrong += not right
        counts.passed_wrong += passed and not right
        counts.refused_right += right and not passed
        counts.leaks_differ += not told == reference.leak_bits == corrector.leak_bits
    return counts


def test_ends_are_alike_or_verification_says_so() -> None:
    counts = correct_blocks(BLOCKS)
    assert counts.blocks == BLOCKS
    assert counts.passed_wrong == counts.refused_right == counts.leaks_differ == 0
    assert counts.left_wrong <= 1 + BLOCKS / 1000


if __name__ == "__main__":
    print(correct_blocks(BLOCKS))
