"""LightHE on numpy, for those who add and open: the same bytes as qepa_wire.lighthe, many vectors at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_wire.keystream import DOMAIN_CHECK, DOMAIN_MASK, counter_blocks
from qepa_wire.lighthe import CHECK_BYTES, vector_bytes
from qepa_wire.primitives import aes256_ecb

from .errors import UplinkError


@dataclass(frozen=True, slots=True)
class SealedVector:
    """``words`` (uint32, n) mod 2^32 and ``checks`` (uint64, 2) mod 2^64."""

    words: NDArray[np.uint32]
    checks: NDArray[np.uint64]

    @classmethod
    def from_bytes(cls, data: bytes) -> "SealedVector":
        """Parse ``4 n + 16`` bytes; raises UplinkError("length")."""
        n_words, rest = divmod(len(data) - CHECK_BYTES, 4)
        if n_words < 1 or rest:
            raise UplinkError("length", f"{len(data)} bytes are no sealed vector")
        return cls(np.frombuffer(data, "<u4", n_words), np.frombuffer(data[4 * n_words :], "<u8", 2))

    def to_bytes(self) -> bytes:
        """Inverse of :meth:`from_bytes`."""
        return self.words.astype("<u4").tobytes() + self.checks.astype("<u8").tobytes()

    def __add__(self, other: "SealedVector") -> "SealedVector":
        return SealedVector(self.words + other.words, self.checks + other.checks)

    def __sub__(self, other: "SealedVector") -> "SealedVector":
        return SealedVector(self.words - other.words, self.checks - other.checks)


def zero(n_words: int) -> SealedVector:
    """The empty sum."""
    return SealedVector(np.zeros(n_words, np.uint32), np.zeros(2, np.uint64))


def mask(key: bytes, *, stream: int, round_: int, n_words: int, cell: int = 0) -> SealedVector:
    """F(key) as a vector to add or subtract. ``cell`` is nonzero for pair masks only."""
    return sum_masks([key], stream=stream, round_=round_, n_words=n_words, cell=cell)


def sum_masks(keys: Iterable[bytes], *, stream: int, round_: int, n_words: int, cell: int = 0) -> SealedVector:
    """Sum of F(key) over ``keys``: the counter blocks are the same for all, so they are built once."""
    size = vector_bytes(n_words)
    blocks = bytes(counter_blocks(DOMAIN_MASK, stream, cell, round_, -(-size // 16)))
    words, checks = np.zeros(n_words, np.uint32), np.zeros(2, np.uint64)
    for key in keys:
        stream_bytes = aes256_ecb(key, blocks)
        words += np.frombuffer(stream_bytes, "<u4", n_words)
        checks += np.frombuffer(stream_bytes[4 * n_words : size], "<u8", 2)
    return SealedVector(words, checks)


def add_all(vectors: Sequence[SealedVector], n_words: int) -> SealedVector:
    """Sum of ``vectors``, which all have ``n_words`` words."""
    total = zero(n_words)
    for vector in vectors:
        if len(vector.words) != n_words:
            raise UplinkError("length", f"a vector of {len(vector.words)} words among vectors of {n_words}")
        total = total + vector
    return total


def open_sum(total: SealedVector, check_key: bytes, *, stream: int, round_: int) -> NDArray[np.int64]:
    """Return the signed sum in ``total``, all masks off, if its check values hold; raise UplinkError("check") if not.

    qepa_wire/PROTOCOL.md gives the argument that an altered sum passes with probability at most 2^-66.
    """
    signed = total.words.astype(np.uint32).view(np.int32).astype(np.int64)
    blocks = counter_blocks(DOMAIN_CHECK, stream, 0, round_, len(signed))
    coefficients = np.frombuffer(aes256_ecb(check_key, bytes(blocks)), "<u8").reshape(-1, 2)
    expected = (coefficients * signed.view(np.uint64)[:, None]).sum(axis=0, dtype=np.uint64)
    if not np.array_equal(expected, total.checks):
        raise UplinkError("check", "the sum was altered, or a contributor list does not fit it")
    return signed
