"""Privacy amplification by a random Toeplitz matrix, exact.

Row i of the matrix is seed[i], ..., seed[i + n - 1] read backwards (Krawczyk 1994; leftover hashing: Tomamichel et al.
2011). The matrix is cut into squares, which are Toeplitz again and alike along diagonals: the spectrum of a diagonal
serves all its squares, products are summed as spectra, and all transforms are short enough to stay in the cache.
Transforms run in floating point and sums are rounded. Their error is bounded (`error_bound`), which at 10 million bits
is below a millionth, and it is measured all the same: a block that comes near the rounding guard is refused, never
rounded on faith.
"""

from math import ceil, log2, sqrt
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.fft

from qepa_jit.kernels import kernel
from qepa_qkd.errors import NoKey
from qepa_qkd.workspace import Workspace, borrowed

Bits = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

ROUNDING_GUARD: Final = 0.125
"""Largest distance from an integer that still counts as that integer; below 0.5 with room to spare."""
LARGEST_SQUARE: Final = 100_000
_FEW_BITS: Final = 4_000_000
"""Up to here smaller squares are faster: products are few, transforms count."""
_ROWS: Final = 4
"""Transformed together."""
_TILE: Final = 256
"""Frequencies summed together: the spectra of a tile stay in the cache."""


def seed_bits(input_bits: int, output_bits: int) -> int:
    """Random bits one matrix takes: n + l - 1."""
    return input_bits + output_bits - 1


def square_side(input_bits: int, output_bits: int) -> int:
    """Rows and columns of the squares that the matrix is cut into."""
    longer = max(input_bits, output_bits)
    return min(longer, LARGEST_SQUARE if longer > _FEW_BITS else LARGEST_SQUARE // 2)


def error_bound(input_bits: int, output_bits: int) -> float:
    """Largest error of a sum before it is rounded, for transforms of radix 2.

    Percival, "Rapid multiplication modulo the sum and difference of highly composite numbers", Math. Comp. 72 (2003),
    theorem 5.1: |x| |y| ((1 + u)^3k (1 + u sqrt 5)^(3k+1) (1 + v)^3k - 1) with 2^k points, unit roundoff u and roots of
    unity good to v, here taken as u. Norms are those of bits that are all 1; each product added may round once more.
    """
    u = 2.0**-53
    side = square_side(input_bits, output_bits)
    products = -(-input_bits // side)
    k = ceil(log2(2 * side))
    growth = 3 * k * u + (3 * k + 1) * sqrt(5) * u + 3 * k * u + products * u
    return products * sqrt(side * 2 * side) * growth * (1 + growth)


def toeplitz_hash(bits: Bits, seed: Bits, output_bits: int) -> Bits:
    """Return the product of the `output_bits` x n Toeplitz matrix of `seed` with `bits`, mod 2.

    `bits` (n) and `seed` (n + l - 1) hold 0 and 1. out[i] = sum over j of seed[i + n - 1 - j] bits[j] mod 2.
    Raises ValueError on a wrong shape and NoKey when the arithmetic leaves the rounding guard.
    """
    n = len(bits)
    if n == 0 or output_bits < 1 or len(seed) != seed_bits(n, output_bits):
        raise ValueError("a Toeplitz seed has n + l - 1 bits")
    side = square_side(n, output_bits)
    across, down = -(-n // side), -(-output_bits // side)
    # The wanted terms of a square's convolution are side-1 .. 2 side-2: unwrapped in a cyclic one of this size.
    size = scipy.fft.next_fast_len(2 * side - 1, real=True)
    columns = np.zeros(across * side, np.uint8)
    columns[:n] = bits
    # Zeros in the seed stand where zeros in `columns` or rows that nobody wants meet it.
    padded = np.zeros((across + down) * side - 1, np.uint8)
    padded[across * side - n : across * side - n + len(seed)] = seed
    diagonals = np.lib.stride_tricks.sliding_window_view(padded, 2 * side - 1)[::side]
    with borrowed() as memory:
        sums = _sum_products(memory, columns.reshape(across, side), diagonals, size)
        return _parities(sums, side, size)[:output_bits]


def _sum_products(memory: Workspace, columns: Bits, diagonals: Bits, size: int) -> Array:
    """Spectra of all rows of squares; in `memory`."""
    across, down, width = len(columns), len(diagonals) + 1 - len(columns), size // 2 + 1
    padding = memory.array("padding", _ROWS * size, np.float64).reshape(_ROWS, size)
    spectra, some, sums = (
        memory.array(name, rows * 2 * width, np.float64).reshape(rows, 2, width)
        for name, rows in (("spectra", across), ("some spectra", _ROWS), ("sums", down))
    )
    padding[:], sums[:] = 0, 0
    _transform(columns, padding, spectra)
    for first in range(0, len(diagonals), _ROWS):
        group = diagonals[first : first + _ROWS]
        _transform(group, padding, some)
        _add_products(spectra, some[: len(group)], first, sums)
    return sums


def _parities(sums: Array, side: int, size: int) -> Bits:
    """Transform back and round. Raises NoKey."""
    out = np.empty(len(sums) * side, np.uint8)
    for row, (real, imaginary) in enumerate(sums):
        terms = scipy.fft.irfft(real + 1j * imaginary, size)[side - 1 : 2 * side - 1]
        if _round(terms, out[row * side : (row + 1) * side]) > ROUNDING_GUARD:
            raise NoKey("privacy amplification left the rounding guard")
    return out


def _transform(rows: Bits, padded: npt.NDArray[np.float64], out: npt.NDArray[np.float64]) -> None:
    """Write real transforms of rows of bits to `out`, (rows, 2, frequencies): real parts, imaginary parts.

    `padded` has `_ROWS` rows of the transform's length, zeros behind the length of `rows`.
    """
    for first in range(0, len(rows), _ROWS):
        some = rows[first : first + _ROWS]
        padded[: len(some), : rows.shape[1]] = some
        spectra = scipy.fft.rfft(padded[: len(some)], axis=1)
        out[first : first + len(some), 0] = spectra.real
        out[first : first + len(some), 1] = spectra.imag


@kernel
def _add_products(spectra: Array, diagonals: Array, first: int, sums: Array) -> None:
    """Add to each row of squares its products with diagonals first, first + 1, ...: diagonal 0 is bottom left."""
    across, down, width = len(spectra), len(sums), sums.shape[2]
    for start in range(0, width, _TILE):
        end = min(start + _TILE, width)
        for d in range(len(diagonals)):
            offset = first + d - (across - 1)
            b_real, b_imaginary = diagonals[d, 0][start:end], diagonals[d, 1][start:end]
            for row in range(max(0, offset), min(down, across + offset)):
                a_real, a_imaginary = spectra[row - offset, 0][start:end], spectra[row - offset, 1][start:end]
                real, imaginary = sums[row, 0][start:end], sums[row, 1][start:end]
                for f in range(len(real)):
                    real[f] += a_real[f] * b_real[f] - a_imaginary[f] * b_imaginary[f]
                    imaginary[f] += a_real[f] * b_imaginary[f] + a_imaginary[f] * b_real[f]


@kernel
def _round(terms: Array, out: Array) -> float:
    """Write the parities of the integers nearest to `terms`; return the largest distance from one."""
    furthest = 0.0
    for i in range(len(out)):
        whole = np.rint(terms[i])
        furthest = max(furthest, abs(terms[i] - whole))
        out[i] = np.int64(whole) & 1
    return furthest
