"""The HSS key that boards trust (RFC 8554): a one-time signature inside is never used twice, also over a crash."""

import struct
from pathlib import Path
from typing import Literal

from pyhsslms.pyhsslms import HssPrivateKey, lmots_sha256_n32_w4, lms_sha256_m32_h5, lms_sha256_m32_h10

from qepa_uplink.identity import write_private
from qepa_wire.primitives import equal

from ..errors import StoreError
from ..store.vault import Vault

LEVELS = 2
_PURPOSE = "model signing key"
_USED = struct.Struct("<Q")


class HssSigner:
    """Signs with a stateful key whose state is on disk before a signature leaves."""

    def __init__(self, path: Path, vault: Vault, key: HssPrivateKey, used: int, purpose: str = _PURPOSE) -> None:
        self._path = path
        self._vault = vault
        self._key = key
        self._used = used
        self._purpose = purpose

    @classmethod
    def generate(cls, path: Path, vault: Vault, *, height: Literal[5, 10] = 10, purpose: str = _PURPOSE) -> "HssSigner":
        """Make a key at ``path`` for 2^(2 height) signatures: about a million take seconds to make, 1,024 none."""
        lms_type = lms_sha256_m32_h10 if height == 10 else lms_sha256_m32_h5
        key = HssPrivateKey(levels=LEVELS, lms_type=lms_type, lmots_type=lmots_sha256_n32_w4)
        signer = cls(path, vault, key, 0, purpose)
        signer._save()
        return signer

    @classmethod
    def load(
        cls, path: Path, vault: Vault, *, public_key: bytes, used_at_least: int, purpose: str = _PURPOSE
    ) -> "HssSigner":
        """Read the key; raises StoreError if it is unreadable, another key, or an older state than was used.

        ``used_at_least`` signatures are known to have left: a key file restored from a backup would repeat them.
        """
        try:
            plain = vault.open_sealed(path.read_bytes(), purpose)
        except OSError as error:
            raise StoreError("keys", f"cannot read the {purpose} in {path}: {error.strerror}") from error
        try:
            (used,) = _USED.unpack_from(plain)
            key = HssPrivateKey.deserialize(plain[_USED.size :])
        except (ValueError, IndexError, struct.error) as error:
            raise StoreError("keys", f"the {purpose} in {path} has another form") from error
        signer = cls(path, vault, key, used, purpose)
        if not equal(signer.public_key, public_key):
            raise StoreError("keys", f"{path} is not the {purpose} that the boards were given")
        if used < used_at_least:
            raise StoreError(
                "keys", f"{path} is older than its last use ({used} of {used_at_least} signatures): not signing again"
            )
        return signer

    @property
    def public_key(self) -> bytes:
        """The HSS public key, 60 bytes."""
        public: bytes = self._key.publicKey().serialize()
        return public

    @property
    def used(self) -> int:
        """Signatures made so far."""
        return self._used

    def sign(self, message: bytes) -> bytes:
        """Return the HSS signature; the spent state is durable before this returns, so a crash skips, never repeats."""
        signature: bytes = self._key.sign(message)
        self._used += 1
        self._save()
        return signature

    def _save(self) -> None:
        plain = _USED.pack(self._used) + self._key.serialize()
        write_private(self._path, self._vault.seal(plain, self._purpose))
