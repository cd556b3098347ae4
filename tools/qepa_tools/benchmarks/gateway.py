"""A gateway's frames a second and its latency: the true daemon, mosquitto, a spool on this machine's disk.

A frame counts when its board has the acknowledgement, which leaves after the commit (WAL, synchronous=FULL). Beside it
stand what the bare broker carries to a client that takes frames and does nothing, its way there and back at the same
rate, and what the disk commits.
"""

import asyncio
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import ToolError
from .load_ward import LoadBoard
from .loaded_gateway import loaded_gateway

BOARDS, VECTOR_BOARDS = 30, 240
LATENCY_PER_S = 1000
TARGET_FRAMES_PER_S, TARGET_P50_MS, TARGET_P99_MS = 3000, 10, 50
"""What this project has set itself."""
FRAMES, ROUNDS, LATENCY_FRAMES = 20_000, 6, 8_000


def run(say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """``rows`` (name, frames, frames_per_s, us_cpu_per_frame, share_of_bare_broker), ``latency``, the machine's limits.

    Raises ToolError if there is no mosquitto, or if something is not acknowledged.
    """
    folder = Path(tempfile.mkdtemp(prefix="qepa-bench-"))
    try:
        return asyncio.run(_measure(folder, say))
    except TimeoutError as error:
        raise ToolError("frames were not acknowledged within minutes: is the machine overloaded?") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measure(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    say("commits of the disk")
    commits = _commits_per_s(folder)
    async with loaded_gateway(folder / "care", BOARDS) as loaded:
        say("the bare broker")
        bare = await loaded.bare_broker(loaded.prepare(FRAMES, LoadBoard.care))
        floor = await loaded.bare_latency(loaded.prepare(LATENCY_FRAMES // 4, LoadBoard.care), LATENCY_PER_S)
        say("care records through the gateway")
        await loaded.start()
        await loaded.grant_care()
        rows = [await loaded.rate(f"care records, {BOARDS} boards", loaded.prepare(FRAMES, LoadBoard.care))]
        say(f"latency at {LATENCY_PER_S} frames a second")
        latencies = await loaded.latency(loaded.prepare(LATENCY_FRAMES, LoadBoard.care), LATENCY_PER_S)
    async with loaded_gateway(folder / "vectors", VECTOR_BOARDS) as loaded:
        await loaded.start()
        say("vectors of rounds through the gateway")
        rows.append(await loaded.rounds(ROUNDS))
    for row in rows:
        row["share_of_bare_broker"] = row["frames_per_s"] / bare
        row["target_per_s"] = TARGET_FRAMES_PER_S
    return {
        "benchmark": "gateway",
        "what": "frames from boards to acknowledged commits: true daemon, mosquitto, spool with synchronous=FULL",
        "rows": rows,
        "latency": [_latency("through the gateway", latencies), _latency("through the broker alone", floor)],
        "bare_broker_frames_per_s": bare,
        "disk_commits_per_s": commits,
    }


def _latency(name: str, seconds: list[float]) -> dict[str, Any]:
    cuts = statistics.quantiles(seconds, n=1000, method="inclusive")
    return {
        "name": name,
        "at_frames_per_s": LATENCY_PER_S,
        "frames": len(seconds),
        "p50_ms": cuts[499] * 1e3,
        "p99_ms": cuts[989] * 1e3,
        "worst_ms": max(seconds) * 1e3,
        "target_p50_ms": TARGET_P50_MS,
        "target_p99_ms": TARGET_P99_MS,
    }


def _commits_per_s(folder: Path) -> float:
    connection = sqlite3.connect(folder / "limit.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (x BLOB)")
        times = []
        for _ in range(200):
            start = time.perf_counter()
            connection.execute("INSERT INTO t VALUES (?)", (bytes(1000),))
            times.append(time.perf_counter() - start)
    finally:
        connection.close()
    return 1 / statistics.median(times)
