"""LightHE against Paillier: encrypt, add 30 vectors, open; time and bytes of one 240-word update.

Paillier is python-paillier (``phe``) with 2048-bit keys, once with one word in each ciphertext and once with as many
words packed into a plaintext as 30 sums leave room for. The machine's own AES-256 rate stands beside as the limit.
"""

import os
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from qepa_uplink.lighthe import SealedVector, add_all, open_sum, sum_masks
from qepa_wire.keystream import STREAM_UPDATE
from qepa_wire.lighthe import seal

from ..errors import ToolError
from .timing import median_s

WORDS = 240
BOARDS = 30
_SLOT_BITS = 32 + 5  # a 32-bit word and the carries of 30 additions
_PLAINTEXT_BITS = 2046


def run() -> dict[str, Any]:
    """Return the rows of the table: name, encrypt_ms, add_ms, open_ms, total_ms, bytes; and the ratios."""
    rows = [_lighthe(), *_paillier()]
    ours = rows[0]
    for row in rows:
        row["times_slower"] = row["total_ms"] / ours["total_ms"]
        row["times_larger"] = row["bytes"] / ours["bytes"]
    return {
        "benchmark": "lighthe",
        "what": f"one update of {WORDS} words: encrypt once, add {BOARDS}, open",
        "rows": rows,
        "aes256_ecb_mb_s": _aes_rate(),
    }


def _lighthe() -> dict[str, Any]:
    keys = [(os.urandom(32), os.urandom(32)) for _ in range(BOARDS)]
    cohort = os.urandom(32)
    values = [(-1) ** i * 4321 * i for i in range(WORDS)]
    vectors = [SealedVector.from_bytes(seal(values, pair, cohort, STREAM_UPDATE, 1)) for pair in keys]
    every_key = [key for pair in keys for key in pair]

    def opening() -> list[int]:
        total = add_all(vectors, WORDS) - sum_masks(every_key, stream=STREAM_UPDATE, round_=1, n_words=WORDS)
        return [int(x) for x in open_sum(total, cohort, stream=STREAM_UPDATE, round_=1)]

    if opening() != [BOARDS * value for value in values]:
        raise ToolError("the LightHE sum is wrong: nothing to benchmark")
    encrypt = median_s(lambda: seal(values, keys[0], cohort, STREAM_UPDATE, 1))
    add = median_s(lambda: add_all(vectors, WORDS))
    return _row("LightHE (two masks, checks)", encrypt, add, median_s(opening) - add, len(vectors[0].to_bytes()))


def _paillier() -> list[dict[str, Any]]:
    try:
        from phe import paillier  # noqa: PLC0415  # a peer for this benchmark only
    except ImportError as error:
        raise ToolError("the peer is missing: pip install 'qepa[dev]' (python-paillier)") from error
    public, private = paillier.generate_paillier_keypair(n_length=2048)
    ciphertext = public.encrypt(12345)
    size = (ciphertext.ciphertext().bit_length() + 7) // 8
    one = median_s(lambda: public.encrypt(12345), repetitions=3)
    added = median_s(lambda: ciphertext + ciphertext, repetitions=3)
    opened = median_s(lambda: private.decrypt(ciphertext), repetitions=3)
    packed = -(-WORDS // (_PLAINTEXT_BITS // _SLOT_BITS))
    return [
        _row(name, n * one, n * (BOARDS - 1) * added, n * opened, n * size)
        for name, n in ((f"Paillier 2048, packed into {packed}", packed), ("Paillier 2048, a word each", WORDS))
    ]


def _row(name: str, encrypt_s: float, add_s: float, open_s: float, size: int) -> dict[str, Any]:
    times = {"encrypt_ms": encrypt_s * 1e3, "add_ms": add_s * 1e3, "open_ms": open_s * 1e3}
    return {"name": name, **times, "total_ms": sum(times.values()), "bytes": size}


def _aes_rate() -> float:
    data = bytes(1 << 20)
    encryptor = Cipher(algorithms.AES(os.urandom(32)), modes.ECB()).encryptor()  # noqa: S305  # a speed limit, no secret
    return 1 / median_s(lambda: encryptor.update(data)) * len(data) / 1e6
