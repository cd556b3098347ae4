"""Privacy amplification by a random Toeplitz matrix, exact.

Row i of the matrix is seed[i], ..., seed[i + n - 1] read backwards, so the product is a slice of the convolution of
seed and bits (Krawczyk 1994; leftover hashing: Tomamichel et al. 2011). The convolution runs in floating point and is
rounded; its error is bounded by the rounding guard, and a block that comes near the bound is refused, never rounded
on faith.
"""

import numpy as np
import numpy.typing as npt

from qepa_qkd.errors import NoKey

Bits = npt.NDArray[np.uint8]

ROUNDING_GUARD = 0.125
"""Largest distance from an integer that still counts as that integer; below 0.5 with room to spare."""


def seed_bits(input_bits: int, output_bits: int) -> int:
    """Random bits one matrix takes: n + l - 1."""
    return input_bits + output_bits - 1


def toeplitz_hash(bits: Bits, seed: Bits, output_bits: int) -> Bits:
    """Return the product of the `output_bits` x n Toeplitz matrix of `seed` with `bits`, mod 2.

    `bits` (n) and `seed` (n + l - 1) hold 0 and 1. out[i] = sum over j of seed[i + n - 1 - j] bits[j] mod 2.
    Raises ValueError on a wrong shape and NoKey when the arithmetic leaves the rounding guard.
    """
    n = len(bits)
    if n == 0 or output_bits < 1 or len(seed) != seed_bits(n, output_bits):
        raise ValueError("a Toeplitz seed has n + l - 1 bits")
    # The wanted outputs are convolution terms n-1 .. n+l-2, which a cyclic convolution of this length leaves unwrapped.
    size = _fast_length(len(seed))
    product = np.fft.irfft(np.fft.rfft(seed, size) * np.fft.rfft(bits, size), size)[n - 1 : n - 1 + output_bits]
    whole = np.rint(product)
    if float(np.max(np.abs(product - whole))) > ROUNDING_GUARD:
        raise NoKey("privacy amplification left the rounding guard")
    return (whole.astype(np.int64) & 1).astype(np.uint8)


def _fast_length(at_least: int) -> int:
    """Smallest 2^a 3^b 5^c that is at least `at_least`: a length the FFT is fast for."""
    best = 1 << (at_least - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            quotient = -(-at_least // three)
            best = min(best, three << (quotient - 1).bit_length())
            three *= 3
        five *= 5
    return best
