"""Secrets at rest: AES-256-GCM under a key-encryption key from a file that only its owner may read."""

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qepa_uplink.identity import write_private

from ..errors import ConfigError, CorruptError

KEK_BYTES = 32
_NONCE_BYTES = 12


class Vault:
    """Encrypts and decrypts; ``place`` (table, column, row) is authenticated, so no secret can be moved to another."""

    def __init__(self, kek: bytes) -> None:
        self._aead = AESGCM(kek)

    def seal(self, secret: bytes, place: str) -> bytes:
        """Return nonce and ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, secret, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """Inverse of :meth:`seal`; raises CorruptError naming the place."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise CorruptError(f"the secret at {place} does not open with this key-encryption key") from error


def load_kek(path: Path, *, create: bool) -> bytes:
    """Read the key-encryption key, or make one if ``create``; raises ConfigError with what to do."""
    if create and not path.exists():
        try:
            write_private(path, os.urandom(KEK_BYTES))
        except OSError as error:
            raise ConfigError(f"cannot write the key-encryption key to {path}: {error.strerror}") from error
    try:
        mode = path.stat().st_mode
        kek = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the key-encryption key in {path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} holds the key-encryption key and must be readable by its owner only: chmod 600")
    if len(kek) != KEK_BYTES:
        raise ConfigError(f"{path} holds {len(kek)} bytes, a key-encryption key has {KEK_BYTES}")
    return kek
