"""The gateway's side of the wire, small and by the wire's own codecs, with an embedded broker, for board tests."""

import asyncio
import contextlib
import json
import os
import shutil
import struct
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import pyhsslms.pyhsslms as hsslms
from amqtt.broker import Broker

from qepa_tools.fleet.fleet import BoardSpec, Ecg, Fleet
from qepa_wire import frame as wire
from qepa_wire import keys, lighthe, model, payloads, topics
from qepa_wire.errors import WireError
from qepa_wire.keystream import DOMAIN_MASK, keystream
from qepa_wire.one_time import open_one_time, reference, unmask_alert

FS_HZ = 360
GATEWAY = "gw-1"
PATIENCE_S = 100
"""For whatever waits on a board or a program: the machine may be ten times slower than usual."""
FIRMWARE = Path(__file__).parents[2] / "firmware"
PACKAGES = tuple(FIRMWARE / name for name in ("qepa_kernels", "qepa_wire", "qepa_boot", "qepa_board"))
MAIN = "from qepa_board.app import run\nrun()\n"
FEATURES, CLASSES = 17, 4
STATISTICS = payloads.StreamOrder(1, 16, 90000, 90000, 0, 0, 0)
UPDATE = payloads.StreamOrder(2, (FEATURES + 1) * CLASSES, 1024, 1024, 0, 0, 0)


