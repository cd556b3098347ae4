"""Random subsets of the bits: what is left after the passes shows in the parity of each with probability one half.

A bit's membership in 32 subsets is a 32-bit mix of its index and a key (the finalizer of MurmurHash3, keyed twice), so
a subset takes no memory and the parities of all of them over a range take one sweep.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qepa_jit.kernels import kernel

Bits = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

SUBSETS: Final = 17
"""Errors are left in pairs, a dozen in a large block. A pair stays unseen with probability 2^-17: well below one block
in a thousand."""
_STEP: Final = 256


@kernel
def _member(i: int, k0: int, k1: int) -> np.uint32:
    """Subsets that bit `i` belongs to, as 32 bits."""
    x = np.uint32(i) ^ np.uint32(k0)
    x ^= x >> np.uint32(16)
    x = np.uint32(x * np.uint32(0x85EBCA6B))
    x ^= (x >> np.uint32(13)) ^ np.uint32(k1)
    x = np.uint32(x * np.uint32(0xC2B2AE35))
    return x ^ (x >> np.uint32(16))


@kernel
def _sweep(bits: Array, k0: int, k1: int) -> Array:
    """Parities of all subsets over the first 0, 256, 512, ... bits."""
    n = len(bits)
    out = np.zeros(n // _STEP + 1, np.uint32)
    x = np.uint32(0)
    for step in range(n // _STEP):
        for i in range(step * _STEP, (step + 1) * _STEP):
            x ^= _member(i, k0, k1) & (np.uint32(0) - np.uint32(bits[i]))
        out[step + 1] = x
    return out


@kernel
def _parities(bits: Array, sums: Array, k0: int, k1: int, subsets: Array, starts: Array, ends: Array) -> Array:
    out = np.empty(len(subsets), np.uint8)
    for j in range(len(subsets)):
        x = np.uint32(0)
        for bound in (starts[j], ends[j]):
            step = bound // _STEP
            x ^= sums[step]
            for i in range(step * _STEP, bound):
                x ^= _member(i, k0, k1) & (np.uint32(0) - np.uint32(bits[i]))
        out[j] = x >> np.uint32(subsets[j]) & np.uint32(1)
    return out


class RandomSubsets:
    """Parities of `SUBSETS` random subsets of `bits` over ranges; `key` is 8 bytes, the same at both ends."""

    def __init__(self, bits: Bits, key: bytes) -> None:
        self._bits = bits
        self._keys = int.from_bytes(key[:4], "little"), int.from_bytes(key[4:8], "little")
        self._sums = _sweep(bits, *self._keys)

    def parities(self, subsets: Array, starts: Array, ends: Array) -> Bits:
        """One parity a row: of the members of `subsets` in [starts, ends)."""
        return _parities(self._bits, self._sums, *self._keys, subsets, starts, ends)

    def refresh(self) -> None:
        """The bits have changed."""
        self._sums = _sweep(self._bits, *self._keys)
