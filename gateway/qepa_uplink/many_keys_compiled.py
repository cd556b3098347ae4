"""The loop of :mod:`many_keys`, compiled once a machine: change the key, encrypt, add."""

from typing import Any

import numba
from llvmlite import binding
from numba import types

binding.load_library_permanently("libcrypto.so.3")

# EVP_EncryptInit(3), with pointers as integers. By name, so that numba can keep on disk what it compiles.
_init = types.ExternalFunction("EVP_EncryptInit_ex", types.int32(*[types.intp] * 5))
_update = types.ExternalFunction("EVP_EncryptUpdate", types.int32(*[types.intp] * 4, types.int32))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]  # numba has no types
def add_keystreams(
    context: Any,
    keys: Any,
    blocks: Any,
    keystream: Any,
    size: Any,
    its_words: Any,
    its_checks: Any,
    words: Any,
    checks: Any,
) -> Any:
    """Add to ``words`` and ``checks`` what each of ``keys`` makes of ``blocks``; False if OpenSSL refuses.

    ``its_words`` and ``its_checks`` are views into ``keystream``; ``context`` is set to AES-256-ECB.
    """
    key, source, target, length = keys.ctypes.data, blocks.ctypes.data, keystream.ctypes.data, size.ctypes.data
    for i in range(keys.shape[0]):
        if _init(context, 0, 0, key + 32 * i, 0) != 1:
            return False
        if _update(context, target, length, source, types.int32(blocks.shape[0])) != 1:
            return False
        for j in range(words.shape[0]):
            words[j] += its_words[j]
        checks[0] += its_checks[0]
        checks[1] += its_checks[1]
    return True
