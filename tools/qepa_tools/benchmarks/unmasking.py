"""The server's unmasking by number of boards, beside what AES and memory of this machine allow."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qepa_server.unmask.opening import Contributor, Limits, open_cell
from qepa_uplink.lighthe import SealedVector, seal_values, sum_masks
from qepa_uplink.messages import Partial
from qepa_wire.keystream import STREAM_UPDATE
from qepa_wire.lighthe import vector_bytes

from ..errors import ToolError
from .timing import median_s

SIZES = (100, 300, 1_000, 1_500, 3_000, 10_000, 30_000, 100_000)
LIMITS_MS = {1_500: 3.0, 100_000: 150.0}
"""What this project has set itself."""
_PER_GATEWAY = 30
_PER_CELL = 50_000  # a contributor list holds 65,535
_PER_PATIENT = 8
_ROUND = 7


def growth(words: int, aes: float, memory: float, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rows: boards, ms, us_per_board, limit_ms (what the keystream's AES and one pass over it cost), times_limit."""
    rows = []
    keystream = -(-vector_bytes(words) // 16) * 16
    for boards in SIZES:
        say(f"unmask {boards:,} boards")
        cells = [
            _cell(range(first, min(first + _PER_CELL, boards + 1)), words) for first in range(1, boards + 1, _PER_CELL)
        ]

        def work(cells: list[Callable[[], None]] = cells) -> None:
            for opens in cells:
                opens()

        seconds = median_s(work, repetitions=5)
        limit = boards * keystream * (1 / aes + 1 / memory)
        rows.append(
            {
                "boards": boards,
                "unmask_ms": seconds * 1e3,
                "us_per_board": seconds * 1e6 / boards,
                "machine_limit_ms": limit * 1e3,
                "times_limit": seconds / limit,
                "target_ms": LIMITS_MS.get(boards, ""),
            }
        )
    return rows


def _cell(boards: range, words: int) -> Callable[[], None]:
    """Return what opens the sum of ``boards`` by the server's own code, every check included."""
    check_key, value = os.urandom(32), [(-1) ** i * (i % 100) for i in range(words)]
    keys = {board: os.urandom(32) for board in boards}
    gateways = {board: f"gw-{board // _PER_GATEWAY % 50}" for board in boards}
    records = {board: Contributor(f"p-{board // _PER_PATIENT}", gateways[board], key) for board, key in keys.items()}
    total = seal_values([len(keys) * v for v in value], (), check_key, stream=STREAM_UPDATE, round_=_ROUND)
    masked = total + sum_masks(keys.values(), stream=STREAM_UPDATE, round_=_ROUND, n_words=words)
    names = sorted(set(gateways.values()))
    rest = SealedVector(np.zeros(words, np.uint32), np.zeros(2, np.uint64))
    partials = [
        _partial(name, tuple(b for b in boards if gateways[b] == name), masked if name == names[0] else rest)
        for name in names
    ]
    limits = Limits(words, 100, len(keys), 5)

    def opens() -> None:
        opened = open_cell(partials, names, records, check_key, limits, round_=_ROUND, stream=STREAM_UPDATE)
        if opened.total[1] != len(keys) * value[1]:
            raise ToolError("the sum is wrong: nothing to benchmark")

    return opens


def _partial(gateway: str, contributors: tuple[int, ...], sealed: SealedVector) -> Partial:
    return Partial(
        id=gateway,
        round=_ROUND,
        cell=1,
        stream=STREAM_UPDATE,
        gateway=gateway,
        contributors=contributors,
        patients=1,
        n_words=len(sealed.words),
        sealed=sealed.to_bytes(),
        last_frame_ms=0,
    )


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the growth as a picture; raises ToolError without matplotlib."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  # for the picture only
    except ImportError as error:
        raise ToolError("a picture needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    boards = [row["boards"] for row in rows]
    axes.loglog(boards, [row["unmask_ms"] for row in rows], "o-", label="unmask, check, range")
    axes.loglog(boards, [row["machine_limit_ms"] for row in rows], "--", label="AES-256 and memory of this machine")
    axes.loglog(list(LIMITS_MS), list(LIMITS_MS.values()), "v", label="target")
    axes.set_xlabel("boards")
    axes.set_ylabel("ms of one core")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
