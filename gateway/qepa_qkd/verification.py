"""Verification: does error correction end with the same bits at both ends? One hash under a fresh public key tells."""

import hmac
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.universal_hash import PolynomialHash, collision_probability

Bits = npt.NDArray[np.uint8]
KEY_BYTES: Final = 16
TAG_BITS: Final = 128
"""What the tag costs in secrecy: it is sent in clear, so all of it is charged."""


@dataclass(frozen=True, slots=True)
class VerificationTag:
    """Hash of the corrected bits under `key`, which is drawn after correction and sent with it."""

    key: bytes
    value: bytes

    def matches(self, bits: Bits) -> bool:
        """Whether `bits` has this hash; bits that differ do with probability at most `failure_probability`."""
        return hmac.compare_digest(self.value, make_tag(self.key, bits).value)


def make_tag(key: bytes, bits: Bits) -> VerificationTag:
    """Hash `bits` (values 0 and 1) under `key`: 16 random bytes that nobody knew while bits were corrected."""
    hashed = PolynomialHash(key)
    hashed.update(len(bits).to_bytes(4, "little"))
    hashed.update(np.packbits(bits).tobytes())
    return VerificationTag(key, hashed.value().to_bytes(16, "little"))


def failure_probability(bit_count: int) -> float:
    """Upper bound that different strings of `bit_count` bits pass."""
    return collision_probability(4, -(-bit_count // 8))
