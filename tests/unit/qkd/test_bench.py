"""Virtual bench: the physics it claims, the protocol it speaks, and the host driver against it."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator

import numpy as np
import pytest

from qepa_qkd.drivers.terminal import Terminal
from qepa_qkd.errors import NoKey, ProtocolError, TransientError
from qepa_qkd.serial_protocol import STATE_GONE, Detections, FrameDecoder
from qepa_qkd.sifting import judge, report_symbols, squash, tally
from qepa_qkd.slot_alignment import CANDIDATE_OFFSETS, find_offset
from qepa_tools.bench.__main__ import PseudoTerminal
from qepa_tools.bench.controllers import HOST_SILENCE_LIMIT_S, Bench
from qepa_tools.bench.physics import BenchSettings, OpticalBench, PulseSettings

DARK = BenchSettings(dark_counts_hz=0, background_hz=0, afterpulse_probability=0, misalignment=0, dead_time_ns=0)


DEFAULT = BenchSettings()


def optics(settings: BenchSettings = DEFAULT, seed: int = 3) -> OpticalBench:
    return OpticalBench(settings, PulseSettings(), np.random.default_rng(seed))


def test_states_are_sent_as_often_as_asked_for() -> None:
    table = PulseSettings().state_table()
    assert len(table) == 65_536
    for intensity, p in enumerate((0.4, 0.3, 0.3)):
        assert np.mean(table >> 2 == intensity) == pytest.approx(p, abs=1e-4)
    assert np.mean(table >> 1 & 1 == 0) == pytest.approx(0.7, abs=1e-4)
    assert np.mean(table & 1) == pytest.approx(0.5, abs=1e-4)


def test_detection_rates_are_poissonian_in_each_intensity() -> None:
    bench = optics(DARK)
    slots, _ = bench.advance(2_000_000)
    intensity = bench.states(np.arange(2_000_000)) >> 2
    clicked = np.unique(slots - DARK.slot_offset)
    eta = 0.8 * 0.55 * 0.5
    for k, mu in enumerate((0.5, 0.2, 0.002)):
        sent = np.flatnonzero(intensity == k)
        expected = 1 - np.exp(-eta * mu)
        sigma = (expected / len(sent)) ** 0.5
        assert np.isin(sent, clicked).mean() == pytest.approx(expected, abs=5 * sigma)


def test_without_imperfections_matched_bases_never_disagree() -> None:
    bench = optics(DARK)
    slots, detectors = bench.advance(500_000)
    states = bench.states(slots - DARK.slot_offset)
    matched = (states >> 1 & 1) == detectors >> 1
    assert matched.sum() > 10_000
    assert np.array_equal((states & 1)[matched], (detectors & 1)[matched])


def test_defaults_look_like_a_bench() -> None:
    bench = optics()
    slots, detectors = bench.advance(2_000_000)
    slots, detectors = squash(slots, detectors, np.random.default_rng(1))
    symbols = report_symbols(detectors)
    counts = tally(judge(symbols, bench.states(slots - 3)), symbols)
    assert 0.01 < counts.qber_z < 0.025
    assert counts.n_x[0] > counts.n_x[1] > counts.n_x[2]


def test_the_same_seed_gives_the_same_light() -> None:
    (a, b), (c, d), (e, _) = (optics(seed=s).advance(100_000) for s in (4, 4, 5))
    assert np.array_equal(a, c)
    assert np.array_equal(b, d)
    assert not np.array_equal(a, e)


def test_dead_time_and_order_hold_across_calls() -> None:
    bench = optics(BenchSettings(dead_time_ns=5500, afterpulse_probability=0.3))
    parts = [bench.advance(997) for _ in range(200)]
    slots, detectors = (np.concatenate(x) for x in zip(*parts, strict=True))
    assert np.all(np.diff(slots) >= 0)
    for detector in range(4):
        assert np.diff(slots[detectors == detector]).min() > 5


def test_forgotten_and_future_slots_are_gone() -> None:
    bench = OpticalBench(BenchSettings(), PulseSettings(), np.random.default_rng(1), ring_slots=1000)
    bench.advance(5000)
    states = bench.states(np.array([0, 3999, 4000, 4999, 5000]))
    assert list(states == STATE_GONE) == [True, True, False, False, True]


def test_alignment_finds_the_offset_and_refuses_noise() -> None:
    for settings in (BenchSettings(slot_offset=-7), BenchSettings(slot_offset=16, intercept_fraction=1.0)):
        bench = optics(settings)
        slots, detectors = squash(*bench.advance(60_000), np.random.default_rng(1))
        slots, detectors = slots[100:2100], detectors[100:2100]
        candidates = {offset: bench.states(slots - offset) for offset in CANDIDATE_OFFSETS}
        assert find_offset(report_symbols(detectors), candidates) == settings.slot_offset
    noise = np.random.default_rng(2).integers(0, 4, len(detectors), np.uint8)
    with pytest.raises(NoKey, match="align"):
        find_offset(report_symbols(noise), candidates)


class Rig:
    """A bench in this event loop and terminals open on it."""

    def __init__(self) -> None:
        self.bench = Bench(BenchSettings(), 1)
        wake = asyncio.Event()
        self.ports = [PseudoTerminal(c, wake) for c in (self.bench.transmitter, self.bench.receiver)]
        self.detections: list[Detections] = []

    async def open(self) -> None:
        self.transmitter = await Terminal.open(self.ports[0].path)
        self.receiver = await Terminal.open(self.ports[1].path, self.detections.append)

    async def shine(self, start_s: float, seconds: float) -> None:
        for tick in range(int(seconds / 0.05)):
            self.bench.advance(start_s + 0.05 * (tick + 1))
            for port in self.ports:
                port.flush()
            await asyncio.sleep(0.005)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    await rig.open()
    yield rig
    rig.transmitter.close()
    rig.receiver.close()
    loop = asyncio.get_running_loop()
    for port in rig.ports:
        loop.remove_reader(port._master)
        os.close(port._master)
        os.close(port._slave)


async def test_the_driver_hears_every_click_and_learns_its_states(rig: Rig) -> None:
    await rig.receiver.command("START run=0000002a")
    await rig.transmitter.command("START run=0000002a")
    start = rig.bench._started_s
    await rig.shine(start, 1.0)
    assert {d.run for d in rig.detections} == {42}
    ends = [(d.first_slot, d.end_slot) for d in rig.detections]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ends))
    slots = np.concatenate([d.slots for d in rig.detections])
    assert len(slots) > 30_000
    states = await rig.transmitter.states(42, slots[:5000] - 3)
    assert rig.bench.optics is not None
    assert np.array_equal(states, rig.bench.optics.states(slots[:5000] - 3))
    assert rig.receiver.frames_lost == rig.transmitter.frames_lost == 0


async def test_a_host_that_died_does_not_leave_the_laser_on(rig: Rig) -> None:
    await rig.transmitter.command("START run=00000001")
    start = rig.bench._started_s
    rig.bench.advance(start + HOST_SILENCE_LIMIT_S - 0.5)
    assert rig.bench.running
    rig.bench.advance(start + HOST_SILENCE_LIMIT_S + 0.5)
    assert not rig.bench.running


async def test_refused_commands_say_why(rig: Rig) -> None:
    for command in (
        "NONSENSE",
        "SET pulse_rate_hz=1e99",
        "SET intensities=1,2",
        "SET probabilities=a,b,c",
        "START run=1",
    ):
        with pytest.raises(ProtocolError, match="refuses"):
            await rig.transmitter.command(command)
    with pytest.raises(ProtocolError):
        await rig.receiver.command("SET pulse_rate_hz=1e6")


async def test_a_host_that_does_not_read_loses_events_and_is_told(rig: Rig) -> None:
    rig.receiver.close()
    receiver = rig.bench.receiver
    receiver.run = 7
    rig.bench.transmitter.run = 7
    rig.bench.start_optics(0.0)
    receiver.outgoing.clear()
    for tick in range(200):
        receiver._heard_ms = rig.bench.transmitter._heard_ms = 50 * tick
        rig.bench.advance(0.05 * tick)
    assert sum(map(len, receiver.outgoing)) < receiver.queue_limit_bytes + 20_000
    decoder = FrameDecoder()
    assert all(isinstance(e, Detections) for chunk in receiver.outgoing for e in decoder.feed(chunk))
    receiver.outgoing.clear()
    rig.bench.advance(10.05)
    *_, last = (e for chunk in receiver.outgoing for e in decoder.feed(chunk) if isinstance(e, Detections))
    assert last.overflow > 10_000


async def test_a_port_without_controller_is_a_transient_error() -> None:
    master, slave = os.openpty()
    try:
        with pytest.raises(TransientError, match="answer"):
            await Terminal.open(os.ttyname(slave))
    finally:
        os.close(master)
        os.close(slave)
