# ruff: noqa: ARG002  every instruction is told the level of the jump pin
"""A host model of the RP2040's PIO: enough of `rp2` to assemble the controllers' programs and run them cycle by cycle.

After the RP2040 datasheet, chapter 3: one instruction a cycle plus its delay; `jmp x--` decrements whether or not it
jumps; `out` with autopull waits for the FIFO and sets the stall flag; `wrap` takes no cycle.
"""

import types
from collections.abc import Callable
from dataclasses import dataclass, field

WORD = 0xFFFFFFFF


@dataclass
class Instruction:
    op: str
    args: tuple[object, ...]
    delay: int = 0
    side_level: int | None = None

    def side(self, level: int) -> "Instruction":
        self.side_level = level
        return self

    def __getitem__(self, delay: int) -> "Instruction":
        self.delay = delay
        return self


@dataclass
class Program:
    options: dict[str, object]
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    wrap_from: int = 0
    wrap_to: int = 0


def asm_pio(**options: object) -> Callable[[Callable[[], None]], Program]:
    def assemble(function: Callable[[], None]) -> Program:
        program = Program(options)

        def emit(op: str) -> Callable[..., Instruction]:
            def instruction(*args: object) -> Instruction:
                program.code.append(Instruction(op, args))
                return program.code[-1]

            return instruction

        def label(name: str) -> None:
            program.labels[name] = len(program.code)

        def wrap_target() -> None:
            program.wrap_to = len(program.code)

        def wrap() -> None:
            program.wrap_from = len(program.code) - 1

        names: dict[str, object] = {op: emit(op) for op in ("out", "mov", "jmp", "push")}
        names |= {name: name for name in ("isr", "x", "y", "pins", "null", "x_dec", "pin", "noblock")}
        names |= {"label": label, "wrap_target": wrap_target, "wrap": wrap, "invert": lambda source: ("invert", source)}
        types.FunctionType(function.__code__, names)()
        assert len(program.code) <= 32
        return program

    return assemble


class Machine:
    """One state machine at work. `tx` and `rx` are its FIFOs, unbounded unless `depth` is given."""

    def __init__(self, program: Program, depth: int = 8) -> None:
        self.program, self.depth = program, depth
        self.tx: list[int] = []
        self.rx: list[int] = []
        self.pins = self.strobe = self.cycle = self.pc = 0
        self.stalled = self.lost = False
        self._registers = {"x": 0, "y": 0, "isr": 0, "null": 0}
        self._osr, self._osr_left, self._wait = 0, 0, 0

    def step(self, pin: int = 0) -> None:
        """One cycle; `pin` is the level of the jump pin."""
        self.cycle += 1
        if self._wait:
            self._wait -= 1
            return
        instruction = self.program.code[self.pc]
        if instruction.side_level is not None:
            self.strobe = instruction.side_level
        following = self.program.wrap_to if self.pc == self.program.wrap_from else self.pc + 1
        target = getattr(self, "_" + instruction.op)(*instruction.args, pin=pin)
        if target == "wait":
            return
        self.pc = following if target is None else self.program.labels[target]
        self._wait = instruction.delay

    def _out(self, destination: str, bits: int, *, pin: int) -> str | None:
        if not self._osr_left:
            if not self.tx:
                self.stalled = True
                return "wait"
            self._osr, self._osr_left = self.tx.pop(0), 32
        value, self._osr = self._osr & ((1 << bits) - 1), self._osr >> bits
        self._osr_left -= bits
        if destination == "pins":
            self.pins = value
        elif destination != "null":
            self._registers[destination] = value
        return None

    def _mov(self, destination: str, source: object, *, pin: int) -> None:
        value = self._registers[source] if isinstance(source, str) else WORD ^ self._registers[source[1]]
        self._registers[destination] = value

    def _jmp(self, *args: str, pin: int) -> str | None:
        *condition, label = args
        if not condition:
            return label
        if condition[0] == "pin":
            return label if pin else None
        taken = self._registers["x"] != 0
        self._registers["x"] = (self._registers["x"] - 1) & WORD
        return label if taken else None

    def _push(self, _: str, *, pin: int) -> None:
        if len(self.rx) < self.depth:
            self.rx.append(self._registers["isr"])
        else:
            self.lost = True


class PIO:
    OUT_LOW, SHIFT_RIGHT, JOIN_TX, JOIN_RX = range(4)
