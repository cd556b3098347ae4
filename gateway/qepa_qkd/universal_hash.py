"""Polynomial universal hash over the prime field of p = 2^127 - 1, for verification and authentication.

A message of L bytes becomes its length and ceil(L / 15) field elements, the coefficients of a polynomial; the hash is
its value at a secret random point. Two different messages collide, and differ by any chosen amount, for at most
(ceil(L / 15) + 1) of the p points: the family is epsilon-almost-delta-universal (Carter and Wegman 1979; Stinson
1994).
"""

from typing import Final

PRIME: Final = (1 << 127) - 1
_CHUNK: Final = 15


class PolynomialHash:
    """Hash of a message that arrives in parts; parts are hashed with their lengths, so borders matter."""

    __slots__ = ("_elements", "_point", "_value")

    def __init__(self, point: bytes) -> None:
        """`point` is 16 secret random bytes."""
        if len(point) != 16:
            raise ValueError("a hash key has 16 bytes")
        self._point = int.from_bytes(point, "little") % PRIME
        self._value = 0
        self._elements = 0

    def update(self, part: bytes) -> None:
        """Append one part."""
        value, point = self._value, self._point
        value = (value + len(part) + 1) * point % PRIME
        for start in range(0, len(part), _CHUNK):
            value = (value + int.from_bytes(part[start : start + _CHUNK], "little")) * point % PRIME
        self._value = value
        self._elements += 1 + -(-len(part) // _CHUNK)

    def value(self) -> int:
        """The hash of what was appended so far, in [0, PRIME)."""
        return self._value

    def collision_probability(self) -> float:
        """Upper bound, over the random point, that another message of at most this length has the same hash."""
        return (self._elements + 2) / PRIME
