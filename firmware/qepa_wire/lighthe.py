"""LightHE: vectors of words mod 2^32 with two check values mod 2^64, masked by adding keystreams.

A sealed vector is ``n`` words of 32 bits, then two check words of 64 bits, little endian: 4 n + 16 bytes.
Sums of sealed vectors are sealed vectors of the sum under the sum of the masks.
"""

import struct
from array import array

from qepa_kernels import add32, add64, check_sums, pack32, xor

from .errors import WireError
from .keystream import BLOCK, DOMAIN_CHECK, DOMAIN_MASK, fill_keystream

try:
    from collections.abc import Sequence
except ImportError:  # MicroPython: the annotations stay strings
    pass

CHECK_BYTES = 16
MAX_WORDS = 65535


def vector_bytes(n_words: int) -> int:
    """Bytes of a sealed vector of ``n_words`` words."""
    return 4 * n_words + CHECK_BYTES


def check_values(values: "Sequence[int]", cohort_check_key: bytes, stream: int, round_: int) -> tuple[int, int]:
    """Return the two check values of signed ``values``: sums of a_kj * m_j mod 2^64.

    The coefficients a_kj are fresh for each (stream, round) and secret from gateways. An altered sum passes
    with probability at most 2^-66; PROTOCOL.md gives the argument.
    """
    n_words = len(values)
    coefficients = bytearray(BLOCK * n_words)
    fill_keystream(coefficients, cohort_check_key, DOMAIN_CHECK, stream, 0, round_, n_words)
    checks = bytearray(CHECK_BYTES)
    check_sums(coefficients, array("i", values), n_words, checks, 0)
    first, second = struct.unpack("<QQ", checks)
    return first, second


def add_mask(sealed: bytearray, mask: "bytes | bytearray") -> None:
    """Add keystream ``mask`` to ``sealed`` in place: words mod 2^32, checks mod 2^64."""
    n_words = (len(sealed) - CHECK_BYTES) // 4
    add32(sealed, mask, n_words)
    add64(sealed, mask, n_words, 2)


def seal(
    values: "Sequence[int]",
    mask_keys: "Sequence[bytes]",
    cohort_check_key: bytes,
    stream: int,
    round_: int,
    pads: "Sequence[bytes]" = (),
) -> bytes:
    """Encrypt ``values`` (-2^31 to 2^31 - 1) under every key of ``mask_keys`` and every pad; return 4 n + 16 bytes.

    A pad is 4 n + 16 bytes of one-time pad, added as a mask is. The caller guarantees that (stream, round_) was never
    used before under any of these keys, and no pad at all. Raises WireError("length").
    """
    n_words = len(values)
    if not 0 < n_words <= MAX_WORDS:
        raise WireError("length", "a vector has 1 to %d words, not %d" % (MAX_WORDS, n_words))
    size = vector_bytes(n_words)
    n_blocks = (size + BLOCK - 1) // BLOCK
    words = array("i", values)
    sealed = bytearray(size)
    pack32(sealed, 0, words, n_words)
    secret = bytearray(BLOCK * max(n_words, n_blocks))  # coefficients, then one mask over the other
    fill_keystream(secret, cohort_check_key, DOMAIN_CHECK, stream, 0, round_, n_words)
    check_sums(secret, words, n_words, sealed, n_words)
    for key in mask_keys:
        fill_keystream(secret, key, DOMAIN_MASK, stream, 0, round_, n_blocks)
        add_mask(sealed, secret)
    for pad in pads:
        if len(pad) != size:
            raise WireError("length", "a pad of %d bytes for %d" % (len(pad), size))
        secret[:size] = pad
        add_mask(sealed, secret)
    xor(secret, secret, len(secret))  # zeros
    return bytes(sealed)
