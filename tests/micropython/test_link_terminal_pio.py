"""The controllers' PIO programs on a model of PIO: what comes out when, to the cycle."""

import importlib
import itertools
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from . import pio_model


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.setitem(sys.modules, "rp2", pio_model)
    names = ("rp2040_pulses", "rp2040_tagger")
    yield {name: importlib.import_module(f"link_terminal.{name}") for name in names}
    for name in names:
        sys.modules.pop(f"link_terminal.{name}")


def words(symbols: list[int]) -> list[int]:
    return [int.from_bytes(bytes(symbols[at : at + 4]), "little") for at in range(0, len(symbols), 4)]


@pytest.mark.parametrize(("cycles", "strobe"), [(10, 1), (125, 1), (125, 20), (1250, 2), (12, 3)])
def test_a_slot_takes_its_cycles_and_each_symbol_gets_the_same_strobe(
    modules: dict[str, ModuleType], cycles: int, strobe: int
) -> None:
    pulses = modules["rp2040_pulses"]
    machine = pio_model.Machine(pulses.pulses)
    symbols = [0x01, 0x52, 0x24, 0x08, 0x11, 0x62, 0x04, 0x18]
    machine.tx = [*pulses.loop_counts(cycles, strobe), *words(symbols)]
    trace = []
    while not machine.stalled:
        machine.step()
        trace.append((machine.pins, machine.strobe))
    shot = [(at, pins) for at, (pins, level) in enumerate(trace) if level]
    fired = [slot[0] for slot in zip(shot[::strobe], strict=True)]
    assert [pins for _, pins in fired] == symbols
    assert {b[0] - a[0] for a, b in itertools.pairwise(fired)} == {cycles}
    assert len(shot) == strobe * len(symbols)
    for at, pins in fired:
        assert all(selected == pins and not level for selected, level in trace[at - 3 : at])
        assert all(selected == pins for selected, _ in trace[at : at + strobe])


def test_without_symbols_the_strobe_is_low_and_the_flag_is_set(modules: dict[str, ModuleType]) -> None:
    pulses = modules["rp2040_pulses"]
    machine = pio_model.Machine(pulses.pulses)
    machine.tx = [*pulses.loop_counts(50, 5), *words([1, 2, 4, 8])]
    for _ in range(200):
        machine.step()
    assert not machine.stalled
    for _ in range(200):
        machine.step()
    assert machine.stalled
    assert not machine.strobe


def edges(machine: pio_model.Machine, pulses: list[tuple[int, int]], end: int) -> list[int]:
    """Feed pulses (cycle, width) to the machine; returns its tags."""
    levels = {at for start, width in pulses for at in range(start, start + width)}
    tags = []
    while machine.cycle < end:
        machine.step(int(machine.cycle in levels))
        tags += machine.rx
        machine.rx.clear()
    return tags


def test_every_edge_is_tagged_with_its_tick_however_long_the_pulse(modules: dict[str, ModuleType]) -> None:
    tagger = modules["rp2040_tagger"]
    starts = [37, 100, 101 + 50, 400, 431, 1000, 1017, 2000, 5003]
    widths = [2, 3, 40, 2, 7, 5, 100, 900, 2]
    tags = edges(pio_model.Machine(tagger.rising_edges), list(zip(starts, widths, strict=True)), 6000)
    assert len(tags) == len(starts)
    errors = [tag * tagger.CYCLES_PER_TICK - start for tag, start in zip(tags, starts, strict=True)]
    assert max(errors) - min(errors) <= tagger.CYCLES_PER_TICK


def test_pulses_as_close_as_the_dead_time_are_two_and_closer_ones_are_one(modules: dict[str, ModuleType]) -> None:
    tagger = modules["rp2040_tagger"]
    for phase in range(100, 104):
        far = edges(pio_model.Machine(tagger.rising_edges), [(phase, 2), (phase + tagger.DEAD_CYCLES + 2, 2)], 300)
        assert len(far) == 2
        near = edges(pio_model.Machine(tagger.rising_edges), [(phase, 2), (phase + 3, 2)], 300)
        assert len(near) == 1


def test_machines_that_start_together_agree_on_a_common_edge(modules: dict[str, ModuleType]) -> None:
    tagger = modules["rp2040_tagger"]
    busy = [(at, 3) for at in range(50, 3000, 29)]
    a = edges(pio_model.Machine(tagger.rising_edges), [*busy, (4000, 5)], 4100)
    b = edges(pio_model.Machine(tagger.rising_edges), [(4000, 5)], 4100)
    assert abs(a[-1] - b[-1]) <= 1


def test_a_fifo_that_is_full_loses_tags_and_says_so(modules: dict[str, ModuleType]) -> None:
    machine = pio_model.Machine(modules["rp2040_tagger"].rising_edges)
    for at in range(400):
        machine.step(int(at % 20 < 4))
    assert len(machine.rx) == 8
    assert machine.lost
