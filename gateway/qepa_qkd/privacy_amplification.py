"""Privacy amplification by a random Toeplitz matrix, exact.

Row i of the matrix is seed[i], ..., seed[i + n - 1] read backwards, so the product is a slice of the convolution of
seed and bits (Krawczyk 1994; leftover hashing: Tomamichel et al. 2011). The convolution runs in floating point and is
rounded. Its error is bounded (`error_bound`), which at 10 million bits is below a millionth, and it is measured all the
same: a block that comes near the rounding guard is refused, never rounded on faith.

The input is cut into parts whose spectra are added before the one transform back: sum over parts of 2 transforms of
n / parts + l points, and one more.
"""

from math import ceil, log2, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft

from qepa_qkd.errors import NoKey

Bits = npt.NDArray[np.uint8]

ROUNDING_GUARD: Final = 0.125
"""Largest distance from an integer that still counts as that integer; below 0.5 with room to spare."""


def seed_bits(input_bits: int, output_bits: int) -> int:
    """Random bits one matrix takes: n + l - 1."""
    return input_bits + output_bits - 1


def error_bound(input_bits: int, output_bits: int) -> float:
    """Largest error of a term of the convolution, for transforms of radix 2.

    Percival, "Rapid multiplication modulo the sum and difference of highly composite numbers", Math. Comp. 72 (2003),
    theorem 5.1: |x| |y| ((1 + u)^3k (1 + u sqrt 5)^(3k+1) (1 + v)^3k - 1) with 2^k points, unit roundoff u and roots of
    unity good to v, here taken as u. Norms are those of bits that are all 1.
    """
    u = 2.0**-53
    k = ceil(log2(seed_bits(input_bits, output_bits)))
    growth = 3 * k * u + (3 * k + 1) * sqrt(5) * u + 3 * k * u
    return sqrt(input_bits * seed_bits(input_bits, output_bits)) * growth * (1 + growth)


def toeplitz_hash(bits: Bits, seed: Bits, output_bits: int) -> Bits:
    """Return the product of the `output_bits` x n Toeplitz matrix of `seed` with `bits`, mod 2.

    `bits` (n) and `seed` (n + l - 1) hold 0 and 1. out[i] = sum over j of seed[i + n - 1 - j] bits[j] mod 2.
    Raises ValueError on a wrong shape and NoKey when the arithmetic leaves the rounding guard.
    """
    n = len(bits)
    if n == 0 or output_bits < 1 or len(seed) != seed_bits(n, output_bits):
        raise ValueError("a Toeplitz seed has n + l - 1 bits")
    # 2 n + n / parts + 2 parts l + l points are transformed; one part more than the least saves memory and cache.
    parts = ceil(sqrt(n / (2 * output_bits)) + 0.5)
    length = -(-n // parts)
    # The wanted outputs are convolution terms length-1 .. length+l-2: unwrapped in a cyclic convolution of this size.
    size = scipy.fft.next_fast_len(seed_bits(length, output_bits), real=True)
    spectrum = np.zeros(size // 2 + 1, np.complex128)
    for start in range(0, n, length):
        part = bits[start : start + length]
        # Bit start + j meets seed[i + n - 1 - start - j]; a shorter last part counts as if zeros followed it.
        first = n - start - length
        under = seed[max(0, first) : first + seed_bits(length, output_bits)]
        product = _spectrum(under, size, max(0, -first))
        product *= _spectrum(part, size)
        spectrum += product
    sums = scipy.fft.irfft(spectrum, size, overwrite_x=True)[length - 1 : length - 1 + output_bits]
    whole: npt.NDArray[np.float64] = np.rint(sums)
    if float(np.max(np.abs(sums - whole))) > ROUNDING_GUARD:
        raise NoKey("privacy amplification left the rounding guard")
    return (whole.astype(np.int64) & 1).astype(np.uint8)


def _spectrum(bits: Bits, size: int, at: int = 0) -> npt.NDArray[np.complex128]:
    """Real transform of `bits`, placed `at` an offset in `size` zeros."""
    padded = np.zeros(size)
    padded[at : at + len(bits)] = bits
    spectrum: npt.NDArray[np.complex128] = scipy.fft.rfft(padded, overwrite_x=True)
    return spectrum
