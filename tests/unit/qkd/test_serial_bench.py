"""The bench's controllers speak the protocol whole: settings that act, time tags on the receiver's own clock."""

import itertools

import numpy as np
import pytest

from qepa_qkd.serial_protocol import Command, Detections, Event, FrameDecoder, FrameEncoder, Reply, TimeTags
from qepa_tools.bench.controllers import Bench, Controller
from qepa_tools.bench.physics import BenchSettings


class Line:
    """A host's codec at one controller of a bench."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._encoder, self._decoder = FrameEncoder(), FrameDecoder()

    def command(self, text: str, now_s: float = 0.0) -> str:
        self._controller.receive(self._encoder.encode(Command(text)), now_s)
        (reply,) = (event.text for event in self.taken() if isinstance(event, Reply))
        return reply

    def taken(self) -> list[Event]:
        events = [event for frame in self._controller.outgoing for event in self._decoder.feed(frame)]
        self._controller.outgoing.clear()
        return events


def run(settings: BenchSettings, seconds: float, *receiver_settings: str) -> tuple[list[Event], Bench]:
    bench = Bench(settings, 3)
    transmitter, receiver = Line(bench.transmitter), Line(bench.receiver)
    for text in receiver_settings:
        assert receiver.command(f"SET {text}") == "OK"
    assert receiver.command("START run=00000001") == "OK"
    assert transmitter.command("START run=00000001") == "OK"
    events: list[Event] = []
    for tick in range(1, round(seconds / 0.05) + 1):
        bench.advance(0.05 * tick)
        events += receiver.taken()
    return events, bench


def test_time_tags_and_sync_give_the_slots_back_though_the_clock_runs_away() -> None:
    drifting = BenchSettings(clock_offset_ppm=40.0, jitter_ps=300.0)
    by_tag, _ = run(drifting, 0.5, "report=tags", "sync_every=1000")
    by_slot, _ = run(drifting, 0.5)
    tags = [event for event in by_tag if isinstance(event, TimeTags)]
    assert all(a.end_ps == b.first_ps for a, b in itertools.pairwise(tags))
    times = np.concatenate([t.times_ps for t in tags])
    channels = np.concatenate([t.channels for t in tags])
    assert np.all(np.diff(times) >= 0)
    sync = times[channels == 4]
    # Forty millionths fast: a thousand slots of a microsecond take 40 ns more.
    assert np.diff(sync).mean() == pytest.approx(1e9 * (1 + 40e-6), abs=200)
    clicks = channels < 4
    slots = np.floor(np.interp(times[clicks], sync, 1000.0 * np.arange(len(sync)))).astype(np.int64)
    inside = times[clicks] < sync[-1]
    told = np.concatenate([d.slots for d in by_slot if isinstance(d, Detections)])
    detectors = np.concatenate([d.detectors for d in by_slot if isinstance(d, Detections)])
    count = int(inside.sum())
    assert count > 20_000
    assert np.array_equal(slots[inside], told[:count])
    assert np.mean(channels[clicks][inside] == detectors[:count]) > 0.999  # two clicks of one slot may swap


def test_a_gate_keeps_the_light_and_drops_the_dark() -> None:
    noisy = BenchSettings(dark_counts_hz=5000.0, gate_ns=1000.0)
    rates = []
    for settings in ((), ("gate_delay_ns=490", "gate_ns=20")):
        events, _ = run(noisy, 0.5, *settings)
        rates.append(sum(len(e.slots) for e in events if isinstance(e, Detections)) / 0.5)
    dark = 4 * 5000 + 1000
    assert rates[0] - rates[1] == pytest.approx(dark, rel=0.2)


def test_what_is_set_is_what_shines() -> None:
    bench = Bench(BenchSettings(), 1)
    line = Line(bench.transmitter)
    for text in (
        "pulse_rate_hz=2e6",
        "intensities=0.6,0.1,0",
        "probabilities=0.8,0.1,0.1",
        "key_basis_probability=0.9",
    ):
        assert line.command(f"SET {text}") == "OK"
    assert line.command("START run=00000001") == "OK"
    assert bench.pulses.pulse_rate_hz == 2e6
    assert bench.pulses.intensities == (0.6, 0.1, 0.0)
    assert bench.pulses.probabilities == (0.8, 0.1, 0.1)
    assert bench.pulses.key_basis_probability == 0.9
    assert line.command("TEST?").startswith("ERR 2")
    assert Line(bench.receiver).command("SET dead_time_ns=50").startswith("ERR 4")
