# ruff: noqa: ARG002  methods are those of MicroPython
"""An RP2040 as far as the controllers' hardware classes need it: PIO machines that really run, DMA, pins, registers.

`install` makes it the modules `rp2`, `machine` and `uctypes`; `CHIP.run(cycles)` lets time pass.
"""

import random
import types

from . import pio_model

CLOCK_HZ = 125_000_000
CYCLES_PER_US = CLOCK_HZ // 1_000_000
PIO_BASES = (0x50200000, 0x50300000)
CTRL, FDEBUG, TXF, RXF = 0x00, 0x08, 0x10, 0x20
TIMER_LOW = 0x40054028
RAM = 0x20000000


class Chip:
    def __init__(self, us: int = 0) -> None:
        self.start_us = us
        self.cycle = 0
        self.machines: dict[int, StateMachine] = {}
        self.channels: list[DMA] = []
        self.levels: dict[int, int] = {}
        self.driven: dict[int, int] = {}
        self.flags = [0, 0]
        self.memory: dict[int, memoryview] = {}
        self.trace: list[tuple[int, int]] | None = None

    def run(self, cycles: int) -> None:
        """One cycle after the other: DMA, then every machine that is on."""
        for _ in range(cycles):
            self.cycle += 1
            for channel in self.channels:
                channel.step()
            for number, machine in self.machines.items():
                if machine.on:
                    model = machine.model
                    model.step(self.levels.get(machine.jmp_pin, 0))
                    pio, bit = number >> 2, number & 3
                    self.flags[pio] |= model.stalled << (24 + bit) | model.lost << bit
                    model.stalled = model.lost = False
            if self.trace is not None and 0 in self.machines:
                model = self.machines[0].model
                self.trace.append((model.pins, model.strobe if self.machines[0].on else 0))


