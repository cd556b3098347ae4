"""A patient made to be found: the worst that clipping lets anyone send, sealed by the wire's own code, over and over.

The attacker knows the canary and what all others sent, so that only the noise of the shares is in his way. A cell has
the fewest boards that open. In a trial the canary's board sends its words in every round, or zeros in every one; the
attacker's figure is what came out, summed along the canary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np

from qepa_board.learning.learn import DELTA_LIMIT
from qepa_wire.discrete_gaussian import DiscreteGaussian
from qepa_wire.quantizer import NEAREST, Quantizer, clip_l2

from .membership import Floats
from .protection import Protection

_N_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """What the attacker computes of worlds with the canary and without it; larger speaks for it."""

    present: Floats
    absent: Floats


def canary_words(protection: Protection, n_words: int) -> list[int]:
    """Return an update of the canary as its board would clip and quantize it.

    Before clipping all words are at the board's limit of a word; as many are used as clipping leaves whole, so that its
    length is the bound's: four of 1024 for 2048.
    """
    spec = protection.spec
    words = [0] * n_words
    used = min(n_words, max(1, (spec.clip_norm // DELTA_LIMIT) ** 2)) if spec.clip_norm else n_words
    words[:used] = [DELTA_LIMIT] * used
    return seal(words, protection)


def seal(words: list[int], protection: Protection) -> list[int]:
    """Return words as boards clip and quantize them, noise aside."""
    spec = protection.spec
    held = list(clip_l2(words, spec.clip_norm)) if spec.clip_norm else words
    quantizer = Quantizer(spec.bound, spec.q_max, _N_MAX, NEAREST, noise_q8=spec.noise_q8)
    return [quantizer.quantize(word) for word in held]


def run_trials(
    protection: Protection,
    sealed: list[int],
    trials: int,
    seed: int,
    advanced: Callable[[int], None] = lambda _trials: None,
) -> Trials:
    """Run ``trials`` worlds with and as many without a canary that sends ``sealed``; ``advanced`` counts both.

    The noise is the boards' own sampler over a seeded generator, a stand-in for their random number generator.
    """
    random = Random(seed)  # noqa: S311  # an experiment to repeat, no key
    source = DiscreteGaussian(protection.noise_q8, random.getrandbits)
    shares = protection.min_group * protection.rounds
    weights = [word for word in sealed if word]
    signal = protection.rounds * sum(word * word for word in weights)

    def statement(carried: int) -> float:
        noise = sum(weight * sum(source.sample() for _ in range(shares)) for weight in weights)
        return float(noise + carried)

    found: list[list[float]] = [[], []]
    for _ in range(trials):
        for side, carried in zip(found, (signal, 0), strict=True):
            side.append(statement(carried))
            advanced(1)
    return Trials(present=np.array(found[0]), absent=np.array(found[1]))
