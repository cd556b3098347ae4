"""The Bluetooth transport over an adapter played by the test: what it does when that fails or finds nothing more."""

import asyncio
import contextlib
import functools
import sys
from types import SimpleNamespace

import pytest
from bedside_rig import Rig
from test_config import changed

from qepa_gateway.bedside.metrics import prometheus_text
from qepa_gateway.ble import transport
from qepa_gateway.ble.bleak_radio import BleakRadio
from qepa_gateway.ble.transport import BleTransport
from qepa_gateway.config import load_config
from qepa_gateway.domain.silence import Step
from qepa_gateway.errors import ConfigError, RadioError
from qepa_gateway.health import REASONS
from qepa_gateway.transport import Outgoing
from qepa_wire.fragments import Fragmenter
from qepa_wire.gatt import encode_info
from qepa_wire.topics import board_down, board_up

FRAME = b"a frame"


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


class Link:
    """A connection to a board that says it is ``board``."""

    mtu = 100

    def __init__(self, board, gone):
        self.board, self.gone, self.written, self.closed = board, gone, [], False
        self.received = None

    async def info(self):
        return encode_info(self.board, 247, 4096)

    async def listen(self, received):
        self.received = received

    async def write(self, fragment):
        self.written.append(fragment)

    async def close(self):
        self.closed = True

    def say(self, frame=FRAME):
        cutter = Fragmenter()
        cutter.load(frame)
        self.received(bytes(cutter.next()))


class Radio:
    """An adapter; ``boards`` by address are in reach."""

    def __init__(self, **boards):
        self.boards, self.links, self.cycles, self.scans, self.failing = boards, {}, 0, 0, False

    @contextlib.asynccontextmanager
    async def scanning(self, seen):
        self.scans += 1
        if self.failing:
            raise RadioError("no adapter")
        for address in self.boards:
            if address not in self.links or self.links[address].closed:
                seen(address)
        yield

    async def connect(self, address, gone):
        if address not in self.boards:
            raise RadioError("out of reach")
        self.links[address] = Link(self.boards[address], gone)
        return self.links[address]

    async def power_cycle(self):
        self.cycles += 1


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(transport, "_RADIO_AGAIN_S", 0.01)


@contextlib.asynccontextmanager
async def running(radio):
    now = SimpleNamespace(ms=0)
    counts, arrived = [], []
    ble = BleTransport(
        "gw-1", radio, serves=lambda board: board < 10, count=lambda reason, _: counts.append(reason), most=3, hold_s=5,
        clock=lambda: now.ms, uniform=lambda: 0.0, scan_s=0.01, rest_s=0.01,
    )  # fmt: skip
    task = asyncio.create_task(ble.run(lambda topic, data: arrived.append((topic, data))))
    try:
        yield SimpleNamespace(ble=ble, now=now, counts=counts, arrived=arrived, task=task)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert all(link.closed for link in radio.links.values())


async def test_frames_go_up_under_the_boards_topic_and_down_to_it_alone():
    radio = Radio(a=1, b=2)
    async with running(radio) as air:
        await until(lambda: air.ble.report().connections == 2)
        radio.links["a"].say()
        assert air.arrived == [(board_up("gw-1", 1), FRAME)]
        for topic in (board_down("gw-1", 1), board_down("gw-2", 2), board_down("gw-1", 7), "qepa/1/gateway/gw-1"):
            air.ble.publish(Outgoing(topic, b"down"))
        await until(lambda: radio.links["a"].written)
        assert radio.links["b"].written == []
        assert b"".join(radio.links["a"].written)[1:] == b"down"


async def test_who_is_not_in_the_directory_hears_nothing_and_is_let_go():
    radio = Radio(a=99)
    async with running(radio) as air:
        await until(lambda: "unknown_board" in air.ble.report().ends)
        assert radio.links["a"].closed
        assert radio.links["a"].received is None
        assert air.counts == ["ble_unknown_board"]


