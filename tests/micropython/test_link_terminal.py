"""Firmware of the optical controllers with modelled hardware: on CPython, on two MicroPythons, and behind a pty.

What the models saw is computed here a second time and compared with what the host's codec and driver get.
"""

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import tty
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from link_terminal.controller import RefusedError
from link_terminal.event_words import EventWords
from link_terminal.kernels_bytecode import to_slots
from link_terminal.receiver import QUEUE_LIMIT_BYTES, Receiver
from link_terminal.slot_clock import SlotClock
from link_terminal.state_memory import TABLE_SIZE, StateRing, state_table
from link_terminal.transmitter import SYNC, Transmitter
from qepa_qkd.drivers.errors import RefusedError as CommandRefusedError
from qepa_qkd.drivers.terminal import Terminal
from qepa_qkd.serial_protocol import (
    STATE_GONE,
    Command,
    Detections,
    Event,
    FrameDecoder,
    FrameEncoder,
    Reply,
    StateQuery,
    States,
    TimeTags,
)
from qepa_tools.unix_port.runtime import UnixPortMissingError, ensure_unix_port
from qepa_wire.link_frames import FrameWriter

from . import link_models

HERE = Path(__file__).parent
FIRMWARE = HERE.parents[1] / "firmware"
PRELUDE = HERE.parents[1] / "tools" / "qepa_tools" / "unix_port" / "prelude.py"
MODELS = HERE / "link_models.py"


class Rig:
    """A controller on CPython, its clock, and a host's codec."""

    def __init__(self, make: Callable[[Any], Any], model: Callable[[Callable[[], float]], Any]) -> None:
        self.now_ms = 0.0
        self.hardware = model(lambda: self.now_ms)
        self.controller = make(self.hardware)
        self.encoder, self.decoder = FrameEncoder(), FrameDecoder()
        self.events: list[Event] = []

    def say(self, *messages: Command | StateQuery) -> list[Event]:
        for message in messages:
            self.controller.receive(self.encoder.encode(message), self.now_ms)
        return self.taken()

    def command(self, text: str) -> str:
        (reply,) = (event for event in self.say(Command(text)) if isinstance(event, Reply))
        return reply.text

    def taken(self) -> list[Event]:
        new = [event for frame in self.controller.outgoing for event in self.decoder.feed(frame)]
        self.controller.outgoing.clear()
        self.events += new
        return new

    def run(self, milliseconds: int, step_ms: float = 1.0) -> None:
        end_ms = self.now_ms + milliseconds
        while self.now_ms < end_ms:
            self.now_ms += step_ms
            if self.now_ms % 1000 < step_ms:
                self.say(Command("STATUS?"))
            self.controller.poll(self.now_ms)
            self.taken()


@pytest.fixture
def transmitter() -> Rig:
    return Rig(Transmitter, link_models.Pulses)


@pytest.fixture
def receiver() -> Rig:
    rig = Rig(Receiver, link_models.Tags)
    assert rig.command(f"SET sync_every={link_models.SYNC_EVERY}") == "OK"
    return rig


