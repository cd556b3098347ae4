"""AES-256 of the same blocks under many keys, added up: OpenSSL's libcrypto called from one compiled loop.

A cipher object of a library costs twenty times what it encrypts here, so the loop changes keys in one context. Where
numba or a libcrypto of OpenSSL 3 is missing, :func:`available` is False and the caller goes key by key.
"""

import ctypes
import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LIBRARY = "libcrypto.so.3"  # elsewhere than on Linux its name leads to other libraries, or ends the process


@cache
def _library() -> Any:
    if not sys.platform.startswith("linux") or sys.byteorder != "little":
        return None
    try:
        library = ctypes.CDLL(_LIBRARY)
        library.EVP_CIPHER_CTX_new.restype = ctypes.c_void_p
        library.EVP_CIPHER_CTX_free.argtypes = [ctypes.c_void_p]
        library.EVP_aes_256_ecb.restype = ctypes.c_void_p
        library.EVP_EncryptInit_ex.argtypes = [ctypes.c_void_p] * 5
    except (OSError, AttributeError):
        return None
    return library


@cache
def _loop() -> Any:
    """The compiled loop; None where there is none. Numba is loaded here, since few processes need it."""
    if _library() is None:
        return None
    try:
        from .many_keys_compiled import add_keystreams  # noqa: PLC0415
    except ImportError:
        return None
    return add_keystreams


def available() -> bool:
    """Whether :func:`sum_of_keystreams` works on this machine."""
    return _loop() is not None


def sum_of_keystreams(keys: bytes, blocks: bytes, n_words: int) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Encrypt ``blocks`` under each 32-byte key of ``keys``; add up the words and the two check words behind them.

    Returns (words mod 2^32, checks mod 2^64) of the first ``4 n_words + 16`` bytes. Raises RuntimeError if OpenSSL
    refuses, which it has no reason to.
    """
    library = _library()
    words, checks = np.zeros(n_words, np.uint32), np.zeros(2, np.uint64)
    keystream = np.zeros(len(blocks) + 16, np.uint8)
    size = np.zeros(1, np.int32)
    context = library.EVP_CIPHER_CTX_new()
    try:
        done = bool(context) and library.EVP_EncryptInit_ex(context, library.EVP_aes_256_ecb(), None, keys[:32], None)
        done = done and _loop()(
            context,
            np.frombuffer(keys, np.uint8).reshape(-1, 32),
            np.frombuffer(blocks, np.uint8),
            keystream,
            size,
            keystream[: 4 * n_words].view(np.uint32),
            keystream[4 * n_words : 4 * n_words + 16].view(np.uint64),
            words,
            checks,
        )
    finally:
        library.EVP_CIPHER_CTX_free(context)  # which wipes its key schedule
        keystream[:] = 0
    if not done:
        raise RuntimeError("OpenSSL's AES-256 refused to work")
    return words, checks
