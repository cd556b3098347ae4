"""The unmodified board application on real MicroPython interpreters, against a broker and a gateway's codecs."""

import asyncio
import itertools
import json
import os
from collections.abc import AsyncIterator

import pytest

from qepa_server.training.initial import initial_model
from qepa_tools.fleet.events import Log, ProgramError
from qepa_tools.ward.ports import free_port
from qepa_uplink.readings import value_of
from qepa_wire import frame as wire
from qepa_wire import keys, payloads
from qepa_wire.measures import HEART_RATE
from qepa_wire.statistics import scaled

from .board_gateway import CLASSES, FEATURES, PATIENCE_S, STATISTICS, UPDATE, Cable, Gateway, Peer, Ward, find_mosquitto

BOARD = 0x2A
# Keeps what the board is about to seal, so that opened sums can be compared with it.
WATCH_PLAIN = """
from qepa_board.app import App
plain = []
def watch(name):
    inner = getattr(App.running.rounds, name)
    def outer(*args):
        values = inner(*args)
        plain.append(list(values))
        return values
    setattr(App.running.rounds, name, outer)
watch("_statistics")
watch("_update")
"""

NO_MEMORY_FOR_WAVES = """
from qepa_board.app import App
def full(*args):
    raise MemoryError
App.running.link.send_waves = full
"""


@pytest.fixture
async def ward(fleet, tmp_path, request) -> AsyncIterator[Ward]:
    broker = getattr(request, "param", "amqtt")
    if broker == "mosquitto" and find_mosquitto() is None:
        missing = "NO MOSQUITTO on this machine: boards were tested with the embedded broker only"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    logs = []
    task = asyncio.create_task(_collect(fleet, logs))
    async with Gateway(free_port(), broker) as gateway, Cable(gateway.port) as cable:
        ward = Ward(fleet, gateway, cable, tmp_path)
        ward.logs, ward.expected_failure = logs, None
        yield ward
        failed = [event for event in logs if isinstance(event, ProgramError) or "failed" in event.line]
        failed = [event for event in failed if not ward.expected_failure or ward.expected_failure not in event.line]
        assert not failed, failed
    task.cancel()


async def _collect(fleet, logs):
    async for event in fleet.events():
        if isinstance(event, Log | ProgramError):
            logs.append(event)


def refused(ward: Ward, board: int = BOARD):
    code = "import json\nfrom qepa_board.app import App\nprint(json.dumps(App.running.link.refused))"
    return _json(ward, board, code)


async def _json(ward, board, code):
    return json.loads(await ward.fleet.exec(f"{board:08x}", code))


async def until_said(ward: Ward, lines: int = 1) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(ward.logs) < lines:
            await asyncio.sleep(0.05)


async def until_refused(ward: Ward, reason: str, count: int = 1) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await refused(ward)).get(reason, 0) < count:
            await asyncio.sleep(0.05)


async def until_all_arrived(ward: Ward, peer: Peer, round_: int = 9) -> None:
    """What was sent before is taken, and what the board sent until then is here: all goes one way, in order."""
    await ward.gateway.order(peer, round_, STATISTICS)
    await ward.gateway.until(lambda: (1, round_) in peer.vectors, "the vector of a round")


async def test_an_undocked_board_says_so_and_notices_the_dock_by_itself(ward):
    peer = ward.gateway.peers[BOARD] = Peer(BOARD)
    await ward.fleet.start_board(ward.spec(BOARD))
    await until_said(ward)
    assert [event.line for event in ward.logs] == ["qepa: not provisioned: put this board on the dock"]
    assert (await ward.dock(BOARD, "status()"))["provisioned"] is False
    assert (await ward.dock(BOARD, f"provision({ward.identity(peer)!r})"))["ok"]
    await until_said(ward, 2)
    samples = "from qepa_board.app import App\nprint(App.running.vitals.pipeline.n_samples)"
    async with asyncio.timeout(PATIENCE_S):
        while await _json(ward, BOARD, samples) <= 100:
            await asyncio.sleep(0.05)
    assert ward.logs[-1].line == "qepa: no link key: load pads at the dock"
    assert not peer.frames
    assert await ward.load(peer, 2) == {"ok": True, "loaded": 2, "known": 0, "pads": 2}
    await ward.gateway.until(lambda: peer.hellos, "HELLO")
    epoch, hello = peer.hellos[0]
    assert (epoch, hello.steps, hello.boots, hello.pads) == (1, 0, 1, 1)


