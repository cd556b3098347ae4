"""LightHE against what else adds encrypted vectors: encrypt one, add 30, open; time and bytes of a 240-word update.

Beside it the server's unmasking from 100 to 100,000 boards, with this machine's AES-256-CTR and memory rates.
"""

import os
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qepa_uplink.lighthe import add_sealed, open_sum, seal_values, sum_masks
from qepa_wire.keystream import STREAM_UPDATE
from qepa_wire.lighthe import seal

from ..errors import ToolError
from . import peers, unmasking
from .machine import aes256_ctr_bytes_per_s, memory_bytes_per_s
from .timing import median_s

WORDS = 240
BOARDS = 30
_VALUES = array("i", [(-1) ** i * (37 * i % 1024) for i in range(WORDS)])


def run(say: Callable[[str], None] = lambda _: None, out: Path | None = None) -> dict[str, Any]:
    """Return ``rows`` (name, encrypt_ms, add_ms, open_ms, total_ms, bytes, ratios), ``growth``, ``missing``, rates.

    ``out`` is a folder for the plot of the growth.
    """
    say("LightHE")
    rows, missing = _lighthe(), []
    for what in (_paillier, _tenseal, _flower):
        say(what.__name__.removeprefix("_"))
        try:
            rows += what()
        except ToolError as error:
            missing.append(str(error))
    ours = rows[0]
    for row in rows:
        row["times_slower"] = row["total_ms"] / ours["total_ms"]
        row["times_larger"] = row["bytes"] / ours["bytes"]
    say("AES and memory of this machine")
    aes, memory = aes256_ctr_bytes_per_s(), memory_bytes_per_s()
    growth = unmasking.growth(WORDS, aes, memory, say)
    if out is not None:
        unmasking.plot(growth, out / "unmask.svg")
    return {
        "benchmark": "lighthe",
        "what": f"one update of {WORDS} words: encrypt once, add {BOARDS}, open; CPU time",
        "rows": rows,
        "growth": growth,
        "missing": missing,
        "aes256_ctr_mb_s": aes / 1e6,
        "memory_mb_s": memory / 1e6,
    }


def _lighthe() -> list[dict[str, Any]]:
    keys = [(os.urandom(32), os.urandom(32)) for _ in range(BOARDS)]
    check = os.urandom(32)
    place = {"stream": STREAM_UPDATE, "round_": 1}
    vectors = [seal_values(_VALUES, pair, check, **place).to_bytes() for pair in keys]
    links, ends = ([pair[i] for pair in keys] for i in (0, 1))

    def opening() -> Any:
        at_gateway = add_sealed(vectors, WORDS) - sum_masks(links, n_words=WORDS, **place)
        return open_sum(at_gateway - sum_masks(ends, n_words=WORDS, **place), check, **place)

    if opening().tolist() != [BOARDS * value for value in _VALUES] or vectors[0] != seal(_VALUES, keys[0], check, 2, 1):
        raise ToolError("the LightHE sum is wrong: nothing to benchmark")
    add = median_s(lambda: add_sealed(vectors, WORDS))
    opened = median_s(opening) - add
    size = len(vectors[0])
    numpy = median_s(lambda: seal_values(_VALUES, keys[0], check, **place).to_bytes())
    board = median_s(lambda: seal(_VALUES, keys[0], check, STREAM_UPDATE, 1))
    return [
        peers.measured("LightHE (two masks, checks)", numpy, add, opened, size),
        peers.measured("LightHE, a board's own code on CPython", board, add, opened, size),
    ]


def _paillier() -> list[dict[str, Any]]:
    return peers.paillier(WORDS, BOARDS)


def _tenseal() -> list[dict[str, Any]]:
    return peers.tenseal(_VALUES, BOARDS)


def _flower() -> list[dict[str, Any]]:
    return peers.flower(WORDS, BOARDS)
