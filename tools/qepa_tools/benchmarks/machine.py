"""What this machine can do at all, measured in the same run as what is compared with it. One core, CPU seconds."""

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from .timing import median_s

_BLOCK = 1 << 16
_BANDWIDTH_BYTES = 64 << 20


def aes256_ctr_bytes_per_s() -> float:
    """AES-256-CTR by OpenSSL, in 64 KiB that stay in the cache."""
    data, target = bytes(_BLOCK), bytearray(_BLOCK + 16)
    encryptor = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()
    return _BLOCK / median_s(lambda: encryptor.update_into(data, target))


def memory_bytes_per_s() -> float:
    """Read rate of a sum over 64 MB of 32-bit words."""
    words = np.ones(_BANDWIDTH_BYTES // 4, np.uint32)
    return _BANDWIDTH_BYTES / median_s(lambda: np.add.reduce(words), repetitions=5)
