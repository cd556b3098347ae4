"""The server as a process over a real broker: rounds, kill -9 at every step, refused starts."""

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt
import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "server"))
from hospital_rig import Gateway, Rig, certified, ward
from sqlalchemy import insert

from qepa_server.audit import chain
from qepa_server.registry.signer import HssSigner
from qepa_server.store.database import Store
from qepa_server.store.schema import settings
from qepa_server.store.vault import Vault
from qepa_tools.ward.ports import free_port
from qepa_uplink.enrolment import SignedReply
from qepa_uplink.topics import to_gateway, to_server

PATIENCE_S = 100
"""For whatever waits on a program: the machine may be ten times slower than usual."""


def write_config(folder, *, broker_port, api_port=0, extra=""):
    root, identities = certified()
    identities["server"].save(folder / "server.json")
    (folder / "root.pub").write_bytes(root.public_key)
    path = folder / "server.toml"
    path.write_text(
        'name = "server"\nstate_dir = "state"\nidentity = "server.json"\nroot_key = "root.pub"\n'
        f'[broker]\nhost = "127.0.0.1"\nport = {broker_port}\n[api]\nport = {api_port}\n'
        "[rounds]\nperiod_s = 0.5\nready_within_s = 60\ncollect_within_s = 60\nsettle_within_s = 60\n" + extra
    )
    return path


def small_signing_key(state):
    """Put a signing key there that is made and loaded in no time (2^5 instead of 2^10 leaves)."""
    store = Store.open(state)
    signer = HssSigner.generate(state / "model-signing.key", Vault.open(state / "kek", create=True), height=5)
    with store.write() as connection:
        connection.execute(insert(settings).values(key="model root", value=signer.public_key))
    store.close()


class Server:
    """The server's process."""

    def __init__(self):
        self.config = None
        self.process = None
        self.url = ""

    def start(self):
        with (self.config.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "qepa_server", "--config", str(self.config)], stdout=subprocess.PIPE, stderr=log
            )
        line = self.process.stdout.readline()
        assert line, (self.config.parent / "server.log").read_text()
        self.url = json.loads(line)["api"]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        self.process.stdout.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        return code


@pytest.fixture
def server():
    running = Server()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.kill()


@asynccontextmanager
async def broker():
    from amqtt.broker import Broker

    logging.getLogger("amqtt").setLevel(logging.ERROR)
    port = free_port()
    running = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}", "max_connections": 50}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await running.start()
    try:
        yield port
    finally:  # it may wait for ever for a client whose reader missed its cancellation
        await asyncio.wait([asyncio.create_task(running.shutdown())], timeout=10)


class Bedside:
    """A scripted gateway on the broker. ``watch(data)`` sees each message before the gateway does."""

    def __init__(self, gateway: Gateway, port, watch):
        self.gateway, self.port, self.watch = gateway, port, watch
        self.out = asyncio.Queue()
        gateway.send = self.out.put_nowait

    async def run(self):
        async with aiomqtt.Client("127.0.0.1", self.port) as client:
            await client.subscribe(to_gateway(self.gateway.name))
            self.gateway.connect()
            await asyncio.gather(self.read(client), self.write(client), self.beat())

    async def read(self, client):
        async for message in client.messages:
            await self.watch(message.payload)
            self.gateway.receive(message.payload)

    async def write(self, client):
        while True:
            await client.publish(to_server(self.gateway.name), await self.out.get())

    async def beat(self):
        while True:
            await asyncio.sleep(0.3)
            if self.gateway.welcome is None:
                self.gateway.connect()
            self.gateway.status()
            self.gateway.resend()


class Enrolment(Rig):
    """Only what signs requests; the hospital is a process elsewhere."""

    def __init__(self, layout):
        self.root, self.identities = certified()
        names = sorted(layout)
        pairs = {frozenset((a, b)): os.urandom(32) for a in names for b in names if a < b}
        self.gateways = {
            name: Gateway(
                self.identities[name],
                self.identities["server"],
                boards,
                pairs,
                lambda: time.time_ns() // 1_000_000,
                lambda _: None,
            )
            for name, boards in layout.items()
        }

    async def enrol_all(self, url):
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http:
            for name, gateway in self.gateways.items():
                for board in gateway.boards.values():
                    body = self.request(board, name).model_dump_json()
                    reply = await http.post("/v1/enrolments", content=body)
                    assert reply.status_code == 200, reply.text
                    self.take_reply(board, name, SignedReply.model_validate_json(reply.content))


