"""LightHE on numpy, for those who add and open: the same bytes as qepa_wire.lighthe, many vectors at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qepa_wire.keys import KEY_BYTES
from qepa_wire.keystream import BLOCK, DOMAIN_CHECK, DOMAIN_MASK, counter_blocks
from qepa_wire.lighthe import CHECK_BYTES, vector_bytes
from qepa_wire.primitives import aes256_ecb

from . import compiled
from .errors import UplinkError

_MANY = 16
"""From so many keys on, a compiled loop is worth the loading of its compiler."""


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
    blocks = _counter_blocks(DOMAIN_MASK, stream, cell, round_, -(-size // 16))
    keys = list(keys)
    many = (len(keys) >= _MANY and compiled.available()) or (len(keys) > 1 and compiled.loaded())
    if many and set(map(len, keys)) == {KEY_BYTES}:
        return SealedVector(*compiled.sum_of_keystreams(b"".join(keys), blocks, n_words))
    words, checks = np.zeros(n_words, np.uint32), np.zeros(2, np.uint64)
    for key in keys:
        stream_bytes = aes256_ecb(key, blocks)
        words += np.frombuffer(stream_bytes, "<u4", n_words)
        checks += np.frombuffer(stream_bytes[4 * n_words : size], "<u8", 2)
    return SealedVector(words, checks)


def add_all(vectors: Sequence[SealedVector], n_words: int) -> SealedVector:
    """Sum of ``vectors``, which all have ``n_words`` words."""
    for vector in vectors:
        if len(vector.words) != n_words:
            raise UplinkError("length", f"a vector of {len(vector.words)} words among vectors of {n_words}")
    if not vectors:
        return zero(n_words)
    words = np.add.reduce([vector.words for vector in vectors], dtype=np.uint32)
    return SealedVector(words, np.add.reduce([vector.checks for vector in vectors], dtype=np.uint64))


def add_sealed(vectors: Sequence[bytes], n_words: int) -> SealedVector:
    """Sum of ``vectors`` of 4 n + 16 bytes each; raises UplinkError("length") for any of another size."""
    size = vector_bytes(n_words)
    if set(map(len, vectors)) - {size}:
        raise UplinkError("length", f"sealed vectors of other than {size} bytes")
    if compiled.loaded():
        return SealedVector(*compiled.add_rows(b"".join(vectors), n_words))
    rows = np.frombuffer(b"".join(vectors), "<u4").reshape(-1, n_words + CHECK_BYTES // 4)
    checks = rows[:, n_words:].copy().view("<u8")
    words = np.add.reduce(rows, axis=0, dtype=np.uint32)[:n_words]
    return SealedVector(words, np.add.reduce(checks, axis=0, dtype=np.uint64))


def seal_values(
    values: Sequence[int], mask_keys: Iterable[bytes], check_key: bytes, *, stream: int, round_: int
) -> SealedVector:
    """What :func:`qepa_wire.lighthe.seal` makes of ``values``, for boards that run on CPython."""
    signed = np.asarray(values, np.int32)
    total = SealedVector(signed.view(np.uint32), _check_values(signed, check_key, stream, round_))
    return total + sum_masks(mask_keys, stream=stream, round_=round_, n_words=len(signed))


def open_sum(total: SealedVector, check_key: bytes, *, stream: int, round_: int) -> NDArray[np.int64]:
    """Return the signed sum in ``total``, all masks off, if its check values hold; raise UplinkError("check") if not.

    qepa_wire/PROTOCOL.md gives the argument that an altered sum passes with probability at most 2^-66.
    """
    signed = total.words.astype(np.uint32).view(np.int32)
    if _check_values(signed, check_key, stream, round_).tobytes() != total.checks.astype("<u8").tobytes():
        raise UplinkError("check", "the sum was altered, or a contributor list does not fit it")
    return signed.astype(np.int64)


def _check_values(signed: NDArray[np.int32], check_key: bytes, stream: int, round_: int) -> NDArray[np.uint64]:
    blocks = _counter_blocks(DOMAIN_CHECK, stream, 0, round_, len(signed))
    if compiled.loaded() and len(check_key) == KEY_BYTES:
        coefficients = compiled.encrypt(check_key, blocks)
    else:
        coefficients = np.frombuffer(aes256_ecb(check_key, blocks), "<u8").reshape(-1, 2)
    checks: NDArray[np.uint64] = signed.astype(np.int64).view(np.uint64) @ coefficients
    return checks


@lru_cache(maxsize=8)
def _counter_blocks(domain: int, stream: int, cell: int, round_: int, n_blocks: int) -> bytes:
    """As qepa_wire.keystream.counter_blocks, in one step; kept, since all boards of a round have the same."""
    blocks = np.empty((n_blocks, BLOCK // 4), "<u4")
    blocks[:] = np.frombuffer(counter_blocks(domain, stream, cell, round_, 1), "<u4")
    blocks[:, -1] = np.arange(n_blocks)
    return blocks.tobytes()
