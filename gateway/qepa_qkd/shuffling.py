"""A random order of the bits of a block that takes no table: a bijection drawn by a public seed."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qepa_jit.kernels import kernel

Array = npt.NDArray[Any]

CHUNK: Final = 4096


@kernel
def mix(first: int, keys: Array, width: int, n: int, out: Array) -> int:
    """Fill `out` with images of first, first + 1, ... under a bijection of `width`-bit numbers drawn by `keys`.

    Those below `n` come first, in order; return how many.
    """
    mask = np.uint32((1 << width) - 1)
    shift = np.uint32((width + 1) // 2)
    k0, k1, k2, k3 = keys[0], keys[1] | np.uint32(1), keys[2] | np.uint32(1), keys[3] | np.uint32(1)
    k4 = keys[4]
    for j in range(len(out)):
        y = np.uint32(np.uint32(first + j) * k1 + k0) & mask
        y ^= y >> shift
        y = np.uint32(y * k2 + k4) & mask
        y ^= y >> shift
        y = np.uint32(y * k3) & mask
        out[j] = y ^ (y >> shift)
    count = 0
    for j in range(len(out)):
        image = out[j]
        out[count] = image
        count += image < n
    return count


@kernel
def width_of(n: int) -> int:
    """Bits that number n things."""
    width = 1
    while 1 << width < n:
        width += 1
    return width


@kernel
def shuffle(keys: Array, bits: Array, out: Array, back: bool) -> None:
    """Write `bits` to `out` in the random order of `keys` (5 uint32), or from that order `back` to the original.

    The order is a bijection of the next power of two, made of multiplications and shifts, without numbers that are no
    bits.
    """
    n, j = len(bits), 0
    width = width_of(n)
    images = np.empty(min(CHUNK, 1 << width), np.uint32)
    for first in range(0, 1 << width, len(images)):
        count = mix(first, keys, width, n, images)
        if back:
            for k in range(count):
                out[images[k]] = bits[j + k]
        else:
            for k in range(count):
                out[j + k] = bits[images[k]]
        j += count
