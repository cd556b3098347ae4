"""A board on Bluetooth LE: the transport on a real MicroPython, GATT and pairing by bumble, the other end by bleak."""

import asyncio
import time
from ast import literal_eval
from pathlib import Path

import pytest
from bleak import BleakScanner
from bleak.exc import BleakError

from qepa_tools.air.bleak_backend import backends
from qepa_tools.air.radio import Radio
from qepa_wire import gatt
from qepa_wire.fragments import OPEN

from .ble_board import ADDRESS, BOARD, BleBoard, Gateway
from .board_gateway import PATIENCE_S

VECTORS = Path(__file__).parents[1] / "vectors" / "fragments.json"
PASSKEY = 271828
FRAMES = [bytes(range(256))[:1], b"a short one", bytes(range(256)) * 4, b"z" * 8192]
HEART, LOCATION = f"{gatt.HEART_RATE_MEASUREMENT:08x}", f"{gatt.BODY_SENSOR_LOCATION:08x}"
HEART, LOCATION = (f"{each}-0000-1000-8000-00805f9b34fb" for each in (HEART, LOCATION))


@pytest.fixture
def port(unix_run):
    """The i386 port is here; else the test is skipped, loudly."""


@pytest.fixture
async def radio(port):
    async with Radio() as radio:
        yield radio


@pytest.fixture
async def board(radio, tmp_path):
    async with BleBoard(radio, tmp_path / "flash", PASSKEY) as board:
        yield board
        assert not [line for line in board.lines if "Error" in line or "Traceback" in line], board.lines


@pytest.fixture
async def gateway(radio):
    async with Gateway(radio, PASSKEY) as gateway:
        yield gateway


async def answer(central, frame: bytes, **how) -> bytes:
    await central.send(frame, **how)
    return await asyncio.wait_for(central.frames.get(), PATIENCE_S)


async def state(central) -> tuple[dict[str, int], int, int]:
    """(fragments and frames refused, by reason; times the stack was full; bytes free)."""
    return literal_eval((await answer(central, b"state")).decode())


async def test_it_advertises_its_service_and_nothing_that_tells_boards_apart(board, gateway):
    scanner, _ = backends(gateway.device)
    found = await BleakScanner.discover(timeout=1, service_uuids=[gatt.SERVICE], backend=scanner, return_adv=True)
    ((device, data),) = found.values()
    assert device.address == ADDRESS
    assert (data.service_uuids, data.local_name, data.manufacturer_data) == ([gatt.SERVICE], None, {})


@pytest.mark.parametrize("mtu", [23, 185, 247])
@pytest.mark.parametrize("response", [True, False])
async def test_frames_go_both_ways_byte_for_byte(board, gateway, mtu, response):
    async with gateway.connect(pair=True, mtu=mtu) as central:
        assert central.client.mtu_size == mtu
        assert await central.info() == gatt.Info(gatt.VERSION, BOARD, 247, 8192)
        for frame in FRAMES:
            assert await answer(central, frame, response=response) == frame
        assert not central.refused


async def test_a_lost_or_repeated_fragment_down_costs_its_frame_alone(board, gateway):
    frame = b"lost " + bytes(900)
    async with gateway.connect(pair=True, mtu=100) as central:
        for fault in (lambda f: f.pop(3), lambda f: f.pop(0), lambda f: f.pop(), lambda f: f.insert(2, f.pop(4))):
            await central.send(frame, fault=fault)
            assert await answer(central, b"the next") == b"the next"
        assert await answer(central, frame, fault=lambda f: f.insert(2, f[1])) == frame
        assert (await state(central))[0].keys() == {"fragment"}


async def test_a_lost_fragment_up_costs_its_frame_alone(board, gateway):
    async with gateway.connect(pair=True, mtu=100) as central:
        swallowed = iter([False, False, True])
        board.radio_side.loses = lambda _: next(swallowed, False)
        await central.send(b"echo " + bytes(900))
        assert await answer(central, b"the next") == b"the next"
        assert central.refused[0] == "fragment"


async def test_a_connection_that_falls_in_the_middle_of_a_frame_leaves_no_trace_of_it(board, gateway):
    async with gateway.connect(pair=True, mtu=23) as central:
        board.radio_side.notify_delay_s = 0.01
        await central.send(b"many 3 4000", fault=None)
        await board.until(lambda: central.fragments > 20, "fragments")
        await central.send(b"half of a frame " + bytes(200), fault=lambda f: f.__delitem__(slice(5, None)))
    board.radio_side.notify_delay_s = 0
    await board.until(lambda: board.is_advertising, "advertising again")
    async with gateway.connect(pair=False) as central:
        assert len(await asyncio.wait_for(central.frames.get(), PATIENCE_S)) == 4000  # those that had not begun
        frames = [await answer(central, b"afterwards") for _ in range(2)]
        assert frames[-1] == b"afterwards" or b"afterwards" in frames
        assert not central.refused
    assert board.lines.count("connected") == 2


async def test_a_slow_central_is_waited_for_and_nothing_is_lost(board, gateway):
    async with gateway.connect(pair=True) as central:
        board.radio_side.notify_delay_s = 0.002
        await central.send(b"many 40 1028")
        for number in reversed(range(40)):
            assert await asyncio.wait_for(central.frames.get(), PATIENCE_S) == number.to_bytes(4, "little") + bytes(
                1024
            )
        board.radio_side.notify_delay_s = 0
        _, congested, _ = await state(central)
        assert congested > 5
        assert board.radio_side.most_under_way <= 12