def clicks(slots: int) -> tuple[list[int], list[int]]:
    """Slots and detectors of the modelled light, straight from its definition."""
    random = link_models.Random(7)
    slot, seen, detectors = 3, [], []
    while slot < slots:
        random.below(link_models.SLOT_TICKS // 2)
        seen.append(slot)
        detectors.append(random.below(4))
        slot += 2 + random.below(19)
    return seen, detectors


def test_both_say_who_they_are_and_what_is_set(transmitter: Rig, receiver: Rig) -> None:
    assert transmitter.command("*IDN?") == "OK QEPA transmitter protocol=1"
    assert receiver.command("*IDN?") == "OK QEPA receiver protocol=1"
    assert "intensities=0.5,0.2,0.002 probabilities=0.4,0.3,0.3" in transmitter.command("SETTINGS?")
    assert transmitter.command("SET intensities=4.8e-1,.1,0") == "OK"
    assert "intensities=0.48,0.1,0 " in transmitter.command("SETTINGS?")
    assert transmitter.command("TEST?") == "OK pass random=ok model"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("NONSENSE", 1),
        ("START run=1", 1),
        ("START run=0000002A", 1),
        ("STOP now", 1),
        ("SET pulse_rate_hz=1e99", 3),
        ("SET pulse_rate_hz=1e9", 3),
        ("SET pulse_rate_hz=", 3),
        ("SET pulse_rate_hz=0x10", 3),
        ("SET pulse_rate_hz=nan", 3),
        ("SET intensities=1,2", 3),
        ("SET probabilities=0.5,0.5,0.5", 3),
        ("SET key_basis_probability=1", 3),
        ("SET gate_ns=5", 3),
        ("SET clock=sundial", 3),
        ("SET clock=external", 4),
    ],
)
def test_what_it_cannot_do_it_refuses_with_a_code(transmitter: Rig, text: str, code: int) -> None:
    assert transmitter.command(text).startswith(f"ERR {code} ")


@given(st.lists(st.one_of(st.binary(max_size=300), st.tuples(st.integers(0, 255), st.binary(max_size=60))), max_size=8))
def test_whatever_a_line_brings_a_controller_stays_alive(noise: "list[bytes | tuple[int, bytes]]") -> None:
    rigs = (Rig(Transmitter, link_models.Pulses), Rig(Receiver, link_models.Tags))
    writer = FrameWriter()
    for rig in rigs:
        rig.command("START run=00000001")
        for piece in noise:
            rig.controller.receive(piece if isinstance(piece, bytes) else writer.frame(*piece), 1)
            rig.controller.poll(1)
        rig.controller.receive(b"\0", 2)
        rig.taken()
        assert rig.command("*IDN?").startswith("OK QEPA")


def test_nothing_is_set_or_tested_during_a_run(transmitter: Rig) -> None:
    assert transmitter.command("START run=00000001") == "OK"
    for text in ("SET pulse_rate_hz=1e4", "TEST?", "START run=00000002"):
        assert transmitter.command(text).startswith("ERR 2 ")
    assert transmitter.command("STOP") == "OK"
    assert transmitter.hardware.dark
    assert transmitter.command("SET pulse_rate_hz=1e4") == "OK"


def test_a_host_that_falls_silent_turns_the_light_off(transmitter: Rig) -> None:
    transmitter.command("START run=00000001")
    transmitter.now_ms = 4999
    transmitter.controller.poll(4999)
    assert not transmitter.hardware.dark
    transmitter.controller.poll(5001)
    assert transmitter.hardware.dark
    assert "state=idle" in transmitter.command("STATUS?")
    assert "fault=host" in transmitter.command("STATUS?")


def test_what_was_sent_is_what_the_host_is_told_and_what_is_old_is_gone(transmitter: Rig) -> None:
    transmitter.hardware.keep_symbols = True
    transmitter.command("SET pulse_rate_hz=1e4")
    transmitter.command("SET sync_every=7")
    transmitter.command("START run=0000002a")
    transmitter.run(1000)
    symbols = transmitter.hardware.symbols
    sent = transmitter.hardware.sent()
    assert sent > 9000
    slots = np.arange(sent - 5000, sent + 20)
    answers = transmitter.say(StateQuery(42, 1, slots[:1500]), StateQuery(42, 2, slots[4000:]))
    early, late = (event.states for event in answers if isinstance(event, States))
    gone = len(symbols) - link_models.Pulses.ring_slots
    assert all((state == STATE_GONE) == (slot < gone) for slot, state in zip(slots[:1500], early, strict=True))
    for slot, state in zip(slots[4000:], late, strict=True):
        if slot >= sent:
            assert state == STATE_GONE
        else:
            source, intensity = state & 3, state >> 2
            assert symbols[slot] & 0x3F == 1 << source | intensity << 4
    assert [slot for slot, symbol in enumerate(symbols) if symbol & SYNC] == list(range(0, len(symbols), 7))
    assert not transmitter.say(StateQuery(43, 3, slots[:5]))


