"""The ECG on the ward page: asked for while somebody looks, under a consent alone, and of the present."""

import asyncio
import json
import struct

import httpx
import pytest
from hospital_rig import Rig, ward

from qepa_server.api.app import create_app
from qepa_server.api.waveforms import records
from qepa_server.care.waves import STALE_MS, WATCH_S
from qepa_server.errors import RefusedError
from qepa_uplink.messages import WaveRecord, WaveWatch
from qepa_wire.keys import care_key
from qepa_wire.payloads import WAVE_ACCEL, WAVE_ECG, Wave, encode_wave

CONSENT = bytes(range(16))
FS_HZ = 4


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path, ward(2, 3))
    rig.connect()
    rig.hospital.consents.accept(rig.consent(board_of(rig), CONSENT))
    rig.pump()
    return rig


def board_of(rig, gateway="gw-1"):
    return next(iter(rig.gateways[gateway].boards.values()))


def record(rig, board, seq, *, first=0, channel=WAVE_ECG, axes=1, key=None, age_ms=0):
    samples = struct.pack(f"<{FS_HZ * axes}h", *range(first, first + FS_HZ * axes))
    wave = Wave(channel, axes, FS_HZ, 1, first, (first + 1,), samples)
    payload = encode_wave(key or care_key(board.end_key, CONSENT), CONSENT, board.number, seq, wave)
    return WaveRecord(board=board.number, seq=seq, payload=payload, received_ms=rig.now - age_ms)


def send(rig, message, gateway="gw-1"):
    rig.gateways[gateway].seal(message)
    rig.pump()


def numbers(rig, board, after=0):
    return [each.wave.first for each in rig.hospital.waves.since(board.number, after)]


def test_looking_asks_the_boards_gateway_and_brings_what_comes(rig):
    board = board_of(rig)
    rig.hospital.waves.watch(board.number)
    rig.pump()
    assert rig.gateways["gw-1"].watches == [WaveWatch(board=board.number, seconds=WATCH_S)]
    assert not rig.gateways["gw-2"].watches
    send(rig, record(rig, board, 1, first=100))
    send(rig, record(rig, board, 2, first=104))
    shown = [each.shown() for each in rig.hospital.waves.since(board.number, 0)]
    assert [(each["first"], each["samples"], each["peaks"]) for each in shown] == [
        (100, [100, 101, 102, 103], [101]),
        (104, [104, 105, 106, 107], [105]),
    ]
    assert (shown[0]["fs_hz"], shown[0]["units_per_mv"]) == (FS_HZ, 800)
    assert numbers(rig, board, shown[0]["number"]) == [104]


def test_of_two_leads_the_first_is_shown(rig):
    board = board_of(rig)
    rig.hospital.waves.watch(board.number)
    send(rig, record(rig, board, 1, axes=2))
    assert rig.hospital.waves.since(board.number, 0)[0].shown()["samples"] == [0, 2, 4, 6]


def test_what_nobody_looks_at_is_not_kept(rig):
    board = board_of(rig)
    send(rig, record(rig, board, 1))
    assert numbers(rig, board) == []
    rig.hospital.waves.watch(board.number)
    send(rig, record(rig, board, 2))
    rig.now += 1000 * WATCH_S
    assert numbers(rig, board) == []


def test_what_is_old_is_not_shown(rig):
    board = board_of(rig)
    rig.hospital.waves.watch(board.number)
    send(rig, record(rig, board, 1, age_ms=STALE_MS + 1))
    assert numbers(rig, board) == []
    send(rig, record(rig, board, 2, first=8))
    assert numbers(rig, board) == [8]
    rig.now += STALE_MS + 1
    assert numbers(rig, board) == []


@pytest.mark.parametrize(
    ("changes", "gateway", "reason"),
    [
        ({"key": bytes(32)}, "gw-1", "mac"),
        ({"channel": WAVE_ACCEL, "axes": 3}, "gw-1", "payload"),
        ({}, "gw-2", "board"),
    ],
)
def test_records_that_do_not_fit_are_counted_and_not_shown(rig, changes, gateway, reason):
    board = board_of(rig)
    rig.hospital.waves.watch(board.number)
    send(rig, record(rig, board, 1, **changes), gateway)
    assert rig.hospital.refused[reason] == 1
    assert numbers(rig, board) == []


def test_a_record_counts_once(rig):
    board = board_of(rig)
    rig.hospital.waves.watch(board.number)
    again = record(rig, board, 5)
    send(rig, again)
    send(rig, again)
    assert rig.hospital.refused["replay"] == 1
    assert len(numbers(rig, board)) == 1


def test_without_a_consent_nobody_looks_and_nothing_is_left(rig):
    board = board_of(rig)
    rig.hospital.waves.watch(board.number)
    send(rig, record(rig, board, 1))
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))
    assert rig.hospital.waves.since(board.number, 0) is None
    with pytest.raises(RefusedError, match="no consent"):
        rig.hospital.waves.watch(board.number)
    send(rig, record(rig, board, 2))
    assert rig.hospital.refused["consent"] == 1
    with pytest.raises(RefusedError, match="not enrolled"):
        rig.hospital.waves.watch(0xFFFF)


async def test_the_page_is_told_record_by_record_until_the_consent_ends(rig):
    board = board_of(rig)
    rig.hospital.waves.watch(board.number)
    events = records(rig.hospital, board.number, asyncio.Event())
    told = []
    for seq in (1, 2):
        send(rig, record(rig, board, seq, first=4 * seq))
        line = await asyncio.wait_for(anext(events), 60)
        told.append(json.loads(line.removeprefix("data: "))["first"])
    assert told == [4, 8]
    rig.hospital.consents.withdraw(rig.withdrawal(CONSENT))
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(events), 60)


@pytest.mark.parametrize(("path", "status"), [("0000ffff", 422), ("x", 422), ("{gw-2}", 404)])
async def test_whose_ecg_may_not_be_shown_is_said_at_once(rig, path, status):
    number = path if path != "{gw-2}" else f"{board_of(rig, 'gw-2').number:08x}"
    app = create_app(rig.hospital, host="localhost", stopping=asyncio.Event())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.get(f"/api/boards/{number}/ecg")).status_code == status
