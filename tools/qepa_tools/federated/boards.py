"""What boards put into a round: clipped, quantized, with their share of noise.

Board by board with the board's own functions, and for many settings quickly; noise aside both give the same words.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from qepa_uplink.messages import StreamSpec
from qepa_wire.discrete_gaussian import Q8, DiscreteGaussian
from qepa_wire.quantizer import Quantizer, clip_l2

from ..attacks.batch_learning import clip_l2_rows

Ints = NDArray[np.int64]


def board_words(updates: NDArray[np.int32], spec: StreamSpec, n_max: int) -> Ints:
    """Return each board's words, a row each, noise aside: as qepa_board.streams.rounds, one board a patient."""
    quantizer = Quantizer(spec.bound, spec.q_max, n_max, spec.rounding, None, spec.noise_q8)
    rows = []
    for update in updates.tolist():
        values: Sequence[int] = clip_l2(update, spec.clip_norm) if spec.clip_norm else update
        rows.append([quantizer.quantize(value) for value in values])
    return np.array(rows, np.int64)


def quick_words(updates: NDArray[np.int32], spec: StreamSpec) -> Ints:
    """Return the same as :func:`board_words`, all boards at once, for bounds up to 2^20 and rounding to nearest."""
    clipped = clip_l2_rows(updates, spec.clip_norm) if spec.clip_norm else updates
    held = np.clip(clipped, -spec.bound, spec.bound).astype(np.float64)
    return np.rint(held * spec.q_max / spec.bound).astype(np.int64)


def exact_noise(shape: tuple[int, ...], noise_q8: int, random_bits: Callable[[int], int]) -> Ints:
    """Return draws of the boards' own sampler."""
    sampler = DiscreteGaussian(noise_q8, random_bits)
    return np.array([sampler.sample() for _ in range(int(np.prod(shape)))], np.int64).reshape(shape)


def quick_noise(shape: tuple[int, ...], noise_q8: int, rng: np.random.Generator) -> Ints:
    """Return rounded Gaussian draws of the same variance: for choosing settings, never for what is shown or sent."""
    return np.rint(rng.normal(0.0, (noise_q8 / Q8) ** 0.5, shape)).astype(np.int64)
