"""The gateway as a process behind a real broker: killed, stopped, started wrongly."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from pathlib import Path

import aiomqtt
import httpx
import pytest
from amqtt.broker import Broker

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "gateway"))

from bedside_rig import Kme, Server, VirtualBoard, identity, root

from qepa_gateway.spool.boards import BoardStore
from qepa_gateway.spool.database import Spool
from qepa_gateway.transport import Outgoing
from qepa_tools.ward.ports import free_port
from qepa_uplink.identity import write_private
from qepa_uplink.topics import TO_SERVER_ALL
from qepa_wire.topics import board_up

PATIENCE_S = 100
"""For whatever waits on a program: the machine may be ten times slower than usual."""


def configure(directory, broker_port, **changes):
    """Write everything a gateway needs; return the configuration's path."""
    identity("gw-1", "gateway").save(directory / "gw-1.json")
    (directory / "root.pub").write_bytes(root().public_key)
    (directory / "server.cert.json").write_text(identity("server", "server").certificate.model_dump_json())
    bedside_port = changes.get("bedside_port", 0)
    path = directory / "gateway.toml"
    path.write_text(f"""
name = "{changes.get("name", "gw-1")}"
state_dir = "state"
identity = "{changes.get("identity", "gw-1.json")}"
root_key = "root.pub"
server_certificate = "server.cert.json"
min_group = {changes.get("min_group", 10)}
[broker]
host = "127.0.0.1"
port = {broker_port}
[bedside]
port = {bedside_port}
token_file = "token"
""")
    return path


