# mypy: ignore-errors
# ruff: noqa: D101, N801  the names are MicroPython's
# This is MicroPython, with modules that CPython has not.
"""`cryptolib` of an ESP32: AES-128 and AES-256 in ECB (mode 1) and CBC (mode 2)."""

import _host
import uctypes


class aes:
    def __init__(self, key, mode, iv=None):
        self._key = bytes(key)
        self._iv = bytearray(iv) if iv is not None else bytearray(16)
        self._mode = mode
        self._encrypts = None
        if len(self._key) not in (16, 32):
            raise ValueError("key")
        if mode not in (1, 2):
            raise ValueError("mode")
        if len(self._iv) != 16 or (mode == 2 and iv is None):
            raise ValueError("IV")

    def _crypt(self, encrypting, data, out):
        if self._encrypts is None:
            self._encrypts = encrypting
        elif self._encrypts != encrypting:
            raise ValueError("can't encrypt & decrypt")
        if len(data) % 16:
            raise ValueError("blksize % 16")
        result = bytearray(len(data)) if out is None else out
        if len(result) < len(data):
            raise ValueError("output too small")
        address = uctypes.addressof
        _host.aes(
            encrypting,
            self._mode,
            address(self._key),
            len(self._key),
            address(self._iv),
            address(data),
            len(data),
            address(result),
        )
        return bytes(result) if out is None else out

    def encrypt(self, data, out=None):
        return self._crypt(1, data, out)

    def decrypt(self, data, out=None):
        return self._crypt(0, data, out)