async def until(condition, within_s=PATIENCE_S):
    end = time.monotonic() + within_s
    while True:
        found = await condition()
        if found:
            return found
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.1)


def check_rounds(rig, details):
    """Every opened sum is exactly that of its contributors."""
    boards = {b.number: b for g in rig.gateways.values() for b in g.boards.values()}
    for detail in details:
        for cell in detail["cells"]:
            if cell["sum"] is not None:
                values = [
                    boards[b].values(cell["stream"], len(cell["sum"]), detail["number"]) for b in cell["contributors"]
                ]
                assert cell["sum"] == [sum(column) for column in zip(*values, strict=True)]


async def run_ward(tmp_path, layout, *, watch, rounds_done, server, extra=""):
    """Run until ``rounds_done`` rounds are done; return (rig, state, details of all rounds)."""
    async with broker() as port:
        (tmp_path / "state").mkdir(mode=0o700)
        small_signing_key(tmp_path / "state")
        expected = f"gateways_expected = {len(layout)}\n"
        server.config = write_config(tmp_path, broker_port=port, api_port=free_port(), extra=expected + extra)
        await asyncio.to_thread(server.start)
        rig = Enrolment(layout)
        await rig.enrol_all(server.url)
        bedsides = [Bedside(gateway, port, watch) for gateway in rig.gateways.values()]
        tasks = [asyncio.create_task(bedside.run()) for bedside in bedsides]
        try:
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:

                async def done():
                    for task in tasks:
                        if task.done():
                            task.result()
                    try:
                        state = (await http.get("/api/state")).json()
                    except httpx.HTTPError:
                        return None
                    return state if sum(r["state"] == "done" for r in state["rounds"]) >= rounds_done else None

                state = await until(done)
                details = [(await http.get(f"/api/rounds/{r['number']}")).json() for r in state["rounds"]]
        finally:
            going = set(tasks)
            while going:  # Python 3.11's wait_for swallows a cancellation that comes together with its result
                for task in going:
                    task.cancel()
                _, going = await asyncio.wait(going, timeout=1)
        return rig, state, details


async def nothing(_data):
    pass


async def test_three_gateways_over_a_broker(tmp_path, server):
    rig, state, details = await run_ward(tmp_path, ward(3, 4), watch=nothing, rounds_done=2, server=server)
    check_rounds(rig, details)
    assert all(r["contributors"] == r["patients"] == 12 for r in state["rounds"] if r["state"] == "done")
    assert state["model"]["version"] >= 3
    latencies = [r["latency_ms"] for r in state["rounds"] if r["state"] == "done"]
    print("last frame in to model out, ms:", latencies)
    assert server.stop() == 0


KILL_AT = ["round_open", "round_start", "ack", "model_release"]


@pytest.mark.parametrize("at", KILL_AT)
async def test_kill_9_at_each_step_loses_nothing_and_opens_nothing_twice(tmp_path, server, at):
    """Boards in the rig fail the test if anybody makes them use a mask twice."""
    from qepa_uplink.envelope import parse, peek
    from qepa_uplink.session import is_sealed

    killed, lock = asyncio.Event(), asyncio.Lock()
    round_began, acks = False, 0

    async def watch(data):
        nonlocal acks, round_began
        kind = "sealed" if is_sealed(data) else peek(parse(data)).type
        if kind == "model_release" and peek(parse(data)).version == 1:
            return
        round_began = round_began or kind == "round_start"
        if kind == "sealed" and round_began:
            acks += 1
            kind = "ack" if acks >= 3 else kind
        if kind == at and not killed.is_set():
            async with lock:
                if not killed.is_set():
                    killed.set()
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)

    rig, state, details = await run_ward(tmp_path, ward(3, 4), watch=watch, rounds_done=3, server=server)
    assert killed.is_set()
    check_rounds(rig, details)
    numbers = [r["number"] for r in state["rounds"]]
    assert numbers == sorted(set(numbers), reverse=True)
    assert all(r["state"] in ("done", "void", "running") for r in state["rounds"])
    assert server.stop() == 0
    store = Store.open(tmp_path / "state")
    with store.read() as connection:
        assert chain.verify(connection) > 0
    store.close()


