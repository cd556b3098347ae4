"""The ESP32's transmitter on a model of its pins and RMT, on two MicroPythons: what came out when, to 12.5 ns.

The firmware runs under the interpreter; its timeline is read here, with pins as in the firmware's README.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from link_terminal.slot_clock import SlotClock
from qepa_qkd.serial_protocol import STATE_GONE, Command, FrameDecoder, FrameEncoder, Reply, StateQuery, States

MODELS = Path(__file__).parent / "link_models.py"
SELECTION = {16: 0x01, 17: 0x02, 18: 0x04, 19: 0x08, 21: 0x10, 22: 0x20, 23: 0x40}
SYNC, STROBE = 23, 25
TICKS_PER_US = 80
PERIOD = 500 * TICKS_PER_US  # of 2 kHz
BLOCK = 16

PROGRAM = """
import micropython
from link_models import Esp32, Random
chip = Esp32(start_us=(1 << 30) - 20000)
chip.install()
from link_terminal import esp32_transmitter
from link_terminal.transmitter import Transmitter
esp32_transmitter.time = esp32_transmitter.os = chip

class Hardware(esp32_transmitter.Hardware):
    def fault(self):
        micropython.heap_lock()
        try:
            return esp32_transmitter.Hardware.fault(self)
        finally:
            micropython.heap_unlock()

controller = Transmitter(Hardware())
busy = Random(5)
for what, argument, longest_us in {steps}:
    if what == "say":
        controller.receive(argument, chip.ms())
    elif what == "sleep":
        chip.let_pass(argument)
    elif what == "stuck":
        chip.stuck = True
    else:
        end = chip.ticks + argument * chip.TICKS_PER_US
        while chip.ticks < end:
            chip.let_pass(1 + busy.below(longest_us))
            controller.poll(chip.ms())
    print(chip.ticks, "".join(frame.hex() for frame in controller.outgoing))
    controller.outgoing.clear()
print(" ".join(str(t) for t in chip.times[: chip.size]))
print(" ".join(str(c) for c in chip.changes[: chip.size]))
"""


@dataclass(frozen=True)
class Pulse:
    """One strobe and what was selected meanwhile; times in ticks of 12.5 ns."""

    begin: int
    width: int
    symbol: int
    setup: int
    hold: int


class Session:
    """What a host says and how time passes; `play` runs it and reads the timeline."""

    def __init__(self) -> None:
        self._encoder = FrameEncoder()
        self._steps: list[tuple[str, object, int]] = []

    def say(self, *messages: str | StateQuery) -> "Session":
        for message in messages:
            frame = self._encoder.encode(Command(message) if isinstance(message, str) else message)
            self._steps.append(("say", frame, 0))
        return self

    def run(self, microseconds: int, longest_us: int = 10) -> "Session":
        """The controller is polled, at most `longest_us` and a few calls apart."""
        self._steps.append(("run", microseconds, longest_us))
        return self

    def sleep(self, microseconds: int) -> "Session":
        self._steps.append(("sleep", microseconds, 0))
        return self

    def stick(self) -> "Session":
        """The random source gets stuck."""
        self._steps.append(("stuck", 0, 0))
        return self

    def play(self, micropython_run: Callable[..., str]) -> "Played":
        printed = micropython_run(PROGRAM.format(steps=self._steps), {"link_models.py": MODELS.read_bytes()})
        *steps, times, changes = printed.split("\n")[:-1]
        return Played(steps, [int(t) for t in times.split()], [int(c) for c in changes.split()])


class Played:
    """`replies`, `ends` of the steps in ticks, `pulses`, `changes`: (tick, pin, level) in order."""

    def __init__(self, steps: list[str], times: list[int], changes: list[int]) -> None:
        decoder = FrameDecoder()
        self.ends = [int(step.split(" ")[0]) for step in steps]
        answers = [event for step in steps for event in decoder.feed(bytes.fromhex(step.split(" ")[1]))]
        self.replies = [event.text for event in answers if isinstance(event, Reply)]
        self.states = [event.states for event in answers if isinstance(event, States)]
        self.changes = sorted((t, c >> 1, c & 1) for t, c in zip(times, changes, strict=True))
        self.pulses = self._pulses()

    def _pulses(self) -> list[Pulse]:
        strobes = [(t, level) for t, pin, level in self.changes if pin == STROBE]
        assert [level for _, level in strobes] == [1, 0] * (len(strobes) // 2)
        return [self._pulse(begin, end) for (begin, _), (end, _) in zip(strobes[::2], strobes[1::2], strict=True)]

    def _pulse(self, begin: int, end: int) -> Pulse:
        before = [(t, pin, level) for t, pin, level in self.changes if pin in SELECTION and t <= begin]
        after = [t for t, pin, _ in self.changes if pin in SELECTION and t > begin]
        levels = {pin: level for _, pin, level in before}
        symbol = sum(SELECTION[pin] for pin, level in levels.items() if level)
        return Pulse(begin, end - begin, symbol, begin - before[-1][0], after[0] - end if after else end)

    def lit(self, tick: int) -> set[int]:
        """Pins that are high at `tick`."""
        return {pin for pin, level in {pin: level for t, pin, level in self.changes if t <= tick}.items() if level}


def started(rate: int, *settings: str) -> Session:
    return Session().say(f"SET pulse_rate_hz={rate}", *(f"SET {text}" for text in settings), "START run=00000001")


def symbols(states: np.ndarray, every: int) -> list[int]:
    """What is selected for each slot's state: the source, the intensity, and sync."""
    return [1 << (s & 3) | (s >> 2) << 4 | (0 if slot % every else 0x40) for slot, s in enumerate(map(int, states))]


