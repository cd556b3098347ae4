"""The RP2040's hardware classes on a model of the chip: real PIO programs, DMA, rings, flags."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from link_terminal.receiver import Receiver
from link_terminal.state_memory import state_table
from link_terminal.transmitter import SYNC, Transmitter
from qepa_qkd.serial_protocol import (
    Command,
    Detections,
    FrameDecoder,
    FrameEncoder,
    Reply,
    StateQuery,
    States,
    TimeTags,
)

from . import rp2040_model

NAMES = ("rp2040_pulses", "rp2040_tagger", "rp2040_transmitter", "rp2040_receiver")


class Host:
    """Says commands to a controller and reads what it sends."""

    def __init__(self, controller: object) -> None:
        self._controller = controller
        self._encoder, self._decoder = FrameEncoder(), FrameDecoder()
        self.events: list[object] = []

    def say(self, message: Command | StateQuery, now_ms: float = 0) -> list[object]:
        self._controller.receive(self._encoder.encode(message), now_ms)
        return self.taken()

    def command(self, text: str, now_ms: float = 0) -> str:
        (reply,) = (event for event in self.say(Command(text), now_ms) if isinstance(event, Reply))
        return reply.text

    def taken(self) -> list[object]:
        new = [event for frame in self._controller.outgoing for event in self._decoder.feed(frame)]
        self._controller.outgoing.clear()
        self.events += new
        return new


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Iterator[rp2040_model.Chip]:
    """The counter of microseconds wraps 300 us after power-on."""
    yield rp2040_model.install(monkeypatch, us=0xFFFFFFFF - 300)
    for name in NAMES:
        sys.modules.pop(f"link_terminal.{name}", None)


def module(name: str) -> ModuleType:
    return importlib.import_module(f"link_terminal.{name}")


def test_the_light_is_what_the_host_is_told_block_after_block(
    chip: rp2040_model.Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module("rp2040_transmitter"), "_BLOCK_SLOTS", 64)
    hardware = module("rp2040_transmitter").Hardware()
    hardware.block_slots = 64
    controller = Transmitter(hardware)
    host = Host(controller)
    assert host.command("TEST?").startswith("OK pass random=ok blocks=2")
    for text in ("SET pulse_rate_hz=2e6", "SET sync_every=10", "SET pulse_width_ns=40", "START run=00000001"):
        assert host.command(text) == "OK"
    chip.trace = []
    for _ in range(400):
        controller.poll(0)
        chip.run(62)
    assert controller.run == 1
    shots = [(at, pins) for at, (pins, strobe) in enumerate(chip.trace) if strobe]
    pulses = shots[::5]
    assert len(shots) >= 5 * 390
    assert set(np.diff([at for at, _ in pulses])) == {62}
    (answer,) = host.say(StateQuery(1, 9, np.arange(len(pulses))))
    assert isinstance(answer, States)
    for slot, ((_, pins), state) in enumerate(zip(pulses, answer.states, strict=True)):
        assert pins == 1 << (state & 3) | (state >> 2) << 4 | (SYNC if slot % 10 == 0 else 0)
    assert {int(s) & ~1 for s in answer.states} <= set(state_table((400_000, 300_000, 300_000), 700_000))


def test_blocks_that_come_too_late_end_the_run_in_the_dark(
    chip: rp2040_model.Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module("rp2040_transmitter"), "_BLOCK_SLOTS", 64)
    hardware = module("rp2040_transmitter").Hardware()
    hardware.block_slots = 64
    controller = Transmitter(hardware)
    host = Host(controller)
    host.command("SET pulse_rate_hz=2e6")
    host.command("START run=00000001")
    controller.poll(0)
    chip.trace = []
    chip.run(62 * 300)
    assert sum(strobe for _, strobe in chip.trace) == 2 * 64  # no block is ever sent twice
    controller.poll(0)
    assert "state=idle" in host.command("STATUS?")
    assert "fault=underrun" in host.command("STATUS?")
    assert all(chip.driven[pin] == 0 for pin in range(2, 10))
    # A new run works.
    host.command("START run=00000002")
    chip.trace = []
    for _ in range(100):
        controller.poll(0)
        chip.run(62)
    assert controller.run == 2
    assert sum(strobe for _, strobe in chip.trace) >= 95


def test_a_sync_pulse_in_every_slot_would_have_no_edges_and_is_refused(chip: rp2040_model.Chip) -> None:
    host = Host(Transmitter(module("rp2040_transmitter").Hardware()))
    assert "at least 2" in host.command("SET sync_every=1")
    assert host.command("SET sync_every=2") == "OK"


def test_rates_that_pio_cannot_make_are_refused(chip: rp2040_model.Chip) -> None:
    host = Host(Transmitter(module("rp2040_transmitter").Hardware()))
    host.command("SET pulse_rate_hz=2e7")
    assert host.command("START run=00000001").startswith("ERR 4 ")
    assert host.command("SET clock=external").startswith("ERR 4 ")


def pulses_on(
    chip: rp2040_model.Chip, controller: Receiver, host: Host, edges: list[tuple[int, int]], end: int
) -> None:
    """Let the pins of channels rise at given cycles for five cycles each."""
    origin = chip.cycle
    changes = sorted([(at, 2 + c, 1) for at, c in edges] + [(at + 5, 2 + c, 0) for at, c in edges])
    for at in range(1000, end, 1000):
        while changes and changes[0][0] < at:
            cycle, pin, level = changes.pop(0)
            chip.run(origin + cycle - chip.cycle)
            chip.levels[pin] = level
        chip.run(origin + at - chip.cycle)
        controller.poll(at / 125_000)
        host.taken()


@pytest.fixture
def receiver(chip: rp2040_model.Chip) -> tuple[Receiver, Host]:
    controller = Receiver(module("rp2040_receiver").Hardware())
    return controller, Host(controller)


def test_clicks_on_the_pins_become_tags_that_are_right_to_a_tick(
    chip: rp2040_model.Chip, receiver: tuple[Receiver, Host]
) -> None:
    controller, host = receiver
    noise = rp2040_model.seeded(4)
    edges = sorted((noise.randrange(500, 90_000), noise.randrange(5)) for _ in range(120))
    edges = [e for i, e in enumerate(edges) if all(abs(e[0] - o[0]) > 20 or e[1] != o[1] for o in edges[:i])]
    host.command("SET report=tags")
    assert host.command("SET thresholds_mv=500,500,500,1650") == "OK"
    assert host.command("START run=00000005") == "OK"
    assert chip.driven[13] == 65535 // 2
    pulses_on(chip, controller, host, edges, 100_000)
    controller.poll(150)
    host.taken()
    blocks = [event for event in host.events if isinstance(event, TimeTags)]
    assert blocks[0].tick_ps == 16_000
    times = np.concatenate([b.times_ps for b in blocks])
    channels = np.concatenate([b.channels for b in blocks])
    assert len(times) == len(edges)
    assert blocks[-1].overflow == 0
    for channel in range(5):
        seen = times[channels == channel] / 8000
        wanted = [at for at, c in edges if c == channel]
        errors = np.array(seen) - wanted
        assert errors.max() - errors.min() <= 2


def test_clicks_become_slots_by_the_sync_pulses(chip: rp2040_model.Chip, receiver: tuple[Receiver, Host]) -> None:
    controller, host = receiver
    slot, every = 250, 20  # 2 us a slot
    noise = rp2040_model.seeded(5)
    clicks = {noise.randrange(20, 400): noise.randrange(4) for _ in range(60)}
    edges = [(1000 + slot * s, 4) for s in range(0, 420, every)]
    edges += [(1000 + slot * s + 60, d) for s, d in clicks.items()]
    host.command(f"SET sync_every={every}")
    host.command("START run=00000005")
    pulses_on(chip, controller, host, edges, 1000 + slot * 420)
    controller.poll(150)
    host.taken()
    blocks = [event for event in host.events if isinstance(event, Detections)]
    told = dict(
        zip(np.concatenate([b.slots for b in blocks]), np.concatenate([b.detectors for b in blocks]), strict=True)
    )
    assert told == {s: d for s, d in clicks.items() if s < blocks[-1].end_slot}
    assert len(told) > 40


def test_an_input_that_is_stuck_fails_the_self_test(chip: rp2040_model.Chip, receiver: tuple[Receiver, Host]) -> None:
    _, host = receiver
    assert host.command("TEST?").startswith("OK pass tick_ps=16000")
    chip.levels[4] = 1
    assert host.command("TEST?") == "ERR 5 input 3 is stuck high"
    assert host.command("SET thresholds_mv=-100,0,0,0").startswith("ERR 4 ")


def test_a_ring_that_came_round_is_counted(chip: rp2040_model.Chip, receiver: tuple[Receiver, Host]) -> None:
    controller, host = receiver
    host.command("SET report=tags")
    host.command("START run=00000001")
    for _ in range(1100):
        chip.levels[2] = 1
        chip.run(8)
        chip.levels[2] = 0
        chip.run(8)
    chip.run(1000)
    controller.poll(150)
    host.taken()
    block = host.events[-1]
    assert isinstance(block, TimeTags)
    assert block.overflow == 1100
    assert not len(block.times_ps)