class Process:
    """``python -m qepa_gateway`` until it is stopped or killed."""

    def __init__(self, process, bedside):
        self.process, self.bedside = process, bedside

    @classmethod
    async def start(cls, config):
        with config.with_name("gateway.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "qepa_gateway", "--config", str(config)),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        assert line, config.with_name("gateway.log").read_text()
        return cls(process, json.loads(line)["bedside"])

    async def end(self, number):
        if self.process.returncode is None:
            self.process.send_signal(number)
        await asyncio.wait_for(self.process.communicate(), PATIENCE_S)
        return self.process.returncode


class LiveWard:
    """The rig's server and boards on a real broker; pads were fetched before, so no KME is needed."""

    def __init__(self, directory, boards=12):
        self.kme = Kme()
        self.sites = ["gw-1"]
        self.boards = {n: VirtualBoard(n, f"p-{n}", "gw-1", self.kme) for n in range(1, boards + 1)}
        self.server = Server(self)
        self.waiting = asyncio.Queue()
        self.hellos = [board.boot() for board in self.boards.values()]
        spool = Spool.open(directory / "state")
        store = BoardStore(spool)
        for key_id, key in self.kme.stock.items():
            store.save_fetched(key_id, key)
        spool.close()

    @property
    def now_ms(self):
        return time.time_ns() // 1_000_000

    def deliver(self, message):
        self.waiting.put_nowait(message)

    async def run(self, port):
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.subscribe([(TO_SERVER_ALL, 1), ("qepa/1/board/+/+/down", 1)])
            sender = asyncio.create_task(self._send(client))
            try:
                async for message in client.messages:
                    parts = message.topic.value.split("/")
                    if parts[2] == "server":
                        self.server.receive(parts[3], message.payload)
                    else:
                        self.boards[int(parts[4], 16)].receive(message.payload)
            finally:
                sender.cancel()

    async def _send(self, client):
        while True:
            message = await self.waiting.get()
            await client.publish(message.topic, message.payload, qos=message.qos)

    def flush(self):
        for board in self.boards.values():
            for seq in sorted(board.outbox):
                self.up(board, board.outbox[seq])

    def up(self, board, data):
        self.deliver(Outgoing(board_up("gw-1", board.number), data))

    async def until(self, condition, *, resend=True, timeout_s=PATIENCE_S):
        """Boards repeat what is unacknowledged until ``condition`` holds."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                if resend:
                    self.flush()
                await asyncio.sleep(0.3)


@contextlib.asynccontextmanager
async def broker():
    port = free_port()
    served = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await served.start()
    try:
        yield port
    finally:  # it may wait for ever for a client whose reader missed its cancellation
        await asyncio.wait([asyncio.create_task(served.shutdown())], timeout=10)


@contextlib.asynccontextmanager
async def live_ward(directory):
    async with broker() as port:
        config = configure(directory, port)
        ward = LiveWard(directory)
        link = asyncio.create_task(ward.run(port))
        try:
            yield ward, config
        finally:
            link.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await link


async def test_a_gateway_killed_in_the_middle_of_a_round_loses_and_doubles_nothing(tmp_path):
    async with live_ward(tmp_path) as (ward, config):
        gateway = await Process.start(config)
        try:
            await ward.until(lambda: "gw-1" in ward.server.sessions, resend=False)
            await ward.until(lambda: not any(board.outbox for board in ward.boards.values()))
            silent = ward.boards[12]
            silent.deaf_to_rounds = True
            opening = {"ready_within_ms": 100_000, "collect_within_ms": 200_000}
            ward.server.broadcast(ward.server.round_open(1, **opening))
            await ward.until(lambda: 1 in ward.server.readies)
            ward.server.broadcast(ward.server.round_start(1))
            await ward.until(lambda: len(ward.boards[1].sealed) == 2 and not ward.boards[1].outbox)
            await gateway.end(signal.SIGKILL)

            acknowledged = [n for n, b in ward.boards.items() if len(b.sealed) == 2 and not b.outbox]
            assert acknowledged
            for n in acknowledged:
                ward.boards[n].on = False  # it need not do anything more: the gateway holds its vectors
            silent.deaf_to_rounds = False
            gateway = await Process.start(config)
            await ward.until(lambda: len(ward.server.decided) == 2)
        finally:
            await gateway.end(signal.SIGKILL)
        for stream in (1, 2):
            (partial,) = ward.server.partials_of(1, stream)
            assert partial.contributors == tuple(range(1, 13))
            total = [sum(column) for column in zip(*(b.sealed[1, stream] for b in ward.boards.values()), strict=True)]
            assert ward.server.open([partial]) == total
        assert all(len(sent) == 1 for sent in ward.server.submitted_bytes.values())


async def test_sigterm_ends_it_cleanly_and_the_broker_may_come_later(tmp_path):
    port = free_port()
    gateway = await Process.start(configure(tmp_path, port))
    async with httpx.AsyncClient(base_url=gateway.bedside) as http:
        health = (await http.get("/healthz")).json()
        assert (health["ok"], health["name"], health["session"]) == (True, "gw-1", False)
        assert set(health["degraded"]) == {"broker", "server"}
    assert await gateway.end(signal.SIGTERM) == 0


async def fails_to_start(config):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "qepa_gateway",
        "--config",
        str(config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 2
    assert out == b""
    assert err.count(b"\n") == 1
    return err.decode()


async def test_a_missing_configuration_is_one_sentence(tmp_path):
    assert "No such file" in await fails_to_start(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"min_group": 4}, "min_group"),
        ({"identity": "none.json"}, "none.json"),
        ({"name": "gw-2"}, "identity of gw-1"),
    ],
)
async def test_a_wrong_configuration_is_one_sentence(tmp_path, changes, says):
    assert says in await fails_to_start(configure(tmp_path, 1883, **changes))


async def test_a_busy_port_is_one_sentence(tmp_path):
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        port = door.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in await fails_to_start(configure(tmp_path, 1, bedside_port=port))


async def test_unreadable_tls_files_are_one_sentence(tmp_path):
    config = configure(tmp_path, 1883)
    kme = '[kme]\nurl = "https://127.0.0.1:1"\nca = "no.pem"\ncert = "no.pem"\nkey = "no.key"\n'
    config.write_text(config.read_text() + kme)
    assert "cannot be used" in await fails_to_start(config)


async def test_an_unreadable_key_store_is_one_sentence(tmp_path):
    config = configure(tmp_path, 1883)
    Spool.open(tmp_path / "state").close()
    write_private(tmp_path / "state" / "kek", bytes(32))
    assert "does not open with this key-encryption key" in await fails_to_start(config)


async def test_systemd_is_told_when_it_is_ready_and_alive(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        gateway = await Process.start(configure(tmp_path, free_port()))
        said = [await asyncio.to_thread(notify.recv, 256) for _ in range(2)]
        assert await gateway.end(signal.SIGTERM) == 0
        assert said == [b"READY=1", b"WATCHDOG=1\nSTATUS=broker, server"]
        assert notify.recv(64) == b"STOPPING=1"