async def test_who_has_not_paired_gets_nothing(board, gateway):
    async with gateway.client() as client:
        heard = []
        await client.start_notify(gatt.UP, lambda _, data: heard.append(data))
        await client.start_notify(HEART, lambda _, data: heard.append(data))
        for refused in (
            client.read_gatt_char(gatt.INFO),
            client.read_gatt_char(LOCATION),
            client.write_gatt_char(gatt.DOWN, OPEN, response=True),
        ):
            with pytest.raises(BleakError, match=r"(?i)insufficient|encryption"):
                await refused
        await client.write_gatt_char(gatt.DOWN, OPEN, response=False)
        await asyncio.sleep(0.3)
        assert not heard
    assert "connected" not in board.lines


async def test_pairing_that_just_works_is_not_enough_where_there_is_a_passkey(radio, board):
    async with Gateway(radio, None) as stranger:
        with pytest.raises((BleakError, asyncio.CancelledError)):
            async with stranger.connect(pair=True):
                pass
        await board.until(lambda: board.is_advertising, "advertising again")
    async with Gateway(radio, PASSKEY ^ 1, "F0:F1:F2:F3:F4:01") as guesser:
        with pytest.raises((BleakError, asyncio.CancelledError)):
            async with guesser.connect(pair=True):
                pass
    assert "connected" not in board.lines


async def test_without_a_passkey_pairing_just_works_and_there_is_no_heart_rate(radio, tmp_path):
    async with BleBoard(radio, tmp_path / "flash") as board, Gateway(radio) as gateway:
        async with gateway.connect(pair=True) as central:
            assert await answer(central, b"hello") == b"hello"
            assert gatt.SERVICE in {service.uuid for service in central.client.services}
            assert central.client.services.get_characteristic(HEART) is None
        assert board.lines[0] == "connected"


async def test_a_bond_outlives_the_boards_power(board, gateway):
    async with gateway.connect(pair=True) as central:
        assert await answer(central, b"first") == b"first"
    await board.stop()
    await board.start()
    async with gateway.connect(pair=False) as central:  # encrypted with the key that both have kept
        assert await answer(central, b"again") == b"again"
    await board.stop()
    (board.flash / "qepa" / "bonds").write_bytes(b"worn out")
    await board.start()
    with pytest.raises(BleakError):
        async with gateway.connect(pair=False):
            pass
    await board.until(lambda: board.is_advertising, "advertising again")
    await gateway.forget()
    async with gateway.connect(pair=True) as central:
        assert await answer(central, b"anew") == b"anew"


async def test_a_failure_above_costs_the_connection_and_not_the_radio(board, gateway):
    async with gateway.connect(pair=True) as central:
        await central.send(b"fail next time")
        assert await answer(central, b"hello") == b"hello"
    await board.until(lambda: board.is_advertising, "advertising again")
    async with gateway.connect(pair=False):
        await board.until(lambda: "failed as told" in board.lines, "the failure")
    await board.until(lambda: board.is_advertising, "advertising again")
    async with gateway.connect(pair=False) as central:
        assert await answer(central, b"hello") == b"hello"


async def test_heart_rate_is_told_only_while_a_consent_lasts(board, gateway):
    async with gateway.connect(pair=True) as central:
        heard = []
        await central.client.start_notify(HEART, lambda _, data: heard.append(bytes(data)))
        assert await answer(central, b"hello") == b"hello"
        assert await central.client.read_gatt_char(LOCATION) == b""
        await central.send(b"heart 72")
        await board.until(lambda: heard, "a heart rate")
        assert heard == [gatt.heart_rate_measurement(72, True)] == [b"\x06\x48"]
        assert await central.client.read_gatt_char(LOCATION) == gatt.CHEST
        await central.send(b"end")
        assert await answer(central, b"hello") == b"hello"
        assert await central.client.read_gatt_char(LOCATION) == b""
        assert len(heard) == 1


async def test_a_central_that_only_sits_there_is_dropped(board, gateway, monkeypatch):
    async with gateway.client() as client:
        await asyncio.sleep(0.1)
        assert client.is_connected
        await client.disconnect()
    await board.until(lambda: board.is_advertising, "advertising again")


async def test_throughput_and_memory(board, gateway, capsys):
    async with gateway.connect(pair=True) as central:
        start = time.perf_counter()
        await central.send(b"many 300 1028")
        for _ in range(300):
            await asyncio.wait_for(central.frames.get(), PATIENCE_S)
        took = time.perf_counter() - start
        _, _, free = await state(central)
        assert free > 60 * 1024
    with capsys.disabled():
        print(f"\nBLE on the virtual air, i386 port: {300 / took:.0f} frames/s of 1028 bytes, {free} bytes free")


def test_micropython_makes_the_golden_fragments_and_allocates_for_the_last_one_alone(micropython_run):
    source = """
import gc, json
from qepa_wire.fragments import Fragmenter, Reassembler
with open("/fragments.json") as file:
    cases = json.load(file)["fragments"]
for case in cases:
    fragmenter, reassembler = Fragmenter(), Reassembler(500)
    fragmenter.reset(case["mtu"])
    for _ in range(case["after"]):
        fragmenter.load(b"x")
        fragmenter.next()
    frame = bytes.fromhex(case["frame"])
    fragmenter.load(frame)
    for expected in case["fragments"]:
        fragment = bytes(fragmenter.next())
        assert fragment.hex() == expected
        whole = reassembler.push(fragment)
    assert whole == frame and fragmenter.next() is None
fragmenter.reset(23)
fragmenter.load(bytes(500))
def allocated_by(left):
    before = gc.mem_alloc()
    while left:
        fragmenter.next()
        left -= 1
    return gc.mem_alloc() - before
print(len(cases), allocated_by(20))
"""
    assert micropython_run(source, {"fragments.json": VECTORS.read_bytes()}) == "6 0\n"