async def test_an_adapter_that_does_not_scan_is_told_and_reset_and_work_goes_on_when_it_does():
    radio = Radio(a=1)
    radio.failing = True
    async with running(radio) as air:
        await until(lambda: radio.cycles >= 3)  # the one at the start, and then again and again
        assert air.ble.faults == ("bluetooth",)
        assert "bluetooth" in REASONS
        radio.failing = False
        await until(lambda: air.ble.report().connections == 1)
        assert air.ble.faults == ()


async def test_boards_that_were_there_and_are_found_no_more_make_it_begin_anew_from_the_adapter_up():
    radio = Radio(a=1)
    async with running(radio) as air:
        await until(lambda: air.ble.report().connections == 1)
        radio.links["a"].say()
        air.ble.publish(Outgoing(board_down("gw-1", 1), b"acknowledged"))
        del radio.boards["a"]
        radio.links["a"].gone()
        await until(lambda: air.ble.report().connections == 0)
        before = radio.cycles
        for _ in range(20):  # each look of the transport's is one scan
            air.now.ms += 10_000
            scans = radio.scans
            await until(lambda scans=scans: radio.scans >= scans + 2)
        assert radio.cycles == before + 1


async def test_recovery_ends_connections_and_makes_them_again():
    radio = Radio(a=1)
    async with running(radio) as air:
        await until(lambda: air.ble.report().connections == 1)
        await air.ble.recover(Step.POWER_CYCLE)
        await until(lambda: radio.cycles == 2)
        air.now.ms += 1000
        await until(lambda: air.ble.report().connects == 2)
        assert air.ble.report().ends == {"recovery": 1}


async def test_the_power_cycle_is_a_command():
    await BleakRadio(power_cycle=(sys.executable, "-c", "")).power_cycle()
    with pytest.raises(RadioError, match="ended with 3"):
        await BleakRadio(power_cycle=(sys.executable, "-c", "raise SystemExit(3)")).power_cycle()
    with pytest.raises(RadioError, match="FileNotFoundError"):
        await BleakRadio(power_cycle=("no-such-program",)).power_cycle()


async def test_metrics_tell_of_connections_and_of_no_device(tmp_path):
    radio = Radio(a=1, b=99)
    async with running(radio) as air:
        await until(lambda: air.ble.report().connections == 1 and air.ble.report().ends)
        gateway = Rig(tmp_path, patients=5).site.gateway
        text = prometheus_text(gateway, 0, ble=air.ble.report())
    assert "qepa_ble_connections 1.0" in text
    assert 'qepa_ble_ends_total{reason="unknown_board"} 1.0' in text


def test_its_settings(tmp_path):
    section = '[ble]\nadapter = "hci1"\npower_cycle = ["true"]\n\n[bedside] '
    config = load_config(changed(tmp_path, ("[bedside] ", section)))
    assert (config.ble.adapter, config.ble.power_cycle, config.ble.connections) == ("hci1", ("true",), 7)
    assert load_config(changed(tmp_path)).ble is None
    with pytest.raises(ConfigError, match=r"ble\.connections: input should be less than or equal to 32"):
        load_config(changed(tmp_path, ("[bedside] ", "[ble]\nconnections = 33\n\n[bedside] ")))


@pytest.mark.parametrize("where", ["connect", "write"])
async def test_it_ends_though_a_library_swallows_its_cancellation(where):
    radio = Radio(a=1)
    reached = asyncio.Event()

    async def swallow(inner, *args):
        reached.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return await inner(*args)

    if where == "connect":
        radio.connect = functools.partial(swallow, radio.connect)
    async with running(radio) as run:
        if where == "write":
            await until(lambda: "a" in radio.links and radio.links["a"].received is not None)
            link = radio.links["a"]
            link.write = functools.partial(swallow, link.write)
            run.ble.publish(Outgoing(board_down("gw-1", 1), FRAME))
        await reached.wait()
        run.task.cancel()
        await asyncio.wait([run.task], timeout=10)
        assert run.task.cancelled()
