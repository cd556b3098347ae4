"""The keystream F: AES-256 over counter blocks that never repeat under one key.

A block names its use completely: ``domain u8 | stream u8 | cell u16 | round u64 | index u32``.
"""

import struct

from qepa_kernels import fill_counters, xor

from .primitives import aes256_ecb_in_place

BLOCK = 16

DOMAIN_MASK = 1  # LightHE masks: link, end and pair masks differ by key
DOMAIN_CHECK = 2  # check coefficients, under the cohort key
DOMAIN_CARE_UP = 3  # care records; the frame's sequence number stands for the round
DOMAIN_CARE_DOWN = 4  # labels
DOMAIN_ALERT = 5
DOMAIN_WAVE = 6  # waveforms, as DOMAIN_CARE_UP

STREAM_STATISTICS = 1
STREAM_UPDATE = 2
STREAM_CARE = 3
STREAM_ALERT = 4


def counter_blocks(domain: int, stream: int, cell: int, round_: int, n_blocks: int) -> bytearray:
    """Return ``n_blocks`` counter blocks as a bytearray."""
    blocks = bytearray(n_blocks * BLOCK)
    fill_counters(blocks, struct.pack("<BBHQ", domain, stream, cell, round_), n_blocks)
    return blocks


def fill_keystream(
    buffer: bytearray, key: bytes, domain: int, stream: int, cell: int, round_: int, n_blocks: int
) -> None:
    """Overwrite the first ``n_blocks`` blocks of ``buffer`` with F(key; domain, stream, cell, round)."""
    fill_counters(buffer, struct.pack("<BBHQ", domain, stream, cell, round_), n_blocks)
    aes256_ecb_in_place(key, memoryview(buffer)[: n_blocks * BLOCK])


def keystream(key: bytes, domain: int, stream: int, cell: int, round_: int, n_bytes: int) -> bytes:
    """Return the first ``n_bytes`` of F(key; domain, stream, cell, round)."""
    n_blocks = (n_bytes + BLOCK - 1) // BLOCK
    blocks = bytearray(n_blocks * BLOCK)
    fill_keystream(blocks, key, domain, stream, cell, round_, n_blocks)
    return bytes(memoryview(blocks)[:n_bytes])


def xor_cipher(key: bytes, domain: int, stream: int, position: int, data: bytes) -> bytes:
    """Encrypt or decrypt ``data`` by XOR with the keystream at ``position`` (used once, ever)."""
    n_blocks = (len(data) + BLOCK - 1) // BLOCK
    pad = bytearray(n_blocks * BLOCK)
    fill_keystream(pad, key, domain, stream, 0, position, n_blocks)
    xor(pad, data, len(data))
    return bytes(memoryview(pad)[: len(data)])
