"""Cascade on many blocks: `python -m qepa_tools.benchmarks.cascade_blocks 1000000 400 --seed 90000`.

How many exchanges a block takes, how much it leaks and how often it stays wrong before its hash is compared shows only
over many blocks; `qepa bench link` measures the time of a few.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import track

from qepa_qkd.cascade import CascadeCorrector, CascadeReference

from .link import QBER, shannon_bits


def correct(bit_count: int, seed: int) -> tuple[int, float, bool]:
    """Return exchanges, leak over the Shannon limit of the errors there were, and whether both ends agree."""
    rng = np.random.default_rng(seed)
    alice = rng.integers(0, 2, bit_count, dtype=np.uint8)
    wrong = (rng.random(bit_count) < QBER).astype(np.uint8)
    key = rng.bytes(16)
    reference, corrector = CascadeReference(alice, key, QBER), CascadeCorrector(alice ^ wrong, key, QBER)
    while (question := corrector.request()) is not None:
        corrector.receive(question, reference.answer(question))
    leak = corrector.leak_bits / shannon_bits(wrong)
    return corrector.exchanges, leak, np.array_equal(corrector.bits, alice)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m qepa_tools.benchmarks.cascade_blocks", description=__doc__)
    parser.add_argument("bits", type=int)
    parser.add_argument("blocks", type=int)
    parser.add_argument("--seed", type=int, default=0, help="of the first block; each has the next")
    options = parser.parse_args(arguments)
    seeds = range(options.seed, options.seed + options.blocks)
    blocks = [correct(options.bits, seed) for seed in track(seeds, "blocks", console=Console(stderr=True))]
    exchanges, leaks, right = (np.array(column, float) for column in zip(*blocks, strict=True))
    error = leaks.std() / len(leaks) ** 0.5
    print(f"{options.blocks} blocks of {options.bits} bits, QBER {100 * QBER:.0f} %, seeds from {options.seed}")
    print(f"exchanges: mean {exchanges.mean():.0f}, most {exchanges.max():.0f}, over 200: {(exchanges > 200).sum()}")
    print(f"f: {leaks.mean():.4f} +- {error:.4f};  wrong before their hash is compared: {int((right == 0).sum())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
