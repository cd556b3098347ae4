"""The keystream F: AES-256 over counter blocks that never repeat under one key.

A block names its use completely: ``domain u8 | stream u8 | cell u16 | round u64 | index u32``.
"""

import struct

from .primitives import aes256_ecb

BLOCK = 16

DOMAIN_MASK = 1  # LightHE masks: link, end and pair masks differ by key
DOMAIN_CHECK = 2  # check coefficients, under the cohort key
DOMAIN_CARE_UP = 3  # care records; the frame's sequence number stands for the round
DOMAIN_CARE_DOWN = 4  # labels
DOMAIN_ALERT = 5

STREAM_STATISTICS = 1
STREAM_UPDATE = 2
STREAM_CARE = 3
STREAM_ALERT = 4


def counter_blocks(domain: int, stream: int, cell: int, round_: int, n_blocks: int) -> bytearray:
    """Return ``n_blocks`` counter blocks as a bytearray."""
    blocks = bytearray(n_blocks * BLOCK)
    for index in range(n_blocks):
        struct.pack_into("<BBHQI", blocks, index * BLOCK, domain, stream, cell, round_, index)
    return blocks


def keystream(key: bytes, domain: int, stream: int, cell: int, round_: int, n_bytes: int) -> bytes:
    """Return the first ``n_bytes`` of F(key; domain, stream, cell, round)."""
    n_blocks = (n_bytes + BLOCK - 1) // BLOCK
    return aes256_ecb(key, counter_blocks(domain, stream, cell, round_, n_blocks))[:n_bytes]


def xor_cipher(key: bytes, domain: int, stream: int, position: int, data: bytes) -> bytes:
    """Encrypt or decrypt ``data`` by XOR with the keystream at ``position`` (used once, ever)."""
    pad = keystream(key, domain, stream, 0, position, len(data))
    return bytes(a ^ b for a, b in zip(data, pad))