@pytest.mark.parametrize("ward", ["amqtt", "mosquitto"], indirect=True)
async def test_two_boards_vectors_open_to_the_sum_of_their_plain_values(ward):
    peers = [await ward.admit(board, speed=4) for board in (BOARD, BOARD + 1)]
    for peer in peers:
        await ward.gateway.send(peer, wire.MODEL, ward.gateway.release(1))
        await ward.fleet.exec(f"{peer.board:08x}", WATCH_PLAIN)
    await asyncio.sleep(3)
    for peer in peers:
        await ward.gateway.order(peer, 1, STATISTICS._replace(), UPDATE, version=1)
    await ward.gateway.until(lambda: all(len(peer.vectors) == 2 for peer in peers), "both vectors of both boards")
    plain = [await _json(ward, peer.board, "import json\nprint(json.dumps(plain))") for peer in peers]
    for stream in (1, 2):
        expected = [a + b for a, b in zip(plain[0][stream - 1], plain[1][stream - 1], strict=True)]
        assert ward.gateway.open(peers, stream, 1) == expected
    valid, hr_bpm = ward.gateway.open(peers, 1, 1)[:2]
    assert valid == 2
    assert hr_bpm == 150


async def test_model_and_order_are_refused_when_forged_old_or_replayed(ward):
    peer = await ward.admit(BOARD)
    gateway = ward.gateway
    release = gateway.release(2)
    await gateway.send(peer, wire.MODEL, release[:-1] + bytes([release[-1] ^ 1]))
    await until_refused(ward, "signature")
    await gateway.send(peer, wire.MODEL, release)
    await gateway.send(peer, wire.MODEL, release)
    await gateway.send(peer, wire.MODEL, gateway.release(1))
    await until_refused(ward, "downgrade")
    first = await gateway.order(peer, 5, version=2)
    await gateway.until(lambda: len(peer.vectors) == 2, "both vectors")
    await gateway.publish(peer, first)
    await until_refused(ward, "replay")
    await gateway.order(peer, 5, version=2)
    await until_refused(ward, "replay", 2)
    await gateway.order(peer, 4, version=2)
    await until_refused(ward, "replay", 3)
    await gateway.order(peer, 6, STATISTICS._replace(q_max=1 << 30), version=2)
    await until_refused(ward, "quantizer")
    await gateway.order(peer, 6, STATISTICS._replace(n_words=15), version=2)
    await until_refused(ward, "length")
    await gateway.order(peer, 6, UPDATE, version=1)
    await until_refused(ward, "model")
    tampered = bytearray(gateway.frame(peer, wire.ROUND, b"x" * 31))
    tampered[25] ^= 1
    await gateway.publish(peer, bytes(tampered))
    await until_refused(ward, "mac")
    await gateway.publish(peer, b"garbage")
    await until_refused(ward, "truncated")
    assert len(peer.vectors) == 2
    assert not peer.refused


async def test_a_power_cut_loses_no_vector_and_no_round_is_sealed_twice(ward):
    peer = await ward.admit(BOARD, pads=2)
    gateway = ward.gateway
    peer.acknowledging = False
    await gateway.order(peer, 1, STATISTICS)
    await gateway.until(lambda: (1, 1) in peer.vectors, "the vector")
    for pause_s in (0.0, 0.002, 0.005, 0.01):
        before = max(epoch for epoch, _ in peer.hellos)
        await gateway.order(peer, 1 + len(peer.references), STATISTICS)
        await asyncio.sleep(pause_s)
        await ward.power_cycle(peer)
        await gateway.until(
            lambda last=before: max(epoch for epoch, _ in peer.hellos) > last, "HELLO after the power cut"
        )
        # A gateway that does not know whether the board took the order asks again.
        for round_ in range(1, len(peer.references) + 1):
            await gateway.order(peer, round_, STATISTICS)
    newest = max(epoch for epoch, _ in peer.hellos)
    assert newest >= 4
    peer.acknowledging = True
    await ward.power_cycle(peer)
    # HELLO of earlier epochs, kept for the frames under them, comes again before it.
    await gateway.until(lambda: max(epoch for epoch, _ in peer.hellos) > newest, "HELLO after the last power cut")
    code = "from qepa_board.app import App\nprint(App.running.link.backlog() if App.running else -1)"
    async with asyncio.timeout(PATIENCE_S):
        while await _json(ward, BOARD, code) != 0:
            await asyncio.sleep(0.05)
    assert all(len(sealed) == 1 for sealed in peer.sealed.values()), "a (stream, round) was sealed twice"
    assert all(hello.steps == max(0, epoch - 2) for epoch, hello in peer.hellos), "two pads, then the ratchet"
    assert not peer.refused


