"""``python -m qepa_tools.simulation.boards TASK``: all simulated boards in one process.

The boards of a gateway share one connection to the broker; each has its own topics, keys, counters and frames.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from qepa_uplink.broker import BrokerConnection
from qepa_wire.topics import board_down, board_up

from .light_board import LightBoard, Provision, World
from .plan import SimulationPlan
from .programs import log_to_stderr, read_task, until_told
from .signals import NoiseStock, Signals
from .stand_in_keys import pad_of

_AGAIN_S = 4.0  # a frame that is not acknowledged is sent again
_LOOK_S = 0.5
_BOOT_AT_A_TIME, _BOOT_PAUSE_S = 50, 0.05


class Truth:
    """What was sealed, by (round, stream): kept in memory, written at the end."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, int], tuple[list[int], list[list[int]]]] = {}

    def record(self, round_: int, stream: int, board: int, words: list[int]) -> None:
        """Note the words of one board."""
        boards, rows = self._rows.setdefault((round_, stream), ([], []))
        boards.append(board)
        rows.append(words)

    def write(self, folder: Path) -> None:
        """Write ``ROUND-STREAM.npz`` with ``boards`` (n) and ``words`` (n, n_words)."""
        folder.mkdir(parents=True, exist_ok=True)
        for (round_, stream), (boards, rows) in self._rows.items():
            np.savez(folder / f"{round_}-{stream}.npz", boards=np.array(boards), words=np.array(rows, np.int64))


class Beds:
    """The boards of one gateway on one connection."""

    def __init__(self, gateway: str, boards: Sequence[LightBoard], host: str, port: int) -> None:
        self._gateway = gateway
        self._boards = {board_down(gateway, board.number): board for board in boards}
        self._broker = BrokerConnection(
            f"simulated-boards-{gateway}", host, port, [(f"qepa/1/board/{gateway}/+/down", 0)]
        )
        self._sent_s: dict[tuple[int, int], float] = {}

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._broker.run(self._receive))
            tasks.create_task(self._boot())
            tasks.create_task(self._repeat())

    def _receive(self, topic: str, data: bytes) -> None:
        board = self._boards.get(topic)
        if board is not None:
            self._send(board, board.receive(data))

    def _send(self, board: LightBoard, frames: Iterable[bytes]) -> None:
        for data in frames:
            self._sent_s[board.number, int.from_bytes(data[12:16], "little")] = time.monotonic()
            self._broker.publish(board_up(self._gateway, board.number), data)

    async def _boot(self) -> None:
        while not self._broker.connected:
            await asyncio.sleep(_BOOT_PAUSE_S)
        for i, board in enumerate(self._boards.values()):
            if i % _BOOT_AT_A_TIME == 0:
                await asyncio.sleep(_BOOT_PAUSE_S)
            self._send(board, [board.boot()])

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            late_s = time.monotonic() - _AGAIN_S
            held = {(board.number, seq): board for board in self._boards.values() for seq in board.outbox}
            self._sent_s = {place: at_s for place, at_s in self._sent_s.items() if place in held}
            for (number, seq), board in held.items():
                if self._sent_s.get((number, seq), 0.0) < late_s:
                    self._send(board, [board.outbox[seq]])


async def _draw_ahead(noise: NoiseStock) -> None:
    while True:
        await asyncio.sleep(0.0 if noise.fill() else 0.2)


async def _run(beds: Sequence[Beds], noise: NoiseStock) -> None:
    async with asyncio.TaskGroup() as tasks:
        for each in beds:
            tasks.create_task(each.run())
        tasks.create_task(_draw_ahead(noise))


def make_boards(
    plan: SimulationPlan, provisions: Iterable[Provision], secret: bytes, truth: Truth, noise: NoiseStock
) -> dict[str, list[LightBoard]]:
    """Return the boards of each gateway."""
    world = World(
        pad=lambda key_id: pad_of(secret, key_id),
        values=Signals(plan.seed).values,
        noise=noise.take,
        is_silent=plan.is_silent,
        sealed=truth.record,
    )
    found: dict[str, list[LightBoard]] = {}
    for provision in provisions:
        found.setdefault(provision.gateway, []).append(LightBoard(provision, world))
    return found


def main() -> None:
    """Run until SIGTERM, then write the truth."""
    log_to_stderr()
    plan, task = read_task(Path(sys.argv[1]))
    records = json.loads(Path(task["boards"]).read_text())
    provisions = [
        Provision(**(record | {name: bytes.fromhex(record[name]) for name in ("end_key", "cohort_key", "model_root")}))
        for record in records
    ]
    truth, noise = Truth(), NoiseStock(plan.seed)
    boards = make_boards(plan, provisions, bytes.fromhex(task["secret"]), truth, noise)
    beds = [Beds(gateway, found, task["host"], task["port"]) for gateway, found in sorted(boards.items())]
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(until_told(_run(beds, noise), pid=os.getpid()))
    truth.write(Path(task["truth"]))


if __name__ == "__main__":
    main()
