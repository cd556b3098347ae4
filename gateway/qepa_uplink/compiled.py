"""LightHE's loops, compiled: AES-256 by OpenSSL's libcrypto under many keys, and sums.

A library's cipher object costs twenty times what it encrypts here, so a loop changes keys in one context. Where numba
or a libcrypto of OpenSSL 3 is missing, or systemd forbids memory that becomes code, :func:`available` is False and
lighthe.py does the same in Python.
"""

import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


@cache
def _kernels() -> Any:
    """The module of loops; None where there is none. Numba is loaded here, since few processes need it."""
    if not sys.platform.startswith("linux") or sys.byteorder != "little":
        return None  # elsewhere libcrypto's name leads to other libraries, or ends the process
    try:
        from . import kernels  # noqa: PLC0415
    except (ImportError, RuntimeError, PermissionError):  # MemoryDenyWriteExecute
        return None
    return kernels


def available() -> bool:
    """Whether the functions below work on this machine."""
    return _kernels() is not None


def loaded() -> bool:
    """Whether they work and cost no loading any more."""
    return _kernels.cache_info().currsize > 0 and available()


def sum_of_keystreams(keys: bytes, blocks: bytes, n_words: int) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Encrypt ``blocks`` under each 32-byte key of ``keys``; add up the words and the two check words behind them.

    Returns (words mod 2^32, checks mod 2^64) of the first ``4 n_words + 16`` bytes.
    """
    done, words, checks = _kernels().add_keystreams(keys, blocks, n_words)
    return words, _if(done, checks)


def encrypt(key: bytes, blocks: bytes) -> NDArray[np.uint64]:
    """AES-256 of each of ``blocks`` under the 32-byte ``key``, as two words a row."""
    return _if(*_kernels().encrypt(key, blocks))


def add_rows(rows: bytes, n_words: int) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """Return (words mod 2^32, checks mod 2^64): sums of sealed vectors of ``n_words`` words, one behind the other."""
    words, checks = _kernels().add_rows(rows, n_words)
    return words, checks


def _if(done: bool, result: NDArray[np.uint64]) -> NDArray[np.uint64]:
    if not done:
        raise RuntimeError("OpenSSL's AES-256 refused to work")
    return result