def spread(pulses: list[Pulse], slots: list[int], period: int) -> int:
    """How far pulses are from where their slots are, the latest against the earliest, in ticks."""
    late = [p.begin - slot * period for p, slot in zip(pulses, slots, strict=True)]
    return max(late) - min(late)


@pytest.mark.parametrize(
    ("rate", "every", "width_ns", "width"), [(2000, 1, 8, 1), (2000, 64, 20, 2), (1500, 10, 100_000, 8000)]
)
def test_the_light_is_what_the_host_is_told(
    micropython_run: Callable[..., str], rate: int, every: int, width_ns: int, width: int
) -> None:
    session = started(rate, f"sync_every={every}", f"pulse_width_ns={width_ns}").run(100_000)
    played = session.say("STATUS?", StateQuery(1, 9, np.arange(300))).play(micropython_run)
    pulses, sent = played.pulses, len(played.pulses)
    assert 2 * BLOCK < sent <= rate // 10 + 1
    assert f" slots={sent}" in played.replies[-1]
    (states,) = played.states
    assert [p.symbol for p in pulses] == symbols(states[:sent], every)
    assert len({p.symbol & 0x0F for p in pulses}) == 4
    assert set(states[sent:]) == {STATE_GONE}  # of what has not gone out nothing is told
    assert {p.width for p in pulses} == {width}
    assert min(p.setup for p in pulses) >= TICKS_PER_US
    assert min(p.hold for p in pulses) >= TICKS_PER_US
    period = 1_000_000 // rate * TICKS_PER_US
    assert spread(pulses, list(range(sent)), period) <= period // 128 + 3 * TICKS_PER_US


@pytest.mark.parametrize("every", [1, 3])
def test_each_sync_pulse_rises_just_before_its_strobe(micropython_run: Callable[..., str], every: int) -> None:
    played = started(2000, f"sync_every={every}").run(40_000).play(micropython_run)
    rises = [t for t, pin, level in played.changes if pin == SYNC and level]
    strobes = [p.begin for p in played.pulses][::every]
    assert len(strobes) > 20
    leads = {strobe - rise for strobe, rise in zip(strobes, rises, strict=True)}
    assert len(leads) == 1  # the receiver counts slots from it
    assert 0 < leads.pop() <= 10 * TICKS_PER_US