def test_a_source_of_randomness_that_is_stuck_ends_the_run(transmitter: Rig) -> None:
    transmitter.command("SET pulse_rate_hz=1e4")
    transmitter.command("START run=00000001")
    transmitter.run(10)
    transmitter.hardware.broken = True
    transmitter.run(100)
    assert transmitter.hardware.dark
    assert "fault=random" in transmitter.command("STATUS?")
    assert transmitter.command("TEST?").startswith("ERR 5 ")


def test_pulses_that_come_too_late_end_the_run(transmitter: Rig) -> None:
    transmitter.command("SET pulse_rate_hz=1e5")
    transmitter.command("START run=00000001")
    transmitter.run(200, step_ms=50)
    assert transmitter.hardware.dark
    assert "fault=underrun" in transmitter.command("STATUS?")


@pytest.mark.parametrize(
    "probabilities", [(400_000, 300_000, 300_000), (333_333, 333_333, 333_333), (999_000, 1000, 0)]
)
@pytest.mark.parametrize("key_basis", [500_000, 700_000, 999_999])
def test_states_are_drawn_as_often_as_asked_to_a_4096th(probabilities: tuple[int, int, int], key_basis: int) -> None:
    table = state_table(probabilities, key_basis)
    assert len(table) == TABLE_SIZE
    for intensity in range(3):
        for basis, share in ((0, key_basis), (1, 1_000_000 - key_basis)):
            wanted = probabilities[intensity] * share / 1e12 * TABLE_SIZE
            assert abs(table.count(intensity << 2 | basis << 1) - wanted) <= 1


def test_a_ring_remembers_its_length_and_no_more() -> None:
    ring = StateRing(64)
    stored = [(3 * slot) % 12 for slot in range(160)]
    for at in range(0, 160, 16):
        ring.store(bytes(stored[at : at + 16]))
    assert [ring.state(slot, 150) for slot in range(96, 150)] == stored[96:150]
    assert {ring.state(slot, 150) for slot in (-1, 0, 95, 150, 159, 160, 10**6)} == {STATE_GONE}


def test_slots_come_from_sync_pulses_whatever_the_clocks_do(receiver: Rig) -> None:
    receiver.command("START run=00000007")
    receiver.run(1500)
    blocks = [event for event in receiver.events if isinstance(event, Detections)]
    assert all(a.end_slot == b.first_slot for a, b in itertools.pairwise(blocks))
    first, end = blocks[0].first_slot, blocks[-1].end_slot
    assert (first, end > 90_000) == (link_models.SYNC_EVERY, True)
    seen, detectors = clicks(end)
    kept = [i for i, slot in enumerate(seen) if slot >= first]
    assert list(np.concatenate([b.slots for b in blocks])) == [seen[i] for i in kept]
    assert list(np.concatenate([b.detectors for b in blocks])) == [detectors[i] for i in kept]
    assert blocks[-1].overflow == 0


def test_raw_tags_are_the_ticks_themselves_across_the_counters_wrap(receiver: Rig) -> None:
    receiver.command("SET report=tags")
    receiver.command("START run=00000007")
    receiver.run(500)
    blocks = [event for event in receiver.events if isinstance(event, TimeTags)]
    assert all(a.end_ps == b.first_ps for a, b in itertools.pairwise(blocks))
    expected = list(itertools.takewhile(lambda tag: tag[0] * 16_000 < blocks[-1].end_ps, link_models.light()))
    assert list(np.concatenate([b.times_ps for b in blocks])) == [tick * 16_000 for tick, _ in expected]
    assert list(np.concatenate([b.channels for b in blocks])) == [channel for _, channel in expected]


