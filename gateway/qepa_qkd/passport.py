"""Key passport: a signed statement of how a block's key came to be, kept with the block.

JSON with sorted keys, signed with ML-DSA-65 (FIPS 204) by the end that keeps it. It holds counts and bounds, no key.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from qepa_qkd.decoy import BlockCounts, EpsilonBudget, KeyLength, SourceSettings
from qepa_qkd.errors import SecurityError

_CONTEXT = b"qepa key passport 1"


@dataclass(frozen=True, slots=True)
class Passport:
    """Everything a later reader needs to repeat the key-length computation of one block."""

    block_id: int
    role: str
    link: str
    made_s: float
    software: str
    proof: str
    source: SourceSettings
    counts: BlockCounts
    qber_x: float
    qber_z: float
    epsilon: EpsilonBudget
    verification_epsilon: float
    leak_bits: int
    verification_bits: int
    bounds: KeyLength
    key_bits: int
    authentication_bits: int
    """Of `key_bits`, those that renew the authentication key."""
    tags_from: str = "initial secret"
    """What authenticated the block: that, wholly or in part, or "quantum key"."""

    def signed(self, key: MLDSA65PrivateKey) -> str:
        """Return the passport as JSON with its signature."""
        body = asdict(self)
        signature = key.sign(_canonical(body), _CONTEXT)
        return json.dumps({"passport": body, "signature": signature.hex()}, sort_keys=True)


def verify_passport(text: str, key: MLDSA65PublicKey) -> dict[str, Any]:
    """Return the fields of a signed passport. Raises SecurityError when it is not what `key` signed."""
    try:
        document = json.loads(text)
        body, signature = document["passport"], bytes.fromhex(document["signature"])
        key.verify(signature, _canonical(body), _CONTEXT)
    except (ValueError, KeyError, TypeError, InvalidSignature):
        raise SecurityError("a key passport whose signature does not verify") from None
    return dict(body)


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