def test_polls_up_to_half_a_slot_apart_cost_nothing(micropython_run: Callable[..., str]) -> None:
    session = started(2000, "pulse_width_ns=1e5").run(60_000, longest_us=210)
    played = session.say("STATUS?", StateQuery(1, 9, np.arange(110))).play(micropython_run)
    assert "state=running" in played.replies[-1]
    assert len(played.pulses) > 110
    assert [p.symbol for p in played.pulses[:110]] == symbols(played.states[0], 1000)
    assert min(p.hold for p in played.pulses) >= TICKS_PER_US
    assert spread(played.pulses, list(range(len(played.pulses))), PERIOD) <= PERIOD // 128 + 3 * TICKS_PER_US


def test_slots_that_are_missed_stay_dark_and_the_receiver_follows(micropython_run: Callable[..., str]) -> None:
    session = started(2000, "sync_every=1")
    for pause_us in (700, 3_000, 300, 3_800, 1_100):
        session.run(8_000, longest_us=100).sleep(pause_us)
    played = session.run(8_000).say("STATUS?", StateQuery(1, 9, np.arange(120))).play(micropython_run)
    slots = [round((p.begin - played.pulses[0].begin) / PERIOD) for p in played.pulses]
    assert "state=running" in played.replies[-1]
    assert slots[-1] + 1 - len(slots) > 10
    assert f" slots={slots[-1] + 1}" in played.replies[-1]
    assert [p.symbol for p in played.pulses] == [symbols(played.states[0], 1)[slot] for slot in slots]
    assert spread(played.pulses, slots, PERIOD) <= PERIOD // 128 + 3 * TICKS_PER_US
    clock = SlotClock(1)
    followed = []
    for tick in (t for t, pin, level in played.changes if pin == SYNC and level):
        assert not clock.late(tick)
        assert clock.sync(tick) >= 0
        followed.append(clock.end)
    assert followed == slots


def test_nine_slots_missed_in_a_row_end_the_run_in_the_dark(micropython_run: Callable[..., str]) -> None:
    session = started(1000).run(20_000).sleep(10_000).run(5_000).say("STATUS?").say("START run=00000002").run(20_000)
    played = session.say("STATUS?", StateQuery(2, 9, np.arange(15))).play(micropython_run)
    slept = played.ends[3]
    assert "state=idle" in played.replies[-3]
    assert "fault=underrun" in played.replies[-3]
    assert not any(slept <= p.begin < played.ends[5] for p in played.pulses)
    assert not played.lit(played.ends[5])
    # A new run begins at slot 0.
    again = [p for p in played.pulses if p.begin >= played.ends[5]]
    assert f"state=running damaged=0 lost=0 slots={len(again)}" in played.replies[-1]
    assert [p.symbol for p in again[:15]] == symbols(played.states[0], 1000)


def test_stop_is_dark_at_once_and_for_good(micropython_run: Callable[..., str]) -> None:
    played = started(2000).run(30_000).say("STOP").run(5_000).say("STATUS?").play(micropython_run)
    stopped = played.ends[3]
    assert len(played.pulses) > 50
    assert max(p.begin for p in played.pulses) < stopped
    assert not played.lit(stopped)
    assert all(t <= stopped for t, _, _ in played.changes)
    assert played.replies[-1] == "OK state=idle damaged=0 lost=0 slots=0"


def test_what_it_cannot_do_it_refuses_in_the_dark(micropython_run: Callable[..., str]) -> None:
    session = Session().say("START run=00000001", "SET pulse_rate_hz=2001", "START run=00000001", "SET clock=external")
    played = session.run(2_000).say("STATUS?").play(micropython_run)
    refused = "ERR 4 pulse_rate_hz is at most 2000 here"
    assert played.replies[:3] == [refused, "OK", refused]
    assert played.replies[3].startswith("ERR 4 ")
    assert "state=idle" in played.replies[4]
    assert not played.changes


def test_the_self_test_finds_a_random_source_that_is_stuck(micropython_run: Callable[..., str]) -> None:
    session = Session().say("SET pulse_rate_hz=2000", "TEST?").stick().say("TEST?", "START run=00000001").run(2_000)
    played = session.say("STATUS?").play(micropython_run)
    assert played.replies[1] == "OK pass random=ok ring_slots=32768"
    assert played.replies[2] == "ERR 5 the random source is stuck"
    assert "fault=random" in played.replies[-1]
    assert not played.changes
