"""Sealing to a public key: HPKE (RFC 9180) with the hybrid KEM ML-KEM-768 + X25519, HKDF-SHA-256, AES-256-GCM.

An eavesdropper must break both ML-KEM (FIPS 203) and X25519 (RFC 7748) to read what was sealed.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from .errors import UplinkError

PUBLIC_BYTES = 1184 + 32
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def seal_to(public_key: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Encrypt for the holder of ``public_key``; ``info`` binds the text to its purpose and parties.

    Raises UplinkError("seal") if the public key is malformed.
    """
    try:
        hybrid = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public_key[:1184]),
            X25519PublicKey.from_public_bytes(public_key[1184:]),
        )
    except ValueError as error:
        raise UplinkError("seal", "malformed public key") from error
    return _SUITE.encrypt(plaintext, hybrid, info)


class SealKey:
    """A private key that opens what was sealed to :attr:`public_key`."""

    def __init__(self, kem: MLKEM768PrivateKey, ecdh: X25519PrivateKey) -> None:
        self._kem, self._ecdh = kem, ecdh

    @classmethod
    def generate(cls) -> "SealKey":
        """Return a fresh key."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, data: bytes) -> "SealKey":
        """Inverse of :meth:`to_bytes`; raises ValueError."""
        return cls(MLKEM768PrivateKey.from_seed_bytes(data[:64]), X25519PrivateKey.from_private_bytes(data[64:]))

    def to_bytes(self) -> bytes:
        """The private key: ML-KEM seed (64 bytes), X25519 scalar (32)."""
        return self._kem.private_bytes_raw() + self._ecdh.private_bytes_raw()

    @property
    def public_key(self) -> bytes:
        """ML-KEM-768 encapsulation key (1,184 bytes), X25519 public key (32)."""
        return self._kem.public_key().public_bytes_raw() + self._ecdh.public_key().public_bytes_raw()

    def unseal(self, sealed: bytes, info: bytes) -> bytes:
        """Inverse of :func:`seal_to`; raises UplinkError("seal") for what does not open."""
        try:
            return _SUITE.decrypt(sealed, MLKEM768X25519PrivateKey(self._kem, self._ecdh), info)
        except (InvalidTag, ValueError) as error:
            raise UplinkError("seal") from error