def synthetic_ecg(path: Path, seconds: int = 60, bpm: int = 75, fs_hz: int = FS_HZ) -> Path:
    """Triangular QRS complexes of 1 mV with a T wave: enough for a detector, no claim to be a heart."""
    counts = array("H")
    period = fs_hz * 60 // bpm
    for n in range(seconds * 60 // 60 * fs_hz // period * period):
        phase = n % period
        value = 0
        if phase < 18:
            value = 400 * (9 - abs(phase - 9)) // 9
        elif 90 <= phase < 150:
            value = 80 * (30 - abs(phase - 120)) // 30
        counts.append((2048 + value) << 4)
    path.write_bytes(counts.tobytes())
    return path


@dataclass
class LinkKeys:
    mask: bytes
    up: bytes
    down: bytes
    alert: bytes


def link_keys(key: bytes) -> LinkKeys:
    labels = (keys.LINK_MASK, keys.LINK_MAC_UP, keys.LINK_MAC_DOWN, keys.LINK_ALERT)
    return LinkKeys(*(keys.derive(key, label) for label in labels))


@dataclass
class Peer:
    """What the gateway (and, for the end key, the server) knows of one board."""

    board: int
    end_key: bytes = field(default_factory=lambda: os.urandom(32))
    pads: dict[bytes, bytes] = field(default_factory=dict)
    epochs: dict[int, LinkKeys] = field(default_factory=dict)
    hellos: list[tuple[int, payloads.Hello]] = field(default_factory=list)
    references: list[tuple[bytes, int]] = field(default_factory=list)
    vectors: dict[tuple[int, int], tuple[int, payloads.Vector]] = field(default_factory=dict)
    sealed: dict[tuple[int, int], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    frames: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    alerts: list[payloads.Alert] = field(default_factory=list)
    cares: list[payloads.Care] = field(default_factory=list)
    waves: list[payloads.Wave] = field(default_factory=list)
    consents: dict[bytes, bytes] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    blocks: dict[bytes, bytes] = field(default_factory=dict)
    used_bytes: set[tuple[bytes, int]] = field(default_factory=set)
    one_time: set[int] = field(default_factory=set)  # numbers of frames under one-time pads
    one_time_pads: dict[tuple[int, int], bytes] = field(default_factory=dict)
    acknowledging: bool = True
    down_seq: int = 0

    @property
    def epoch(self) -> int:
        return max(self.epochs)


class Cable:
    """TCP between the boards and the broker, to be pulled; ``greeting`` is what it answers instead of the broker."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._writers: list[asyncio.StreamWriter] = []
        self.plugged = True
        self.greeting: bytes | None = None
        self.greeted = 0

    async def __aenter__(self) -> "Cable":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.pull()
        self._server.close()

    def pull(self) -> None:
        self.plugged = False
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        if not self.plugged:
            writer.close()
        elif self.greeting is not None:
            await reader.read(100)
            self.greeted += 1
            writer.write(self.greeting)
        else:
            broker_reader, broker_writer = await asyncio.open_connection("127.0.0.1", self._broker_port)
            self._writers.append(broker_writer)
            await asyncio.gather(self._copy(reader, broker_writer), self._copy(broker_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        writer.close()


def embedded_broker(port: int) -> Broker:
    return Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )


def find_mosquitto() -> str | None:
    return shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")


class Mosquitto:
    """The broker of a real gateway, as a process."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            find_mosquitto(), "-p", str(self.port), stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )

    async def shutdown(self) -> None:
        self.process.terminate()
        await self.process.wait()


class Gateway:
    """A broker plus a client that answers boards."""

    def __init__(self, port: int, broker: str = "amqtt") -> None:
        self.port = port
        self.broker = Mosquitto(port) if broker == "mosquitto" else embedded_broker(port)
        self.cohort_key = os.urandom(32)
        self.orders: dict[int, payloads.RoundOrder] = {}
        self.hss = hsslms.HssPrivateKey(
            levels=1, lms_type=hsslms.lms_sha256_m32_h5, lmots_type=hsslms.lmots_sha256_n32_w4
        )
        self.peers: dict[int, Peer] = {}
        self.news = asyncio.Condition()

    async def __aenter__(self) -> "Gateway":
        await self.broker.start()
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        while not self._task.done():  # Python 3.11's wait_for swallows a cancellation that comes with its result
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1)
        await asyncio.wait([asyncio.create_task(self.broker.shutdown())], timeout=10)  # so it may wait for ever
        if not self._task.cancelled():
            self._task.result()

    async def _serve(self) -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client("127.0.0.1", self.port, identifier="gateway") as client:
                    self.client = client
                    await client.subscribe(topics.all_boards_up(GATEWAY))
                    async for message in client.messages:
                        await self._take(bytes(message.payload))
            await asyncio.sleep(0.2)

    async def _take(self, data: bytes) -> None:
        parsed = wire.parse(data, wire.UP_TYPES)
        peer = self.peers[parsed.board]
        async with self.news:
            try:
                await self._handle(peer, parsed, data)
            except WireError as error:
                peer.refused.append(str(error))
            self.news.notify_all()

    async def _handle(self, peer: Peer, parsed: wire.Frame, data: bytes) -> None:
        if parsed.type == wire.HELLO and parsed.epoch not in peer.epochs:
            hello = payloads.decode_hello(parsed.payload)
            candidate = link_keys(keys.ratchet(peer.pads[hello.key_id], hello.steps))
            wire.authenticate(data, candidate.up)
            assert not peer.epochs or parsed.epoch > peer.epoch
            assert (hello.key_id, hello.steps) not in peer.references, "a link key was used twice"
            peer.references.append((hello.key_id, hello.steps))
            peer.epochs[parsed.epoch] = candidate
            peer.down_seq = max(peer.down_seq, 0)
        if parsed.epoch not in peer.epochs:
            raise WireError("epoch", f"{parsed.epoch}, frame type {parsed.type}")
        of_epoch = peer.epochs[parsed.epoch]
        wire.authenticate(data, of_epoch.up)
        peer.frames[parsed.seq].add(data)
        assert len(peer.frames[parsed.seq]) == 1, "one sequence number, two frames"
        if parsed.suite == wire.SUITE_OTP:
            parsed = self._open_one_time(peer, parsed)
        if parsed.type == wire.HELLO:
            peer.hellos.append((parsed.epoch, payloads.decode_hello(parsed.payload)))
        elif parsed.type == wire.VECTOR:
            vector = payloads.decode_vector(parsed.payload)
            key = (vector.stream, vector.round)
            peer.one_time_pads[key] = parsed.pad
            peer.sealed[key].add(vector.sealed)
            peer.vectors[key] = (parsed.epoch, vector)
        elif parsed.type == wire.ALERT:
            otp = parsed.suite == wire.SUITE_OTP
            decoded = unmask_alert(parsed) if otp else payloads.decode_alert(of_epoch.alert, parsed.seq, parsed.payload)
            peer.alerts.append(decoded)
        elif parsed.type == wire.PADS:
            held = [payloads.HeldBlock(key_id, 0) for key_id in payloads.decode_pads(parsed.payload)]
            assert all(block.key_id in peer.blocks for block in held)
            await self.send(peer, wire.PADS_HELD, payloads.encode_held(held))
        else:
            care_key = peer.consents[payloads.care_consent(parsed.payload)]
            if parsed.type == wire.WAVE:
                peer.waves.append(payloads.decode_wave(care_key, peer.board, parsed.seq, parsed.payload))
            else:
                peer.cares.append(payloads.decode_care(care_key, peer.board, parsed.seq, parsed.payload))
        if parsed.type not in (wire.CARE, wire.WAVE) and peer.acknowledging:
            await self.send(peer, wire.ACK, payloads.encode_ack([parsed.seq]))

    def _open_one_time(self, peer: Peer, parsed: wire.Frame) -> wire.Frame:
        key_id, offset, n_bytes = reference(parsed)
        used = {(key_id, i) for i in range(offset, offset + n_bytes)}
        if parsed.seq not in peer.one_time:
            assert not used & peer.used_bytes, "one-time bytes were used twice"
            peer.used_bytes |= used
        peer.one_time.add(parsed.seq)
        return open_one_time(parsed, peer.blocks[key_id][offset : offset + n_bytes])

    def frame(self, peer: Peer, type_: int, payload: bytes) -> bytes:
        peer.down_seq += 1
        return wire.encode(type_, peer.board, peer.epoch, peer.down_seq, payload, peer.epochs[peer.epoch].down)

    async def send(self, peer: Peer, type_: int, payload: bytes) -> bytes:
        data = self.frame(peer, type_, payload)
        await self.publish(peer, data)
        return data

    async def publish(self, peer: Peer, data: bytes) -> None:
        await self.client.publish(topics.board_down(GATEWAY, peer.board), data)

    async def order(self, peer: Peer, round_: int, *streams: payloads.StreamOrder, version: int = 0) -> bytes:
        order = payloads.RoundOrder(round_, version, 60000, 100, streams or (STATISTICS, UPDATE))
        self.orders[round_] = order
        return await self.send(peer, wire.ROUND, payloads.encode_round(order))

    def release(self, version: int, words: list[int] | None = None, hidden: int = 0) -> bytes:
        kind = model.HIDDEN if hidden else model.SOFTMAX
        words = words or [version] * model.model_words(kind, FEATURES, hidden, CLASSES)
        blob = model.encode_model(model.Model(version, kind, FEATURES, hidden, CLASSES, 12, words))
        return model.encode_release(blob, self.hss.sign(model.CONTEXT + blob))

    async def until(self, condition, what: str, timeout_s: float = PATIENCE_S) -> None:
        try:
            async with asyncio.timeout(timeout_s), self.news:
                await self.news.wait_for(condition)
        except TimeoutError:
            raise AssertionError(
                f"did not happen: {what}; refused: {[p.refused for p in self.peers.values()]}"
            ) from None

    def open(self, peers: list[Peer], stream: int, round_: int) -> list[int]:
        """Sum the peers' vectors, strip every mask, verify the check values; returns the signed sum."""
        total = None
        for peer in peers:
            epoch, vector = peer.vectors[stream, round_]
            link, end = peer.epochs[epoch].mask, keys.derive(peer.end_key, keys.END_MASK)
            size = len(vector.sealed)
            masks = [peer.one_time_pads[stream, round_] or keystream(link, DOMAIN_MASK, stream, 0, round_, size)]
            masks.append(keystream(end, DOMAIN_MASK, stream, 0, round_, size))
            words = list(struct.unpack(f"<{vector.n_words}I2Q", vector.sealed))
            for mask in masks:
                pad = struct.unpack(f"<{vector.n_words}I2Q", mask)
                words = [a - b for a, b in zip(words, pad, strict=True)]
            total = words if total is None else [a + b for a, b in zip(total, words, strict=True)]
        signed = [(word + 2**31) % 2**32 - 2**31 for word in total[:-2]]
        order = self.orders[round_]
        terms = next(item for item in order.streams if item.stream == stream)
        cohort = keys.derive(self.cohort_key, keys.COHORT_CHECK)
        check_key = payloads.terms_key(cohort, order.model, order.n_max, terms)
        assert tuple(word % 2**64 for word in total[-2:]) == lighthe.check_values(signed, check_key, stream, round_)
        return signed


class Ward:
    """Virtual boards that are docked with a Gateway."""

    def __init__(self, fleet: Fleet, gateway: Gateway, cable: Cable, tmp_path: Path) -> None:
        self.fleet, self.gateway, self.cable, self.tmp_path = fleet, gateway, cable, tmp_path
        self.ecg = synthetic_ecg(tmp_path / "ecg.u16")

    def spec(self, board: int, speed: float = 1.0) -> BoardSpec:
        return BoardSpec(
            board=f"{board:08x}",
            flash=self.tmp_path / f"flash-{board:08x}",
            firmware=PACKAGES,
            main=MAIN,
            ecg=Ecg(path=self.ecg, fs_hz=FS_HZ),
            speed=speed,
        )

    def identity(self, peer: Peer, **changes: object) -> str:
        record = {
            "board": peer.board,
            "gateway": GATEWAY,
            "broker": {"host": "127.0.0.1", "port": self.cable.port},
            "fs_hz": FS_HZ,
            "rekey_s": 3600,
            "end_key": peer.end_key.hex(),
            "cohort_key": self.gateway.cohort_key.hex(),
            "model_root": self.gateway.hss.publicKey().serialize().hex(),
        }
        return json.dumps(record | changes)

    async def dock(self, board: int, call: str) -> dict:
        printed = await self.fleet.exec(f"{board:08x}", f"from qepa_board.system import dock\ndock.{call}")
        return json.loads(printed.strip().splitlines()[-1])

    async def load(self, peer: Peer, count: int) -> dict:
        pads = [(os.urandom(16), os.urandom(32)) for _ in range(count)]
        peer.pads.update(pads)
        return await self.dock(peer.board, f"load({b''.join(i + k for i, k in pads).hex()!r})")

    async def load_blocks(self, peer: Peer, count: int, size: int = 1024) -> dict:
        blocks = [(os.urandom(16), os.urandom(size)) for _ in range(count)]
        peer.blocks.update(blocks)
        return await self.dock(peer.board, f"load_blocks({b''.join(i + k for i, k in blocks).hex()!r}, {size})")

    async def admit(self, board: int, pads: int = 4, speed: float = 1.0, **changes: object) -> Peer:
        """Start a board, dock it, wait for its HELLO."""
        peer = self.gateway.peers[board] = Peer(board)
        await self.fleet.start_board(self.spec(board, speed))
        assert (await self.dock(board, f"provision({self.identity(peer, **changes)!r})"))["ok"]
        assert (await self.load(peer, pads))["loaded"] == pads
        await self.gateway.until(lambda: peer.hellos, "HELLO")
        return peer

    async def power_cycle(self, peer: Peer) -> None:
        """Cut the power in whatever the board was doing, and put it on again."""
        await self.fleet.kill(f"{peer.board:08x}")
        await self.fleet.start_board(self.spec(peer.board))