async def test_care_streams_only_under_a_grant_and_ends_for_good(ward):
    peer = await ward.admit(BOARD, speed=4)
    gateway = ward.gateway
    consent = b"consent-number-1"
    care_key = peer.consents[consent] = keys.care_key(peer.end_key, consent)
    await asyncio.sleep(0.5)
    assert not peer.cares
    grant = payloads.encode_grant(care_key, BOARD, consent, 3600)
    await gateway.send(peer, wire.CARE_GRANT, grant[:16] + b"\xff\xff\xff\x00" + grant[20:])
    await until_refused(ward, "mac")
    await gateway.send(peer, wire.CARE_GRANT, grant)
    await gateway.until(lambda: peer.cares and value_of(peer.cares[-1].measures, HEART_RATE)[0] == 75, "a heart rate")
    times = [care.t_ms for care in peer.cares]
    assert all(900 <= b - a <= 1200 for a, b in itertools.pairwise(times)), times
    await gateway.send(peer, wire.CARE_REVOKE, consent)
    await gateway.send(peer, wire.CARE_GRANT, grant)
    await until_refused(ward, "consent")
    await until_all_arrived(ward, peer, round_=1)
    count = len(peer.cares)
    await asyncio.sleep(1)
    assert len(peer.cares) == count
    short = b"consent-number-2"
    peer.consents[short] = keys.care_key(peer.end_key, short)
    await gateway.send(peer, wire.CARE_GRANT, payloads.encode_grant(peer.consents[short], BOARD, short, 2))
    await gateway.until(lambda: len(peer.cares) > count, "a record under the short grant")
    await asyncio.sleep(2)
    await until_all_arrived(ward, peer, round_=2)
    assert len(peer.cares) - count in (1, 2)


