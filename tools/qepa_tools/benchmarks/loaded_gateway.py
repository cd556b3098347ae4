"""A gateway under load: the daemon as its own process on a broker, boards and a server that feed it, a stop-watch."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from qepa_uplink.identity import Root, write_private
from qepa_uplink.topics import TO_SERVER_ALL
from qepa_wire import frame, payloads
from qepa_wire.topics import all_boards_up

from ..ward import processes
from .bench_broker import LOAD, BenchBroker
from .load_ward import GATEWAY, STREAMS, LoadBoard, LoadServer, stock
from .raw_mqtt import RawMqtt

WINDOW = 1500  # frames on their way at most
PATIENCE_S = 300.0
_TICK_S = 0.002
_CHUNK = 50
_CHECK_KEY = bytes(32)  # nobody opens these sums
_CONFIGURATION = """\
name = "{gateway}"
state_dir = "state"
identity = "gw-1.json"
root_key = "root.pub"
server_certificate = "server.cert.json"
min_group = 5
[broker]
host = "127.0.0.1"
port = {port}
username = "{gateway}"
password_file = "broker.password"
[bedside]
port = 0
token_file = "bedside.token"
"""

Packet = tuple[int, int, bytes]  # board, number, MQTT packet


@asynccontextmanager
async def loaded_gateway(folder: Path, boards: int) -> AsyncIterator["LoadedGateway"]:
    """A broker and its load; the gateway itself is started by :meth:`LoadedGateway.start`."""
    folder.mkdir()
    broker = await BenchBroker.start(folder / "broker")
    loaded = LoadedGateway(folder, broker, [LoadBoard(number) for number in range(1, boards + 1)])
    try:
        await loaded.connect()
        yield loaded
    finally:
        await loaded.close()
        await broker.child.end()


class LoadedGateway:
    """Latencies are seconds from a frame's last byte written to its acknowledgement read."""

    def __init__(self, folder: Path, broker: BenchBroker, boards: list[LoadBoard]) -> None:
        self._folder = folder
        self._broker = broker
        self._boards = boards
        self._unacknowledged: dict[tuple[int, int], float] = {}
        self._latencies: list[float] = []
        self._told: set[tuple[int, int]] = set()
        self._sink_done = asyncio.Event()
        self._server: LoadServer | None = None
        self._gateway: processes.Child | None = None

    async def connect(self) -> None:
        """Log in as the boards and as the server."""
        port, passwords = self._broker.port, self._broker.passwords
        self._load = await RawMqtt.connect(port, LOAD, passwords[LOAD], self._down)
        await self._load.subscribe(all_boards_up(GATEWAY).removesuffix("up") + "down", qos=0)
        self._uplink = await RawMqtt.connect(port, "server", passwords["server"], self._to_server)
        await self._uplink.subscribe(TO_SERVER_ALL, qos=0)

    async def close(self) -> None:
        """End the gateway and hang up."""
        if self._gateway is not None:
            await self._gateway.end()
        self._load.close()
        self._uplink.close()

    def _to_server(self, topic: str, data: bytes) -> None:
        if self._server is None:
            self._sink_done.set()
        else:
            self._server.receive(topic, data)

    def _down(self, _topic: str, data: bytes) -> None:
        now = time.perf_counter()
        parsed = frame.parse(data, frame.DOWN_TYPES)
        if parsed.type != frame.ACK:
            self._told.add((parsed.type, parsed.board))
            return
        for seq in payloads.decode_ack(parsed.payload):
            sent = self._unacknowledged.pop((parsed.board, seq), None)
            if sent is not None:
                self._latencies.append(now - sent)

    def prepare(self, count: int, make: Callable[[LoadBoard], bytes]) -> list[Packet]:
        """``count`` frames, made ahead, boards in turn."""
        prepared = []
        for i in range(count):
            board = self._boards[i % len(self._boards)]
            data = make(board)
            prepared.append((board.number, board.seq, self._load.packet(board.topic, data)))
        return prepared

    async def bare_broker(self, packets: list[Packet]) -> float:
        """Frames a second to a client in the gateway's place that only takes them."""
        async with self._sink(len(packets)):
            start, before = time.perf_counter(), self._load.acknowledged
            for at in range(0, len(packets), _CHUNK):
                self._load.write(packet for _, _, packet in packets[at : at + _CHUNK])
                await self._moved(partial(self._broker_has, before + at - WINDOW))
            async with asyncio.timeout(PATIENCE_S):
                await self._sink_done.wait()
            return len(packets) / (time.perf_counter() - start)

    async def bare_latency(self, packets: list[Packet], per_s: int) -> list[float]:
        """Seconds there and back through the broker, from a client that acknowledges without reading or storing."""
        async with self._sink(0):
            return await self.latency(packets, per_s)

    @asynccontextmanager
    async def _sink(self, count: int) -> AsyncIterator[None]:
        arguments = [str(self._broker.port), str(self._broker.folder), str(count)]
        sink = await processes.start("sink", "qepa_tools.benchmarks.broker_sink", arguments, logs=self._folder / "logs")
        try:
            await processes.ready(sink)
            yield
        finally:
            await sink.end()

    def _broker_has(self, count: int) -> bool:
        return self._load.acknowledged > count

    async def start(self) -> None:
        """Start the daemon; return when it has adopted the boards and acknowledged their first frames."""
        folder = self._folder
        root = Root.open(folder / "root.key")
        gateway, server, desk = (
            root.issue(GATEWAY, "gateway"),
            root.issue("server", "server"),
            root.issue("d", "consent"),
        )
        gateway.save(folder / "gw-1.json")
        (folder / "root.pub").write_bytes(root.public_key)
        (folder / "server.cert.json").write_text(server.certificate.model_dump_json())
        write_private(folder / "broker.password", self._broker.passwords[GATEWAY].encode())
        (folder / "gateway.toml").write_text(_CONFIGURATION.format(gateway=GATEWAY, port=self._broker.port))
        stock(folder / "state", self._boards)
        self._server = LoadServer(server, gateway, desk, self._boards, self._uplink.publish)
        arguments = ["--config", str(folder / "gateway.toml")]
        self._gateway = await processes.start("gateway", "qepa_gateway", arguments, logs=folder / "logs")
        await processes.ready(self._gateway)
        await self._server.welcomed()
        hellos = self.prepare(len(self._boards), LoadBoard.hello)
        self._send(hellos)
        while self._unacknowledged:  # some may come before their board is adopted; boards repeat
            await self._moved(lambda: not self._unacknowledged, within_s=1.0)
            self._load.write(packet for board, seq, packet in hellos if (board, seq) in self._unacknowledged)

    async def grant_care(self) -> None:
        """Consents for all boards, until each was told its own."""
        assert self._server is not None  # noqa: S101  # started
        for board in self._boards:
            self._server.grant(board)
        await self._moved(lambda: sum(type_ == frame.CARE_GRANT for type_, _ in self._told) == len(self._boards))

    async def rate(self, name: str, packets: list[Packet]) -> dict[str, Any]:
        """As fast as acknowledgements come back: a row of the table."""
        seconds, cpu = await self._all_through(packets)
        return _row(name, len(packets), seconds, cpu)

    async def rounds(self, count: int) -> dict[str, Any]:
        """All vectors of ``count`` rounds, each as fast as acknowledgements come back; its sums must follow."""
        assert self._server is not None  # noqa: S101  # started
        seconds, cpu, frames = 0.0, 0.0, 0
        for number in range(1, count + 1):
            self._told = {each for each in self._told if each[0] != frame.ROUND}
            await self._server.begin_round(number)
            await self._moved(lambda: sum(type_ == frame.ROUND for type_, _ in self._told) == len(self._boards))
            packets = []
            for stream, n_words in STREAMS:
                vector = partial(_vector, number, stream, n_words)
                packets += self.prepare(len(self._boards), vector)
            one_s, one_cpu = await self._all_through(packets)
            seconds, cpu, frames = seconds + one_s, cpu + one_cpu, frames + len(packets)
            await self._server.round_settled(number)
        return _row(f"vectors of {count} rounds, {len(self._boards)} boards", frames, seconds, cpu)

    async def latency(self, packets: list[Packet], per_s: int) -> list[float]:
        """Seconds from frame to acknowledgement at an even rate, whether or not the gateway keeps up."""
        self._latencies.clear()
        start, sent = time.perf_counter(), 0
        while sent < len(packets):
            due = min(len(packets), int((time.perf_counter() - start) * per_s) + 1)
            self._send(packets[sent:due])
            sent = due
            await asyncio.sleep(_TICK_S)
        await self._moved(lambda: not self._unacknowledged)
        return list(self._latencies)

    async def _all_through(self, packets: list[Packet]) -> tuple[float, float]:
        assert self._gateway is not None  # noqa: S101  # started
        before, start = cpu_s(self._gateway.process.pid), time.perf_counter()
        for at in range(0, len(packets), _CHUNK):
            self._send(packets[at : at + _CHUNK])
            await self._moved(lambda: len(self._unacknowledged) < WINDOW)
        await self._moved(lambda: not self._unacknowledged)
        return time.perf_counter() - start, cpu_s(self._gateway.process.pid) - before

    def _send(self, packets: list[Packet]) -> None:
        now = time.perf_counter()
        for board, seq, _ in packets:
            self._unacknowledged[board, seq] = now
        self._load.write(packet for _, _, packet in packets)

    async def _moved(self, condition: Callable[[], bool], *, within_s: float | None = None) -> None:
        """Wait until ``condition`` holds; within ``within_s``, or else a TimeoutError after minutes."""
        try:
            async with asyncio.timeout(within_s or PATIENCE_S):
                while not condition():
                    self._load.moved.clear()
                    await self._load.moved.wait()
        except TimeoutError:
            if within_s is None:
                raise


def _vector(round_: int, stream: int, n_words: int, board: LoadBoard) -> bytes:
    return board.vector(round_, stream, n_words, _CHECK_KEY)


def _row(name: str, frames: int, seconds: float, cpu: float) -> dict[str, Any]:
    return {"name": name, "frames": frames, "frames_per_s": frames / seconds, "us_cpu_per_frame": cpu / frames * 1e6}


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has spent (proc(5)); 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
