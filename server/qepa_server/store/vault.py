"""Secrets at rest: AES-256-GCM under a key-encryption key from a file that only its owner reads."""

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qepa_uplink.identity import write_private
from qepa_wire.primitives import hmac_sha256

from ..errors import StoreError

_KEY_BYTES = 32
_NONCE_BYTES = 12


class Vault:
    """Seals and opens secrets; ``purpose`` binds each to its place."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(hmac_sha256(key, b"qepa/1/vault/seal"))
        self._tag_key = hmac_sha256(key, b"qepa/1/vault/tag")

    @classmethod
    def open(cls, path: Path, *, create: bool) -> "Vault":
        """Read the key file; make one if ``create`` and there is none. Raises StoreError naming the file."""
        if create and not path.exists():
            write_private(path, os.urandom(_KEY_BYTES))
        try:
            mode = path.stat().st_mode
            key = path.read_bytes()
        except OSError as error:
            raise StoreError("keys", f"cannot read the key file {path}: {error.strerror}") from error
        if stat.S_IMODE(mode) & 0o077:
            raise StoreError("keys", f"{path} can be read by others than its owner: chmod 600 it")
        if len(key) != _KEY_BYTES:
            raise StoreError("keys", f"{path} holds {len(key)} bytes, not a key of {_KEY_BYTES}")
        return cls(key)

    def seal(self, secret: bytes, purpose: str) -> bytes:
        """Return ``secret`` encrypted: nonce, ciphertext, tag."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, secret, purpose.encode())

    def open_sealed(self, sealed: bytes, purpose: str) -> bytes:
        """Inverse of :meth:`seal`; raises StoreError("keys") for what does not open."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise StoreError("keys", f"the stored {purpose} does not open under this key file") from error

    def tag(self, secret: bytes) -> bytes:
        """Return a keyed fingerprint, to find a secret again without storing it."""
        return hmac_sha256(self._tag_key, secret)
