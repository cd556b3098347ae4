"""LightHE: vectors of words mod 2^32 with two check values mod 2^64, masked by adding keystreams.

A sealed vector is ``n`` words of 32 bits, then two check words of 64 bits, little endian: 4 n + 16 bytes.
Sums of sealed vectors are sealed vectors of the sum under the sum of the masks.
"""

import struct
from array import array

from .errors import WireError
from .keystream import DOMAIN_CHECK, DOMAIN_MASK, keystream

try:
    from collections.abc import Sequence
except ImportError:  # MicroPython: the annotations stay strings
    pass

CHECK_BYTES = 16
MAX_WORDS = 65535
_M32 = 0xFFFFFFFF
_M64 = 0xFFFFFFFFFFFFFFFF


def vector_bytes(n_words: int) -> int:
    """Bytes of a sealed vector of ``n_words`` words."""
    return 4 * n_words + CHECK_BYTES


def check_values(values: "Sequence[int]", cohort_check_key: bytes, stream: int, round_: int) -> tuple[int, int]:
    """Return the two check values of signed ``values``: sums of a_kj * m_j mod 2^64.

    The coefficients a_kj are fresh for each (stream, round) and secret from gateways. An altered sum passes
    with probability at most 2^-66; PROTOCOL.md gives the argument.
    """
    coefficients = keystream(cohort_check_key, DOMAIN_CHECK, stream, 0, round_, 16 * len(values))
    first = second = 0
    offset = 0
    for value in values:
        if value:
            a1, a2 = struct.unpack_from("<QQ", coefficients, offset)
            first += a1 * value
            second += a2 * value
        offset += 16
    return first & _M64, second & _M64


def add_mask(sealed: bytearray, mask: bytes) -> None:
    """Add keystream ``mask`` to ``sealed`` (a bytearray) in place: words mod 2^32, checks mod 2^64."""
    n_words = (len(sealed) - CHECK_BYTES) // 4
    words = array("I", sealed[: 4 * n_words])
    pad = array("I", mask[: 4 * n_words])
    for i in range(n_words):
        words[i] = (words[i] + pad[i]) & _M32
    sealed[: 4 * n_words] = bytes(words)
    c1, c2 = struct.unpack_from("<QQ", sealed, 4 * n_words)
    p1, p2 = struct.unpack_from("<QQ", mask, 4 * n_words)
    struct.pack_into("<QQ", sealed, 4 * n_words, (c1 + p1) & _M64, (c2 + p2) & _M64)


def seal(
    values: "Sequence[int]", mask_keys: "Sequence[bytes]", cohort_check_key: bytes, stream: int, round_: int
) -> bytes:
    """Encrypt signed ``values`` under every key of ``mask_keys``; return 4 n + 16 bytes.

    The caller guarantees that (stream, round_) was never used before under any of these keys.
    """
    n_words = len(values)
    if not 0 < n_words <= MAX_WORDS:
        raise WireError("length", "a vector has 1 to %d words, not %d" % (MAX_WORDS, n_words))
    sealed = bytearray(vector_bytes(n_words))
    for i in range(n_words):
        struct.pack_into("<I", sealed, 4 * i, values[i] & _M32)
    struct.pack_into("<QQ", sealed, 4 * n_words, *check_values(values, cohort_check_key, stream, round_))
    for key in mask_keys:
        add_mask(sealed, keystream(key, DOMAIN_MASK, stream, 0, round_, len(sealed)))
    return bytes(sealed)
