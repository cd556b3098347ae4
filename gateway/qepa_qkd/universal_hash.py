"""Polynomial universal hash over the prime field of p = 2^127 - 1, for verification and authentication.

A message of L bytes becomes its length and ceil(L / 15) field elements, the coefficients of a polynomial; the hash is
its value at a secret random point. Two different messages collide, and differ by any chosen amount, for at most
(ceil(L / 15) + 1) of the p points: the family is epsilon-almost-delta-universal (Carter and Wegman 1979; Stinson
1994). Zero, where every message hashes to zero, is one of these points: a key that is drawn uniformly is not tested for
it, the bound covers it. Of 2^128 keys three lead to 0 and to 1 and two to any other point, which adds one point's
probability to the bound.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qepa_jit.kernels import kernel

PRIME: Final = (1 << 127) - 1
_CHUNK: Final = 15
_COMPILED_FROM_BYTES: Final = 512
"""Shorter parts are not worth the call."""
_WORD: Final = np.uint64(32)
_MASK: Final = np.uint64(0xFFFFFFFF)
_TOP: Final = np.uint64(31)
_TOP_MASK: Final = np.uint64(0x7FFFFFFF)
_ONE: Final = np.uint64(1)


class PolynomialHash:
    """Hash of a message that arrives in parts; parts are hashed with their lengths, so borders matter."""

    __slots__ = ("_elements", "_point", "_value")

    def __init__(self, point: bytes) -> None:
        """`point` is 16 secret random bytes, uniform: the bounds hold for no other."""
        if len(point) != 16:
            raise ValueError("a hash key has 16 bytes")
        self._point = int.from_bytes(point, "little") % PRIME
        self._value = 0
        self._elements = 0

    def update(self, part: bytes) -> None:
        """Append one part."""
        value, point = self._value, self._point
        value = (value + len(part) + 1) * point % PRIME
        whole = len(part) - len(part) % _CHUNK if len(part) >= _COMPILED_FROM_BYTES else 0
        if whole:
            chunks = np.frombuffer(part, np.uint8, whole)
            value = _number(_horner(_words(value), _words(point), chunks))
        for start in range(whole, len(part), _CHUNK):
            value = (value + int.from_bytes(part[start : start + _CHUNK], "little")) * point % PRIME
        self._value = value
        self._elements += _elements(len(part))

    def value(self) -> int:
        """The hash of what was appended so far, in [0, PRIME)."""
        return self._value

    def collision_probability(self) -> float:
        """Upper bound, over the random key, that another message of at most this length has the same hash."""
        return (self._elements + 2) / PRIME


def collision_probability(*part_bytes: int) -> float:
    """The same bound for parts of these lengths, without hashing them."""
    return (sum(_elements(length) for length in part_bytes) + 2) / PRIME


def _elements(part_bytes: int) -> int:
    return 1 + -(-part_bytes // _CHUNK)


def _words(value: int) -> npt.NDArray[np.uint64]:
    """Four words of 32 bits, lowest first."""
    return np.array([value >> shift & 0xFFFFFFFF for shift in (0, 32, 64, 96)], np.uint64)


def _number(words: npt.NDArray[np.uint64]) -> int:
    return sum(int(word) << 32 * i for i, word in enumerate(words)) % PRIME


@kernel
def _horner(value: Any, point: Any, data: Any) -> Any:
    """Append 15-byte chunks: value = (value + chunk) point mod p for each; words of 32 bits in and out."""
    v0, v1, v2, v3 = value[0], value[1], value[2], value[3]
    p0, p1, p2, p3 = point[0], point[1], point[2], point[3]
    words = np.empty(4, np.uint64)
    for start in range(0, len(data), _CHUNK):
        for w in range(4):
            word = np.uint64(0)
            for b in range(3 if w == 3 else 4):
                word |= np.uint64(data[start + 4 * w + b]) << np.uint64(8 * b)
            words[w] = word
        v0 += words[0]
        v1 += words[1] + (v0 >> _WORD)
        v2 += words[2] + (v1 >> _WORD)
        v3 += words[3] + (v2 >> _WORD)
        v0, v1, v2 = v0 & _MASK, v1 & _MASK, v2 & _MASK
        # Schoolbook product, a row a word of the value; a row's carry fits because (2^32 - 1)^2 + 2 (2^32 - 1) < 2^64.
        t = v0 * p0
        r0, t = t & _MASK, v0 * p1 + (t >> _WORD)
        r1, t = t & _MASK, v0 * p2 + (t >> _WORD)
        r2, t = t & _MASK, v0 * p3 + (t >> _WORD)
        r3, r4 = t & _MASK, t >> _WORD
        t = v1 * p0 + r1
        r1, t = t & _MASK, v1 * p1 + r2 + (t >> _WORD)
        r2, t = t & _MASK, v1 * p2 + r3 + (t >> _WORD)
        r3, t = t & _MASK, v1 * p3 + r4 + (t >> _WORD)
        r4, r5 = t & _MASK, t >> _WORD
        t = v2 * p0 + r2
        r2, t = t & _MASK, v2 * p1 + r3 + (t >> _WORD)
        r3, t = t & _MASK, v2 * p2 + r4 + (t >> _WORD)
        r4, t = t & _MASK, v2 * p3 + r5 + (t >> _WORD)
        r5, r6 = t & _MASK, t >> _WORD
        t = v3 * p0 + r3
        r3, t = t & _MASK, v3 * p1 + r4 + (t >> _WORD)
        r4, t = t & _MASK, v3 * p2 + r5 + (t >> _WORD)
        r5, t = t & _MASK, v3 * p3 + r6 + (t >> _WORD)
        r6, r7 = t & _MASK, t >> _WORD
        # 2^127 = 1: add the bits from 127 on to those below.
        v0 = r0 + ((r3 >> _TOP) | (r4 << _ONE & _MASK))
        v1 = r1 + ((r4 >> _TOP) | (r5 << _ONE & _MASK)) + (v0 >> _WORD)
        v2 = r2 + ((r5 >> _TOP) | (r6 << _ONE & _MASK)) + (v1 >> _WORD)
        v3 = (r3 & _TOP_MASK) + ((r6 >> _TOP) | (r7 << _ONE & _MASK)) + (v2 >> _WORD)
        v0 = (v0 & _MASK) + (v3 >> _TOP)
        v1 = (v1 & _MASK) + (v0 >> _WORD)
        v2 = (v2 & _MASK) + (v1 >> _WORD)
        v3 = (v3 & _TOP_MASK) + (v2 >> _WORD)
        v0, v1, v2 = v0 & _MASK, v1 & _MASK, v2 & _MASK
    return np.array([v0, v1, v2, v3], np.uint64)