async def test_waveforms_stream_while_they_are_wanted_under_a_grant(ward):
    peer = await ward.admit(BOARD, speed=4)
    gateway = ward.gateway
    consent = b"consent-number-1"
    care_key = peer.consents[consent] = keys.care_key(peer.end_key, consent)
    await gateway.send(peer, wire.WAVES_WANTED, payloads.encode_waves_wanted(consent, 60))
    await until_refused(ward, "consent")
    await gateway.send(peer, wire.CARE_GRANT, payloads.encode_grant(care_key, BOARD, consent, 3600))
    await gateway.until(lambda: len(peer.cares) > 6, "care records")
    assert not peer.waves
    await gateway.send(peer, wire.WAVES_WANTED, payloads.encode_waves_wanted(consent, 3600))
    await gateway.until(lambda: len(peer.waves) > 6, "waveforms")
    waves = peer.waves[:7]
    assert {(each.channel, each.axes, each.fs_hz, each.boots) for each in waves} == {(payloads.WAVE_ECG, 1, 360, 1)}
    peaks = [peak for each in waves for peak in each.peaks]
    assert {b - a for a, b in itertools.pairwise(peaks)} <= {287, 288, 289}
    lengths = [len(each.samples) // 2 for each in waves]
    assert [a.first + n for a, n in zip(waves, lengths, strict=True)][:-1] == [each.first for each in waves[1:]]
    await gateway.send(peer, wire.WAVES_WANTED, payloads.encode_waves_wanted(consent, 0))
    await until_all_arrived(ward, peer, round_=1)
    count, cares = len(peer.waves), len(peer.cares)
    await gateway.until(lambda: len(peer.cares) > cares + 3, "care records go on")
    assert len(peer.waves) == count
    await gateway.send(peer, wire.WAVES_WANTED, payloads.encode_waves_wanted(consent, 3600))
    await gateway.until(lambda: len(peer.waves) > count, "waveforms again")
    await ward.fleet.exec(f"{BOARD:08x}", NO_MEMORY_FOR_WAVES)
    await until_refused(ward, "memory")
    cares = len(peer.cares)
    await gateway.until(lambda: len(peer.cares) > cares + 3, "care records go on")
    await ward.fleet.exec(f"{BOARD:08x}", "del App.running.link.send_waves")
    count = len(peer.waves)
    await gateway.until(lambda: len(peer.waves) > count, "waveforms when there is memory")
    await gateway.send(peer, wire.CARE_REVOKE, consent)
    await until_all_arrived(ward, peer)
    count = len(peer.waves)
    await asyncio.sleep(1)
    assert len(peer.waves) == count
    assert not peer.refused


async def test_labels_reach_the_learner_which_follows_the_models_shape(ward):
    peer = await ward.admit(BOARD, speed=4)
    gateway = ward.gateway
    consent = b"consent-number-1"
    care_key = peer.consents[consent] = keys.care_key(peer.end_key, consent)
    first = initial_model(features=FEATURES, hidden=10, classes=CLASSES, fraction_bits=12)
    await gateway.send(peer, wire.MODEL, gateway.release(1, list(first.words), hidden=10))
    await gateway.send(peer, wire.CARE_GRANT, payloads.encode_grant(care_key, BOARD, consent, 3600))
    await gateway.until(lambda: peer.cares and peer.cares[-1].beats > 12, "beats")
    get = "from qepa_board.app import App\np = App.running.vitals.pipeline\n"
    sample = await _json(ward, BOARD, get + "print(p.beats[p.n_beats - 2].sample_index)")
    boots = peer.hellos[-1][1].boots

    async def send_labels(labels):
        seq = peer.down_seq + 1
        await gateway.send(peer, wire.LABELS, payloads.encode_labels(care_key, consent, BOARD, seq, labels))

    await send_labels([payloads.Label(boots + 1, sample, 2)])
    await until_refused(ward, "boots")
    await send_labels([payloads.Label(boots, sample + 5, 2)])
    async with asyncio.timeout(PATIENCE_S):
        while not await _json(ward, BOARD, get + "print(int(2 in list(p.beats.labels)))"):
            await asyncio.sleep(0.05)
    await gateway.order(peer, 1, UPDATE, version=1)
    await until_refused(ward, "length")
    await gateway.order(peer, 2, UPDATE._replace(n_words=len(first.words)), version=1)
    await gateway.until(lambda: (2, 2) in peer.vectors, "the update")
    update = gateway.open([peer], 2, 2)
    assert len(update) == 224
    assert any(update[:180])
    assert any(update[180:])


async def test_alerts_start_and_end_each_once_and_survive_a_power_cut(ward):
    peer = await ward.admit(BOARD, speed=4)
    gateway = ward.gateway
    name = f"{BOARD:08x}"
    peer.acknowledging = False
    await ward.fleet.lead_off(name, on=True)
    await gateway.until(lambda: peer.alerts, "lead-off alert")
    assert (peer.alerts[0].kind, peer.alerts[0].active) == (payloads.ALERT_LEAD_OFF, 1)
    hellos = len(peer.hellos)
    peer.acknowledging = True
    await ward.power_cycle(peer)
    await ward.fleet.lead_off(name, on=False)
    await gateway.until(lambda: len(peer.hellos) > hellos, "HELLO")
    await gateway.until(lambda: len(set(peer.alerts)) == 2, "end of the alert")
    assert [(a.kind, a.active) for a in dict.fromkeys(peer.alerts)] == [(2, 1), (2, 0)]


async def test_under_one_time_pads_alerts_and_vectors_open_and_no_byte_serves_twice(ward):
    peer = await ward.admit(BOARD, speed=4, suite="otp")
    gateway = ward.gateway
    await gateway.order(peer, 1, STATISTICS)
    await gateway.until(lambda: (1, 1) in peer.vectors, "a vector without pads")
    assert not peer.one_time
    assert await ward.load_blocks(peer, 2) == {"ok": True, "loaded": 2, "known": 0, "block_bytes": 2048}
    held = """
from qepa_board.app import App
link = App.running and App.running.link
print(len(link.blocks.key_ids()) if link and link.blocks.all_held() else 0)
"""
    async with asyncio.timeout(PATIENCE_S):
        while await _json(ward, BOARD, held) != 2:
            await asyncio.sleep(0.05)
    await ward.fleet.exec(f"{BOARD:08x}", WATCH_PLAIN)
    await gateway.order(peer, 2, STATISTICS)
    await ward.fleet.lead_off(f"{BOARD:08x}", on=True)
    await gateway.until(lambda: (1, 2) in peer.vectors and peer.alerts, "a vector and an alert")
    assert len(peer.one_time) == 2
    assert peer.alerts[0].kind == payloads.ALERT_LEAD_OFF
    (plain,) = await _json(ward, BOARD, "import json\nprint(json.dumps(plain))")
    assert gateway.open([peer], 1, 2) == plain
    hellos = len(peer.hellos)
    await ward.power_cycle(peer)
    await gateway.until(lambda: len(peer.hellos) > hellos, "HELLO after a power cut")
    async with asyncio.timeout(PATIENCE_S):
        while await _json(ward, BOARD, held) != 2:
            await asyncio.sleep(0.05)
    await gateway.order(peer, 3, STATISTICS)
    await gateway.until(lambda: (1, 3) in peer.vectors, "a vector after a power cut")
    assert len(peer.one_time) == 3
    assert not peer.refused


async def test_noise_and_clipping_change_what_is_sealed_and_the_checks_still_hold(ward):
    peer = await ward.admit(BOARD, speed=4)
    await ward.fleet.exec(f"{BOARD:08x}", WATCH_PLAIN)
    await ward.gateway.order(peer, 1, STATISTICS._replace(noise_q8=100 * 256))
    await ward.gateway.until(lambda: (1, 1) in peer.vectors, "the vector")
    (plain,) = await _json(ward, BOARD, "import json\nprint(json.dumps(plain))")
    shares = [a - b for a, b in zip(ward.gateway.open([peer], 1, 1), scaled(plain), strict=True)]
    assert any(shares)
    assert max(map(abs, shares)) < 100
    await ward.gateway.order(peer, 2, STATISTICS._replace(clip_norm=1))
    await ward.gateway.until(lambda: (1, 2) in peer.vectors, "the clipped vector")
    assert sum(word * word for word in ward.gateway.open([peer], 1, 2)) <= 1


async def test_rekeys_with_fresh_pads(ward):
    peer = await ward.admit(BOARD, pads=3, rekey_s=1)
    await ward.gateway.until(lambda: len(peer.references) == 3, "three epochs")
    assert [steps for _, steps in peer.references] == [0, 0, 0]
    assert len({key_id for key_id, _ in peer.references}) == 3
    await ward.gateway.order(peer, 1, STATISTICS)
    await ward.gateway.until(lambda: peer.vectors, "a vector")
    assert not peer.refused


async def test_the_gateway_sets_how_often_the_key_changes_and_pads_are_kept_for_later(ward):
    peer = await ward.admit(BOARD, pads=2)
    await ward.gateway.send(peer, wire.REKEY, payloads.encode_rekey(1, payloads.NO_REKEY))
    await ward.gateway.until(lambda: len(peer.references) >= 4, "ratchet steps")
    first = peer.references[0][0]
    assert peer.references[:4] == [(first, 0), (first, 1), (first, 2), (first, 3)]
    await ward.gateway.order(peer, 1, STATISTICS)
    await ward.gateway.until(lambda: peer.vectors, "a vector in between")
    await ward.gateway.send(peer, wire.REKEY, payloads.encode_rekey(payloads.NO_REKEY, 1))
    await ward.gateway.until(lambda: peer.references[-1][0] != first, "the next pad")
    assert peer.references[-1][1] == 0
    assert {hello.boots for _, hello in peer.hellos} == {1}
    assert not peer.refused


async def test_a_ratcheted_key_gives_way_to_the_first_pad(ward):
    peer = await ward.admit(BOARD, pads=1)
    await ward.power_cycle(peer)
    await ward.gateway.until(lambda: len(peer.references) == 2, "HELLO")
    assert peer.references[1] == (peer.references[0][0], 1)
    assert (await ward.load(peer, 1))["pads"] == 1
    await ward.gateway.until(lambda: len(peer.references) == 3, "an epoch with the new pad")
    assert peer.references[2][1] == 0
    await ward.gateway.order(peer, 1, STATISTICS)
    await ward.gateway.until(lambda: peer.vectors, "a vector")


async def test_a_task_that_fails_restarts_and_harms_no_other(ward):
    peer = await ward.admit(BOARD)
    ward.expected_failure = "task sample failed: RuntimeError: injected"
    await ward.fleet.exec(
        f"{BOARD:08x}",
        """
from qepa_board.app import App
push = App.running.vitals.push
def fail_once(*args):
    App.running.vitals.push = push
    raise RuntimeError("injected")
App.running.vitals.push = fail_once
""",
    )
    count = "from qepa_board.app import App\nprint(App.running.vitals.pipeline.n_samples)"
    await asyncio.sleep(0.3)
    before = await _json(ward, BOARD, count)
    await ward.gateway.order(peer, 1, STATISTICS)
    await ward.gateway.until(lambda: peer.vectors, "a vector")
    async with asyncio.timeout(PATIENCE_S):
        while await _json(ward, BOARD, count) < before + 100:
            await asyncio.sleep(0.1)
    assert any(ward.expected_failure in event.line for event in ward.logs)


async def test_a_lost_or_mad_broker_costs_a_reconnect(ward):
    peer = await ward.admit(BOARD)
    for greeting in (None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\xff\xff\xff\xff\x7f"):
        ward.cable.pull()
        ward.cable.greeting = greeting
        await asyncio.sleep(0.2)
        ward.cable.plugged = True
        hellos = len(peer.hellos)
        if greeting is not None:
            before = ward.cable.greeted
            async with asyncio.timeout(PATIENCE_S):
                while ward.cable.greeted < before + 1:
                    await asyncio.sleep(0.05)
            ward.cable.greeting = None
        await ward.gateway.until(lambda before=hellos: len(peer.hellos) > before, "HELLO on the new connection")
    await ward.gateway.order(peer, 1, STATISTICS)
    await ward.gateway.until(lambda: peer.vectors, "a vector")
    assert not peer.refused


async def test_lost_counters_seal_nothing_until_provisioned_anew(ward):
    peer = await ward.admit(BOARD)
    await ward.fleet.kill(f"{BOARD:08x}")
    flash = ward.spec(BOARD).flash / "qepa"
    counters = flash / "counters"
    counters.write_bytes(counters.read_bytes()[:-1] + b"?")
    frames = len(peer.frames)
    await ward.fleet.start_board(ward.spec(BOARD))
    await asyncio.sleep(1.5)
    assert len(peer.frames) == frames
    assert "nothing is sealed" in ward.logs[-1].line
    answer = await ward.dock(BOARD, f"provision({ward.identity(peer)!r})")
    assert not answer["ok"]
    assert (await ward.dock(BOARD, "status()"))["provisioned"] is False
    floors = {"boots": 10, "epoch": 10, "seq": 10000, "round": 10}
    assert (await ward.dock(BOARD, f"provision({ward.identity(peer, floors=floors)!r})"))["ok"]
    await ward.gateway.until(lambda: len(peer.references) == 2, "HELLO")
    assert peer.epoch == 11


async def test_counters_that_begin_anew_for_a_new_end_key_never_serve_the_old_one(ward):
    """The application runs on under its old identity until the reset that the dock asks for."""
    peer = await ward.admit(BOARD)
    await ward.fleet.kill(f"{BOARD:08x}")
    (ward.spec(BOARD).flash / "qepa/counters").unlink()
    frames = len(peer.frames)
    await ward.fleet.start_board(ward.spec(BOARD))
    floors = {"boots": 10, "epoch": 10, "seq": 10000, "round": 10}
    renewed = ward.identity(peer, floors=floors, end_key="77" * 32)
    assert (await ward.dock(BOARD, f"provision({renewed!r})"))["reset"]
    await asyncio.sleep(2.5)
    assert (await ward.dock(BOARD, "status()"))["boots"] == 10
    assert len(peer.frames) == frames
    await ward.fleet.kill(f"{BOARD:08x}")
    await ward.fleet.start_board(ward.spec(BOARD))
    await ward.gateway.until(lambda: len(peer.references) == 2, "HELLO")
    assert peer.epoch == 11
