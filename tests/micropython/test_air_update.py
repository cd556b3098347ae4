"""A release over the air to a real interpreter: from the real gateway's core, over MQTT, into the other slot and back.

The board is the i386 port with a heap of 160 kB and a ROM partition. The server's part is played: what it would have
signed is handed to the core. Radio, LittleFS and xtensa code are not tested here.
"""

import asyncio
import contextlib
import json
import os

import aiomqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from qepa_gateway.core import Gateway as GatewayCore
from qepa_gateway.core import Trusted
from qepa_gateway.domain.rollout import Stage, Terms
from qepa_gateway.spool.database import Spool
from qepa_tools.firmware_build.bundle import Bundle, build_bundle
from qepa_tools.recordings.chip_wiring import wire_board
from qepa_tools.ward.ports import free_port
from qepa_uplink.identity import Root
from qepa_uplink.messages import FirmwareRelease
from qepa_wire import frame, topics

from ..unit.board_app.slot_rig import ROOT, signed
from .board_gateway import GATEWAY, Cable, Gateway, Peer, Ward
from .test_memory import AD8232
from .test_update import BOARD, ConsoleBoard, crashing, flash_board, small_pauses, successor

TERMS = Terms(confirm_within_ms=600_000, soak_ms=0, again_after_ms=0, most_failures=1, reboots=True)
PATIENCE_S = 300


class Bedside:
    """The gateway's core between its spool and the broker; ``kill`` leaves the spool as it is."""

    def __init__(self, directory, port: int, pads: dict[bytes, bytes]) -> None:
        root = Root(MLDSA65PrivateKey.generate())
        self._trusted = Trusted(root.issue(GATEWAY, "gateway"), root.public_key, root.issue("server", "server").subject)
        self._directory, self._port, self._pads = directory, port, pads
        self.sent = 0
        self.news = asyncio.Condition()

    async def start(self) -> None:
        self._spool = Spool.open(self._directory)
        self.core = GatewayCore(
            self._trusted,
            self._spool,
            lambda: int(asyncio.get_running_loop().time() * 1000) + 1_700_000_000_000,
            min_group=10,
            firmware_root=ROOT,
            firmware_terms=TERMS,
        )
        with self._spool.transaction():
            self.core.boards.adopt({BOARD: "p-1"})
        self._task = asyncio.create_task(self._run())

    async def kill(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._spool.close()

    async def _run(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self._port, identifier="gateway") as client:
            await client.subscribe(topics.all_boards_up(GATEWAY))
            reader = asyncio.create_task(self._read(client))
            try:
                while True:
                    self.core.step()
                    for key_id in self.core.take_key_requests():
                        self.core.key_arrived(key_id, self._pads[key_id])
                    for message in self.core.drain():
                        if message.topic == topics.board_down(GATEWAY, BOARD):
                            self.sent += message.payload[2] == frame.FIRMWARE_PIECE
                            await client.publish(message.topic, message.payload)
                    async with self.news:
                        self.news.notify_all()
                    await asyncio.sleep(0.02)
            finally:
                reader.cancel()

    async def _read(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self.core.receive(message.topic.value, bytes(message.payload))

    def release(self, bundle: Bundle, path, number: int) -> None:
        bundle.write(path)
        self.core.firmware.take(
            FirmwareRelease(number=number, kind="unix", boards=(BOARD,), bundle=path.read_bytes()), "server"
        )

    @property
    def board(self) -> tuple[int, int]:
        """(version, mode) of the last HELLO."""
        row = self.core.boards.get(BOARD).row
        return row.firmware, row.mode

    async def until(self, condition, what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S), self.news:
                await self.news.wait_for(lambda: self._task.done() or condition())
        except TimeoutError:
            raise AssertionError(f"did not happen: {what}; the board runs {self.board}") from None
        if self._task.done():
            await self._task


@contextlib.asynccontextmanager
async def bed(fleet, tmp_path, *, rom: bool = True):
    """A board that runs version 1, its gateway, and that version."""
    played = Gateway(free_port(), "amqtt")
    await played.broker.start()
    async with Cable(played.port) as cable:
        ward = Ward(fleet, played, cable, tmp_path)
        board, peer = ConsoleBoard(ward), Peer(BOARD)
        bedside = Bedside(tmp_path / "spool", played.port, peer.pads)
        try:
            await bedside.start()
            if not rom:
                board.rom = None
            yield board, bedside, await _begin(board, bedside, ward, peer, tmp_path)
        finally:
            await bedside.kill()
            await board.close()
    await asyncio.wait([asyncio.create_task(played.broker.shutdown())], timeout=10)  # as in board_gateway


async def _begin(board: ConsoleBoard, bedside: Bedside, ward: Ward, peer: Peer, tmp_path) -> Bundle:
    first = signed(build_bundle(board.target, 1, tmp_path / "bundle.zip"))
    flash_board(board.flash, first)
    wire_board(board.flash, [AD8232])  # a heart that beats: an asystole would hold the update back
    (board.flash / "qepa/board.json").write_text(json.dumps({"target": board.target, "sensors": [AD8232]}))
    small_pauses(board.flash)
    await board.start()
    assert (await board.dock(f"provision({ward.identity(peer, firmware_root=ROOT.hex())!r})"))["ok"]
    pads = [(os.urandom(16), os.urandom(32)) for _ in range(8)]
    peer.pads.update(pads)
    assert (await board.dock(f"load({b''.join(i + k for i, k in pads).hex()!r})"))["loaded"] == 8
    await bedside.until(lambda: bedside.board == (1, 0), "HELLO of version 1")
    return first


@pytest.mark.slow
async def test_a_board_takes_a_release_over_mqtt_proves_it_and_one_that_crashes_stops_the_roll_out(
    fleet, unix_run, tmp_path
):
    async with bed(fleet, tmp_path) as (board, bedside, first):
        await _story(board, bedside, first, tmp_path)


async def _story(board: ConsoleBoard, bedside: Bedside, first: Bundle, tmp_path) -> None:
    # In the middle the power of both fails.
    second = successor(first, 2)
    bedside.release(second, tmp_path / "second.zip", 1)
    news = -(-len(second.files["lib/qepa_board/news.py"]) // 1024)
    release = -(-len(second.manifest_bytes) // 1024) + -(-len(second.signature) // 1024)
    await bedside.until(lambda: bedside.sent > release + news // 2, "half of it")
    await board.cut_power()
    await bedside.kill()
    sent = bedside.sent
    await bedside.start()
    await board.start()
    await bedside.until(lambda: bedside.board == (2, 2), "version 2 on trial")
    await bedside.until(lambda: bedside.board == (2, 0), "version 2 confirmed")
    assert bedside.sent - sent <= news - news // 2 + 2  # it went on where it was; a piece may have been lost
    await bedside.until(lambda: bedside.core.firmware.stage("unix") is Stage.WARD, "the ward")

    bedside.release(crashing(first, 3), tmp_path / "third.zip", 2)
    await bedside.until(lambda: bedside.core.firmware.stage("unix") is Stage.WITHDRAWN, "the release withdrawn")
    assert bedside.board == (2, 0)


@pytest.mark.slow
async def test_a_board_whose_memory_holds_its_code_takes_none_and_goes_on(fleet, unix_run, tmp_path):
    async with bed(fleet, tmp_path, rom=False) as (board, bedside, first):
        bedside.release(successor(first, 2), tmp_path / "second.zip", 1)
        await bedside.until(lambda: "refused type 0x49: memory" in board.printed, "the refusal")
        assert bedside.sent == 0
        assert "not connected" not in board.printed.rsplit("connected, 0 frames", 1)[-1]
