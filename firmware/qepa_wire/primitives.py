"""SHA-256, HMAC-SHA-256, AES-256-ECB and constant-time compare on MicroPython and CPython.

MicroPython has ``hashlib`` and ``cryptolib`` but no ``hmac``; HMAC is RFC 2104 over ``hashlib.sha256``.
"""

import hashlib

from qepa_kernels import xor

try:
    from cryptolib import aes as _aes

    _ECB = 1

    def aes256_ecb_in_place(key: bytes, blocks: "bytearray | memoryview") -> None:
        """Replace ``blocks`` by what :func:`aes256_ecb` makes of them."""
        _aes(key, _ECB).encrypt(blocks, blocks)

    def aes256_ecb(key: bytes, blocks: "bytes | bytearray | memoryview") -> bytes:
        """Encrypt ``blocks`` (a multiple of 16 bytes) with AES-256 in ECB mode (FIPS 197)."""
        ciphertext: bytes = _aes(key, _ECB).encrypt(blocks)
        return ciphertext

except ImportError:  # CPython
    from cryptography.hazmat.primitives.ciphers import Cipher as _Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES as _AES
    from cryptography.hazmat.primitives.ciphers.modes import ECB as _ECB_MODE

    def aes256_ecb_in_place(key: bytes, blocks: "bytearray | memoryview") -> None:
        """Replace ``blocks`` by what :func:`aes256_ecb` makes of them."""
        blocks[:] = aes256_ecb(key, blocks)

    def aes256_ecb(key: bytes, blocks: "bytes | bytearray | memoryview") -> bytes:
        """Encrypt ``blocks`` (a multiple of 16 bytes) with AES-256 in ECB mode (FIPS 197)."""
        # ECB is used on distinct counter blocks only, which makes it counter mode.
        return _Cipher(_AES(key), _ECB_MODE()).encryptor().update(blocks)  # noqa: S305


try:
    from hmac import compare_digest as _compare_digest
    from hmac import digest as _hmac_digest

    def hmac_sha256(key: bytes, message: bytes) -> bytes:
        """HMAC-SHA-256 (RFC 2104), 32 bytes."""
        return _hmac_digest(key, message, "sha256")

    def equal(a: bytes, b: bytes) -> bool:
        """Compare two byte strings in time that depends on their length alone."""
        return _compare_digest(bytes(a), bytes(b))

except ImportError:  # MicroPython
    _INNER = b"\x36" * 64
    _INNER_TO_OUTER = b"\x6a" * 64  # 0x36 ^ 0x5c

    def hmac_sha256(key: bytes, message: bytes) -> bytes:
        """HMAC-SHA-256 (RFC 2104), 32 bytes."""
        if len(key) > 64:
            key = hashlib.sha256(key).digest()
        block = bytearray(_INNER)
        xor(block, key, len(key))
        inner = hashlib.sha256(block)
        inner.update(message)
        xor(block, _INNER_TO_OUTER, 64)
        outer = hashlib.sha256(block)
        outer.update(inner.digest())
        xor(block, block, 64)  # zeros: nothing of the key stays behind
        return outer.digest()

    def equal(a: bytes, b: bytes) -> bool:
        """Compare two byte strings in time that depends on their length alone."""
        if len(a) != len(b):
            return False
        difference = 0
        for x, y in zip(a, b):
            difference |= x ^ y
        return difference == 0


def sha256(message: bytes) -> bytes:
    """SHA-256 (FIPS 180-4), 32 bytes."""
    return hashlib.sha256(message).digest()