class Memory:
    def __getitem__(self, address: int) -> int:
        if address == TIMER_LOW:
            return (CHIP.start_us + CHIP.cycle // CYCLES_PER_US) & 0xFFFFFFFF
        for pio, base in enumerate(PIO_BASES):
            if address == base + FDEBUG:
                return CHIP.flags[pio]
        for start, view in CHIP.memory.items():
            if start <= address < start + len(view):
                return int.from_bytes(view[address - start : address - start + 4], "little")
        raise AssertionError(hex(address))

    def __setitem__(self, address: int, value: int) -> None:
        for pio, base in enumerate(PIO_BASES):
            if address == base + FDEBUG:
                CHIP.flags[pio] &= ~value
                return
            if address == base + CTRL:
                for number, machine in CHIP.machines.items():
                    if number >> 2 == pio:
                        machine.on = bool(value >> (number & 3) & 1)
                return
        raise AssertionError(hex(address))


class Pin:
    IN, OUT, PULL_DOWN = range(3)

    def __init__(self, number: int, mode: int = 0, pull: int = 0, *, value: int | None = None) -> None:
        self.number = number
        if value is not None:
            CHIP.driven[number] = value

    def value(self) -> int:
        return CHIP.levels.get(self.number, 0)


class PWM:
    def __init__(self, pin: Pin, *, freq: int, duty_u16: int) -> None:
        self._pin = pin

    def duty_u16(self, duty: int) -> None:
        CHIP.driven[self._pin.number] = duty


class StateMachine:
    def __init__(self, number: int, program: pio_model.Program, *, jmp_pin: Pin | None = None, **pins: Pin) -> None:
        self.number, self.program = number, program
        self.jmp_pin = jmp_pin.number if jmp_pin else -1
        self.on = False
        self.model = pio_model.Machine(program)
        CHIP.machines[number] = self

    def put(self, word: int) -> None:
        self.model.tx.append(word)

    def rx_fifo(self) -> int:
        return len(self.model.rx)

    def get(self) -> int:
        return self.model.rx.pop(0)

    def restart(self) -> None:
        kept = self.model.rx
        self.model = pio_model.Machine(self.program)
        self.model.rx = kept

    def active(self, on: int) -> None:
        self.on = bool(on)


class DMA:
    """Word transfers between memory and one FIFO, one a cycle at most."""

    def __init__(self) -> None:
        self.channel = len(CHIP.channels)
        self.count = 0
        self.read: object = None
        self.write: object = None
        self._on = False
        self._at = 0
        self._handler: object = None
        self._control: dict[str, int] = {}
        CHIP.channels.append(self)

    def pack_ctrl(self, **fields: int) -> dict[str, int]:
        return {"size": 2, "inc_read": True, "inc_write": True, "irq_quiet": True, **fields}

    def config(self, *, read: object, write: object, count: int, ctrl: dict[str, int], trigger: bool = False) -> None:
        self.read, self.write, self.count, self._control = read, write, count, ctrl
        assert ctrl["size"] == 2
        self._on, self._at = trigger, 0

    def irq(self, handler: object, hard: bool = False) -> None:
        self._handler = handler

    def active(self, on: int) -> None:
        self._on, self._at = bool(on), 0

    def step(self) -> None:
        if not self._on or not self.count:
            return
        request = self._control["treq_sel"]
        pio, index = request >> 3, request & 3
        machine = CHIP.machines.get(4 * pio + index)
        assert machine is not None
        fifo = machine.model
        if request & 4:
            assert self.read == PIO_BASES[pio] + RXF + 4 * index
            if not fifo.rx:
                return
            size = 1 << self._control["ring_size"]
            assert CHIP_ADDRESS(self.write) % size == 0
            self.write[self._at : self._at + 4] = fifo.rx.pop(0).to_bytes(4, "little")
            self._at = (self._at + 4) % size
        else:
            assert self.write == PIO_BASES[pio] + TXF + 4 * index
            if len(fifo.tx) >= fifo.depth:
                return
            fifo.tx.append(int.from_bytes(self.read[self._at : self._at + 4], "little"))
            self._at += 4
        self.count -= 1
        if not self.count:
            self._on = False
            if self._handler and not self._control["irq_quiet"]:
                self._handler(self)


def CHIP_ADDRESS(buffer: object) -> int:  # noqa: N802
    """Where a buffer is in the chip's memory: bytearrays get a place when first asked for, views lie within theirs."""
    view = memoryview(buffer)
    owner = view.obj
    for start, known in CHIP.memory.items():
        if known.obj is owner:
            first = next(at for at in range(0, len(known), 4) if _same(known, at, view)) if view is not known else 0
            return start + first
    start = RAM + 0x1234 + 0x10000 * len(CHIP.memory)
    CHIP.memory[start] = memoryview(owner)
    return CHIP_ADDRESS(buffer)


def _same(known: memoryview, at: int, view: memoryview) -> bool:
    before = view[0]
    view[0] = before ^ 0xFF
    found = known[at] == before ^ 0xFF
    view[0] = before
    return found and known[at] == before


CHIP = Chip()


def install(monkeypatch: object, us: int = 0) -> Chip:
    """A fresh chip whose microsecond timer begins at `us`, in the place of the modules."""
    global CHIP  # noqa: PLW0603  there is one chip
    CHIP = Chip(us)
    rp2 = types.SimpleNamespace(asm_pio=pio_model.asm_pio, PIO=pio_model.PIO, StateMachine=StateMachine, DMA=DMA)
    machine = types.SimpleNamespace(
        Pin=Pin,
        PWM=PWM,
        freq=lambda: CLOCK_HZ,
        mem32=Memory(),
        disable_irq=lambda: 0,
        enable_irq=lambda _: None,
    )
    modules = {"rp2": rp2, "machine": machine, "uctypes": types.SimpleNamespace(addressof=CHIP_ADDRESS)}
    for name, module in modules.items():
        monkeypatch.setitem(__import__("sys").modules, name, module)
    return CHIP


def seeded(seed: int) -> random.Random:
    """Noise for a test."""
    return random.Random(seed)
