"""A gateway's process and its boards over a real mosquitto, which is killed with SIGKILL in the middle of a round."""

import asyncio
import contextlib
import getpass
import shutil
import signal
import sys
from pathlib import Path

import aiomqtt
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_gateway import LiveWard, Process, configure

from qepa_tools.ward.ports import free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="NOT TESTED: mosquitto is not installed")
PATIENCE_S = 240


async def start_broker(folder, port):
    conf = folder / "mosquitto.conf"
    conf.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser {getpass.getuser()}\n")
    quiet = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(MOSQUITTO, "-c", str(conf), stdout=quiet, stderr=quiet)


async def keep_talking(ward, port):
    while True:
        with contextlib.suppress(aiomqtt.MqttError):
            await ward.run(port)
        await asyncio.sleep(0.2)


@pytest.mark.timeout(600)
async def test_a_broker_killed_in_a_round_loses_and_doubles_nothing(tmp_path):
    port = free_port()
    broker = await start_broker(tmp_path, port)
    config, ward = configure(tmp_path, port), LiveWard(tmp_path)
    link = asyncio.create_task(keep_talking(ward, port))
    gateway = await Process.start(config)
    try:
        await ward.until(lambda: "gw-1" in ward.server.sessions, timeout_s=PATIENCE_S)
        await ward.until(lambda: not any(board.outbox for board in ward.boards.values()), timeout_s=PATIENCE_S)
        ward.boards[12].deaf_to_rounds = True
        ward.server.broadcast(ward.server.round_open(1, ready_within_ms=100_000, collect_within_ms=200_000))
        await ward.until(lambda: 1 in ward.server.readies, timeout_s=PATIENCE_S)
        ward.server.broadcast(ward.server.round_start(1))
        await ward.until(lambda: len(ward.boards[1].sealed) == 2, timeout_s=PATIENCE_S)
        broker.send_signal(signal.SIGKILL)
        await broker.wait()
        ward.boards[1].alert()
        broker = await start_broker(tmp_path, port)
        ward.boards[12].deaf_to_rounds = False
        await ward.until(lambda: len(ward.server.decided) == 2 and ward.server.alerts, timeout_s=PATIENCE_S)
    finally:
        await gateway.end(signal.SIGKILL)
        link.cancel()
        await asyncio.gather(link, return_exceptions=True)
        broker.kill()
        await broker.wait()
    for stream in (1, 2):
        (partial,) = ward.server.partials_of(1, stream)
        assert partial.contributors == tuple(range(1, 13))
        total = [sum(column) for column in zip(*(b.sealed[1, stream] for b in ward.boards.values()), strict=True)]
        assert ward.server.open([partial]) == total
    assert all(len(sent) == 1 for sent in ward.server.submitted_bytes.values())
