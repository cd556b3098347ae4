"""Derived keys: one label for one purpose, so that no key ever serves two.

Every derivation is ``HMAC-SHA-256(key, label)``: a pseudorandom function keyed by 32 uniform bytes
(NIST SP 800-108r1, one block).
"""

from .errors import WireError
from .primitives import hmac_sha256

KEY_BYTES = 32

LINK_MASK = b"qepa/1/link/mask"
LINK_MAC_UP = b"qepa/1/link/mac/up"
LINK_MAC_DOWN = b"qepa/1/link/mac/down"
LINK_ALERT = b"qepa/1/link/alert"
LINK_RATCHET = b"qepa/1/link/ratchet"
END_MASK = b"qepa/1/end/mask"
END_CARE = b"qepa/1/end/care"
CARE_ENCRYPT = b"qepa/1/care/encrypt"
CARE_MAC = b"qepa/1/care/mac"
CARE_GRANT = b"qepa/1/care/grant"
PAIR_MASK = b"qepa/1/pair/mask"
COHORT_CHECK = b"qepa/1/cohort/check"


def derive(key: bytes, label: bytes) -> bytes:
    """Return the 32-byte key for ``label``; raise WireError("key") if ``key`` is not 32 bytes."""
    if len(key) != KEY_BYTES:
        raise WireError("key", "a key has %d bytes, not %d" % (KEY_BYTES, len(key)))
    return hmac_sha256(key, label)


def ratchet(link_key: bytes, steps: int) -> bytes:
    """Return the link key ``steps`` steps on: what to use while no fresh QKD key is there.

    One way: who steals the result learns nothing of earlier keys. It brings no new entropy.
    """
    for _ in range(steps):
        link_key = derive(link_key, LINK_RATCHET)
    return link_key


def care_key(end_key: bytes, consent_id: bytes) -> bytes:
    """Return the care key of one consent: it exists only where and while that consent does."""
    return hmac_sha256(derive(end_key, END_CARE), consent_id)
