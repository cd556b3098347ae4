"""The loops of :mod:`compiled`, for numba: compiled once a machine. Nothing is checked: callers have."""

from typing import Any

import numpy as np
from llvmlite import binding
from numba import types

from qepa_jit.kernels import kernel

binding.load_library_permanently("libcrypto.so.3")  # RuntimeError where it is missing

# EVP_EncryptInit(3), with pointers as integers. By name, so that numba can keep on disk what it compiles.
_pointer = types.intp
_new = types.ExternalFunction("EVP_CIPHER_CTX_new", _pointer())
_free = types.ExternalFunction("EVP_CIPHER_CTX_free", types.void(_pointer))
_cipher = types.ExternalFunction("EVP_aes_256_ecb", _pointer())
_init = types.ExternalFunction("EVP_EncryptInit_ex", types.int32(*[_pointer] * 5))
_update = types.ExternalFunction("EVP_EncryptUpdate", types.int32(*[_pointer] * 4, types.int32))


@kernel
def add_keystreams(keys: Any, blocks: Any, n_words: Any) -> Any:
    """Return (done, words, checks) as compiled.sum_of_keystreams has them; ``done`` is False if OpenSSL refuses."""
    words, checks = np.zeros(n_words, np.uint32), np.zeros(2, np.uint64)
    keystream, written = np.zeros(len(blocks) // 4 + 4, np.uint32), np.zeros(1, np.int32)
    key, source = np.frombuffer(keys, np.uint8).ctypes.data, np.frombuffer(blocks, np.uint8).ctypes.data
    target, size = keystream.ctypes.data, types.int32(len(blocks))
    context = _new()
    done = context != 0 and _init(context, _cipher(), 0, key, 0) == 1
    for i in range(len(keys) // 32):
        # The cipher stays, so this sets a key only.
        done = done and _init(context, 0, 0, key + 32 * i, 0) == 1
        done = done and _update(context, target, written.ctypes.data, source, size) == 1
        for j in range(n_words):
            words[j] += keystream[j]
        for j in range(2):
            low, high = keystream[n_words + 2 * j], keystream[n_words + 2 * j + 1]
            checks[j] += np.uint64(low) | np.uint64(high) << np.uint64(32)
    _free(context)  # which wipes its key schedule
    keystream[:] = 0
    return done, words, checks


@kernel
def encrypt(key: Any, blocks: Any) -> Any:
    """Return (done, 64-bit words of ``blocks`` under ``key``, two a row)."""
    target, written = np.zeros((len(blocks) // 16 + 1, 2), np.uint64), np.zeros(1, np.int32)
    source, size = np.frombuffer(blocks, np.uint8).ctypes.data, types.int32(len(blocks))
    context = _new()
    done = context != 0 and _init(context, _cipher(), 0, np.frombuffer(key, np.uint8).ctypes.data, 0) == 1
    done = done and _update(context, target.ctypes.data, written.ctypes.data, source, size) == 1
    _free(context)
    return done, target[:-1]


@kernel
def add_rows(rows: Any, n_words: Any) -> Any:
    """Return (words, checks) as compiled.add_rows has them."""
    words, checks = np.zeros(n_words, np.uint32), np.zeros(2, np.uint64)
    width = n_words + 4
    data = np.frombuffer(rows, np.uint32)
    for at in range(0, len(data) // width * width, width):
        for j in range(n_words):
            words[j] += data[at + j]
        for j in range(at + n_words, at + width, 2):
            checks[(j - at - n_words) >> 1] += np.uint64(data[j]) | np.uint64(data[j + 1]) << np.uint64(32)
    return words, checks