def test_a_gate_keeps_the_clicks_inside_and_a_dead_time_the_ones_apart(receiver: Rig) -> None:
    # A slot is 16 us; clicks are spread over its middle half.
    receiver.command("SET gate_delay_ns=4000")
    receiver.command("SET gate_ns=4000")
    receiver.command("START run=00000001")
    receiver.run(1000)
    gated = sum(len(e.slots) for e in receiver.events if isinstance(e, Detections))
    assert gated == pytest.approx(len(clicks(61_000)[0]) / 2, rel=0.1)
    receiver.command("STOP")
    receiver.events.clear()
    receiver.command("SET gate_ns=0")
    receiver.command("SET dead_time_ns=800000")  # 50 slots
    receiver.command("START run=00000002")
    receiver.run(1000)
    blocks = [e for e in receiver.events if isinstance(e, Detections)]
    slots, detectors = (np.concatenate(x) for x in zip(*((b.slots, b.detectors) for b in blocks), strict=True))
    assert min(np.diff(slots[detectors == d]).min() for d in range(4)) >= 49
    assert len(slots) > 2000


def test_a_host_that_does_not_read_costs_events_and_is_told_how_many(receiver: Rig) -> None:
    receiver.command("START run=00000001")
    for now_ms in range(1, 4000):
        receiver.now_ms = now_ms
        receiver.controller.poll(now_ms)
    assert sum(len(frame) for frame in receiver.controller.outgoing) < QUEUE_LIMIT_BYTES + 2000
    receiver.taken()
    receiver.run(200)
    blocks = [e for e in receiver.events if isinstance(e, Detections)]
    told = sum(len(b.slots) for b in blocks)
    seen = [slot for slot in clicks(blocks[-1].end_slot)[0] if slot >= blocks[0].first_slot]
    assert blocks[-1].overflow == len(seen) - told > 5000
    assert set(np.concatenate([b.slots for b in blocks])) <= set(seen)


def test_words_survive_any_gap() -> None:
    words = EventWords(3, 0x1FFF, 40)
    gaps = [0, 1, 0x1FFE, 0x1FFF, 0x2000, 3 * 0x1FFF, 5]
    values, channels = array("I", itertools.accumulate(gaps)), bytes(i % 5 for i in range(len(gaps)))
    words.begin(1000)
    assert words.put(values, channels, 0, 4, 1000) == 4
    assert words.put(values, channels, 4, len(gaps), 1000) == len(gaps)
    raw = np.frombuffer(words.bytes(), "<u2").astype(int)
    events = raw >> 3 != 0x1FFF
    assert list(np.diff(np.cumsum(raw >> 3)[events], prepend=0)) == gaps
    assert bytes((raw & 7)[events].astype(np.uint8)) == channels
    words.begin(2000)
    assert words.put(values, channels, 0, 2, 1000) == 2
    assert (words.bytes(), words.take_dropped(), words.take_dropped()) == (b"", 2, 0)
    assert words.put(array("I", [0x1FFF * 40]), b"\0", 0, 1, 2000) == 0


@pytest.mark.parametrize(
    ("ticks", "good"),
    [
        ([0, 1000, 2000, 3000, 4000], True),
        ([0, 1000, 2000, 4000, 7000], True),  # pulses missing: the slots go on
        ([0, 1000, 2000, 2400], False),  # one that does not belong
        ([0, 1000, 2000, 3500], False),
        ([0, 2000, 3000], False),  # the first interval lacked one
        ([0, 1000, 2010, 3030, 4060], True),  # drift
    ],
)
def test_sync_pulses_that_cannot_be_right_end_the_count(ticks: list[int], good: bool) -> None:
    clock = SlotClock(10)
    assert all(clock.sync(tick) >= 0 for tick in ticks) == good