async def test_the_api_over_http(tmp_path, server):
    """Statuses, the page, server-sent events, and who may ask."""
    rig, _, _ = await run_ward(tmp_path, ward(1, 12), watch=nothing, rounds_done=1, server=server)
    board = next(iter(rig.gateways["gw-1"].boards.values()))
    rig.now = time.time_ns() // 1_000_000
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as http:
        assert (
            await http.post("/v1/consents", content=rig.consent(board, bytes(16)).model_dump_json())
        ).status_code == 200
        wrong = rig.consent(board, bytes(16), signer="dock").model_dump_json()
        assert (await http.post("/v1/consents", content=wrong)).status_code == 403
        assert (
            await http.post("/v1/withdrawals", content=rig.withdrawal(bytes(16)).model_dump_json())
        ).status_code == 200
        assert (
            await http.post("/v1/withdrawals", content=rig.withdrawal(b"x" * 16).model_dump_json())
        ).status_code == 404
        assert (await http.post("/v1/enrolments", content=b"{}")).status_code == 400
        assert (await http.post("/v1/enrolments", content=b"x" * 70000)).status_code == 413
        assert (await http.post("/api/alarms/1/acknowledge")).status_code == 404
        foreign = {"origin": "http://evil.example"}
        assert (await http.post("/api/alarms/1/acknowledge", headers=foreign)).status_code == 403
        assert (await http.get("/api/state", headers={"host": "evil.example"})).status_code == 400
        assert (await http.get("/api/rounds/999")).status_code == 404
        assert (await http.get("/api/rounds/x")).status_code == 422
        model = (await http.get("/api/model")).json()
        assert len(model["words"]) == 72
        page = await http.get("/")
        assert page.status_code == 200
        assert "script-src 'self'" in page.headers["content-security-policy"]
        seen = []
        async with http.stream("GET", "/api/events") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line[6:])["now_ms"])
                if len(seen) == 2:
                    break
        assert seen[1] - seen[0] > 500
        # a reader that stays must not keep the server from ending
        async with http.stream("GET", "/api/events"):
            assert await asyncio.to_thread(server.stop) == 0


def start_and_fail(config):
    done = subprocess.run(
        [sys.executable, "-m", "qepa_server", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stderr.strip().splitlines()


def test_starts_that_cannot_work_end_with_one_sentence_and_2(tmp_path):
    config = write_config(tmp_path, broker_port=1)
    (tmp_path / "state").mkdir(mode=0o700)
    small_signing_key(tmp_path / "state")

    def refused(said, path=config):
        code, lines = start_and_fail(path)
        assert code == 2
        assert said in lines[-1]
        assert "Traceback" not in "".join(lines)

    refused("cannot read", tmp_path / "missing.toml")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = write_config(tmp_path, broker_port=1, api_port=taken.getsockname()[1])
        refused("cannot listen", busy)
    refused(
        "4096 * 1000000 = 4096000000 is not below 2^31",
        write_config(tmp_path, broker_port=1, extra="[learning]\nq_max = 1000000\n"),
    )
    write_config(tmp_path, broker_port=1)
    key = tmp_path / "state" / "model-signing.key"
    shutil.copy(key, tmp_path / "kept")
    key.write_bytes(b"rubbish")
    refused("does not open")
    shutil.copy(tmp_path / "kept", key)
    (tmp_path / "state" / "kek").unlink()
    refused("cannot read the key file")
    (tmp_path / "root.pub").unlink()
    refused("cannot read the root key")


def test_no_broker_is_not_the_end(tmp_path, server):
    (tmp_path / "state").mkdir(mode=0o700)
    small_signing_key(tmp_path / "state")
    server.config = write_config(tmp_path, broker_port=free_port())
    server.start()
    assert httpx.get(server.url + "/api/state", timeout=PATIENCE_S).json()["round"] is None
    assert server.stop() == 0