@given(st.integers(1, 4096), st.integers(0, 40_000), st.data())
def test_slots_are_ticks_in_proportion_exactly(slots: int, more: int, data: st.DataObject) -> None:
    length = slots * 3 + more
    ticks = data.draw(st.lists(st.integers(0, length - 1), max_size=20))
    placed, detectors = array("I", ticks), bytearray(i & 3 for i in range(len(ticks)))
    assert to_slots(placed, detectors, len(ticks), array("i", (slots, length, 0, 1 << 30))) == len(ticks)
    assert list(placed) == [tick * slots // length for tick in ticks]


def test_clicks_after_a_sync_line_that_pulsed_once_are_dropped_and_counted() -> None:
    clock = SlotClock(10)
    clock.sync(5)
    for minute in range(1, 5):
        clock.clicks(array("I", [1, 2, 3]), b"\0\1\2", 0, 3, minute * (1 << 32))
    assert clock.dropped == 12


def test_missing_sync_pulses_do_not_shift_slots() -> None:
    got: list[int] = []
    clock = SlotClock(10)
    for tick in range(0, 100_000, 50):
        if tick % 1000 == 0 and tick // 1000 % 7 != 5:
            told = clock.sync(tick)
            got += [clock.begin + slot for slot in clock.slots[:told]]
        if tick % 150 == 0:
            clock.clicks(array("I", [tick]), b"\1", 0, 1, 0)
    assert got == [tick // 100 for tick in range(1050, 99_000, 150)][: len(got)]
    assert len(got) > 600


def test_sync_that_stops_ends_the_run(receiver: Rig) -> None:
    receiver.command("START run=00000001")
    receiver.run(300)
    receiver.hardware._waiting[4] = []
    light = receiver.hardware._light
    receiver.hardware._light = (tag for tag in light if tag[1] != 4)
    receiver.run(300)
    assert "fault=sync" in receiver.command("STATUS?")


TRANSCRIPT = """
import link_models
from link_terminal.{module} import {name}
now = 0
controller = {name}(link_models.{model}(lambda: now))
for line in {frames!r}:
    controller.receive(line, 0)
while now < {end_ms}:
    now += 5
    controller.poll(now)
controller.receive({query!r}, now)
print(b"".join(controller.outgoing).hex())
"""


@pytest.mark.parametrize(
    ("module", "model"), [("transmitter", "Pulses"), ("receiver", "Tags")], ids=["transmitter", "receiver"]
)
def test_every_interpreter_sends_the_same_bytes(
    micropython_run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, module: str, model: str
) -> None:
    encoder = FrameEncoder()
    rate = "SET pulse_rate_hz=1e4" if module == "transmitter" else f"SET sync_every={link_models.SYNC_EVERY}"
    frames = [encoder.encode(Command(text)) for text in ("*IDN?", rate, "SETTINGS?", "START run=00000001", "BAD")]
    query = encoder.encode(StateQuery(1, 5, np.arange(0, 900, 3)))
    source = TRANSCRIPT.format(module=module, name=module.title(), model=model, frames=frames, query=query, end_ms=150)
    files = {"link_models.py": MODELS.read_bytes()}
    printed = micropython_run(source, files)
    lines: list[str] = []
    monkeypatch.setitem(sys.modules, "link_models", link_models)
    exec(source.replace("print(", "lines.append("), {"lines": lines})  # noqa: S102
    assert printed.strip() == lines[0]
    kinds = {type(event) for event in FrameDecoder().feed(bytes.fromhex(lines[0]))}
    assert kinds == {Reply, States if module == "transmitter" else Detections}


PROGRAM = """
import sys, time
import link_models
from link_terminal.main import serve
from link_terminal.{module} import {name}
began = time.ticks_ms()
serve({name}(link_models.{model}(lambda: time.ticks_diff(time.ticks_ms(), began))), sys.stdin.buffer, sys.stdout.buffer)
"""


class Board:
    """The firmware on MicroPython's unix port, with a board's heap, behind a pty."""

    def __init__(self, module: str, model: str, directory: Path) -> None:
        for name in ("flash", "lib", "shims"):
            (directory / name).mkdir()
        for package in ("link_terminal", "qepa_wire"):
            (directory / "lib" / package).symlink_to(FIRMWARE / package)
        (directory / "flash" / "link_models.py").write_bytes(MODELS.read_bytes())
        program = PROGRAM.format(module=module, name=module.title(), model=model)
        (directory / "flash" / "program.py").write_text(program)
        master, slave = os.openpty()
        tty.setraw(master)
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        folders = [str(directory / name) for name in ("flash", "lib", "shims", "shims")]
        self._ends = (master, slave)
        inner_master, inner_slave = os.openpty()
        tty.setraw(inner_slave)
        self.process = subprocess.Popen(
            [*ensure_unix_port(), "-X", "heapsize=190k", str(PRELUDE), *folders, "/program.py"],
            stdin=inner_slave,
            stdout=inner_slave,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(inner_slave)
        self._inner = inner_master
        for fd in (master, inner_master):
            os.set_blocking(fd, False)
        # Two ptys, a cable between: what the interpreter has as its console, and what the host opens.
        loop = asyncio.get_running_loop()
        loop.add_reader(master, lambda: self._carry(master, inner_master))
        loop.add_reader(inner_master, lambda: self._carry(inner_master, master))
        self._loop = loop

    def _carry(self, source: int, sink: int) -> None:
        try:
            data = os.read(source, 4096)
            while data:
                try:
                    data = data[os.write(sink, data) :]
                except BlockingIOError:
                    continue
        except OSError:
            self._loop.remove_reader(source)

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for fd in (self._ends[0], self._inner):
            self._loop.remove_reader(fd)
        for fd in (*self._ends, self._inner):
            os.close(fd)


@pytest.fixture
async def boards() -> AsyncIterator[Callable[[str, str], Board]]:
    try:
        ensure_unix_port()
    except UnixPortMissingError as error:
        missing = f"NO i386 MICROPYTHON, SO THE CONTROLLERS WERE NOT TESTED BEHIND A LINE: {error}"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    made: list[Board] = []
    with tempfile.TemporaryDirectory() as temporary:

        def make(module: str, model: str) -> Board:
            directory = Path(temporary, module)
            directory.mkdir()
            made.append(Board(module, model, directory))
            return made[-1]

        yield make
        for board in made:
            board.close()


def drawn_states(count: int) -> Iterator[int]:
    """The states that the modelled transmitter draws at default settings."""
    random = link_models.Random(42)
    table = state_table((400_000, 300_000, 300_000), 700_000)
    for _ in range(count):
        low, high = random.below(256), random.below(256)
        yield table[high << 4 | low >> 4] | (low & 1)


async def test_the_hosts_terminal_gets_states_from_firmware_behind_a_line(boards: Callable[[str, str], Board]) -> None:
    terminal = await Terminal.open(boards("transmitter", "PatientPulses").path, role="transmitter")
    assert await terminal.command("TEST?") == "pass random=ok model"
    with pytest.raises(CommandRefusedError, match="no reference clock"):
        await terminal.command("SET clock=external")
    await terminal.command("SET pulse_rate_hz=2e3")
    await terminal.start(0x2A)
    async with asyncio.timeout(30):
        while int((status := await terminal.status())["slots"]) < 1600:
            await asyncio.sleep(0.1)
    assert status["state"] == "running"
    # The self-test has drawn a block of random bytes before the run.
    states = list(drawn_states(64 + 1500))[64:]
    asked = np.arange(0, 1500, 2)
    answer = await terminal.states(0x2A, asked)
    assert list(answer) == [states[slot] for slot in asked]
    await terminal.stop()
    assert not await terminal.running()
    assert terminal.frames_lost == 0
    terminal.close()


async def test_the_hosts_terminal_gets_clicks_from_firmware_behind_a_line(boards: Callable[[str, str], Board]) -> None:
    blocks: list[Detections | TimeTags] = []
    terminal = await Terminal.open(boards("receiver", "Tags").path, blocks.append, role="receiver")
    await terminal.command(f"SET sync_every={link_models.SYNC_EVERY}")
    await terminal.start(3)
    async with asyncio.timeout(30):
        while not blocks or blocks[-1].end_slot < 50_000:
            await asyncio.sleep(0.1)
            status = await terminal.status()
    assert status["state"] == "running"
    await terminal.stop()
    found = [block for block in blocks if isinstance(block, Detections)]
    assert {block.run for block in found} == {3}
    seen, detectors = clicks(found[-1].end_slot)
    kept = [i for i, slot in enumerate(seen) if slot >= found[0].first_slot]
    assert status["overflow"] == "0"
    assert list(np.concatenate([b.slots for b in found])) == [seen[i] for i in kept]
    assert list(np.concatenate([b.detectors for b in found])) == [detectors[i] for i in kept]
    assert len(kept) > 3000
    assert terminal.frames_lost == 0
    terminal.close()


def test_refusals_have_a_code_and_a_sentence() -> None:
    assert str(RefusedError(4, "no such thing")) == "4 no such thing"


def test_a_board_can_measure_itself(unix_run: Callable[..., str]) -> None:
    printed = unix_run("from link_terminal.speed import measure; print(*measure())", heap_bytes=190 * 1024)
    assert all(0 < int(nanoseconds) < 1_000_000 for nanoseconds in printed.split())


KERNELS = """
from array import array
from link_models import Random
from link_terminal import kernels_bytecode as plain, kernels_viper as native

r = Random(3)
def ints(n, top, kind="I"):
    return array(kind, [r.below(top) for _ in range(n)])
def octets(n, top=256):
    return bytearray([r.below(top) for _ in range(n)])
def both(name, *arguments):
    copies = [[type(a)(a) if isinstance(a, bytearray) else array("i" if a is signed else "I", a)
               if isinstance(a, array) else a for a in arguments] for _ in range(2)]
    results = [getattr(module, name)(*copy) for module, copy in zip((plain, native), copies)]
    assert results[0] == results[1], (name, results)
    for a, b in zip(*copies):
        assert a == b, name

signed = array("i", [0])
for turn in range(60):
    both("draw", octets(200), octets(4096, 16), bytearray(100), 100)
    both("translate", octets(100, 16), octets(16), bytearray(100), 100)
    both("store", octets(64, 16), bytearray(64), 8, 64)
    both("copy_ring", octets(256), r.below(1000), 63, ints(20, 2), 20)
    data = octets(600, (2, 256)[turn & 1])
    for i in range(turn * 9):
        data[i] = data[i] or 1
    both("stuff", data, 600, bytearray(604))
    base = (0xFFFFFF00, 0x7FFFFF00, 5, 0x3FFFFFF0)[turn & 3]
    tags = array("I", [])
    for c in range(5):
        t = base - 20 if turn % 7 == 6 else base
        for _ in range(16):
            t += r.below(30)
            tags.append(t & 0xFFFFFFFF)
    state = array("I", [0, 16, 32, 48, 64] + [r.below(17) + 16 * c for c in range(5)] + [base, r.below(400), 60, 0, 0])
    both("merge", tags, state, ints(80, 2), bytearray(80))
    signed = array("i", [3, 17, r.below(5000) - 100, 2])
    both("take_clicks", array("I", [200 + i for i in range(20)]), octets(20, 4), ints(40, 2), bytearray(40), signed)
    slots = 1 + r.below(4096)
    length = slots * (1 + r.below(300)) + r.below(slots)
    signed = array("i", [slots, length, r.below(3), 3 + r.below(300)])
    both("to_slots", ints(30, length), octets(30, 4), 30, signed)
    signed = array("i", [0, 40, r.below(9) * 2, 60 + r.below(60), r.below(50) - 50, r.below(3000) - 50, 0, 3, 0x1FFF])
    values, at = array("I", []), 0
    for _ in range(40):
        at += r.below((50, 20000)[turn & 1])
        values.append(at)
    both("pack", values, octets(40, 5), bytearray(120), signed)
print("same")
"""


def test_native_kernels_do_what_plain_ones_do(unix_run: Callable[..., str]) -> None:
    files = {"link_models.py": MODELS.read_bytes()}
    assert unix_run(KERNELS, files, heap_bytes=2 << 20) == "same\n"


def test_the_unix_port_runs_viper(unix_run: Callable[..., str]) -> None:
    assert unix_run("from link_terminal.kernels import IMPLEMENTATION; print(IMPLEMENTATION)") == "viper\n"
