"""`qepa link align`: what each detector sees of each state, while somebody turns the wave plates."""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from qepa_qkd.coincidence import TagSlots
from qepa_qkd.drivers.errors import TagStreamError
from qepa_qkd.drivers.kinds import Kind, open_receiver
from qepa_qkd.drivers.receiver import Receiver
from qepa_qkd.drivers.reconnect import START_LIMIT_S, open_soon
from qepa_qkd.drivers.terminal import Terminal
from qepa_qkd.errors import NoKey, ProtocolError, QkdError
from qepa_qkd.history import behind_pseudo_terminal
from qepa_qkd.serial_protocol import STATE_GONE, Detections, Nibbles, Slots, TimeTags
from qepa_qkd.sifting import report_symbols
from qepa_qkd.slot_alignment import CANDIDATE_OFFSETS, SAMPLE_EVENTS, far_range, find_far_offset, find_offset

from .big_digits import big
from .folder import Ports
from .live import sparkline
from .programs import Programs, start_bench

DETECTORS: Final = "HVDA"
REFRESH_S: Final = 0.25
WINDOW_S: Final = 1.0
"""Figures are of the last second: short enough to follow a hand, long enough for 5,000 clicks."""
_GATE_NS: Final = 100.0
"""Of the clicks of a tagger: wide enough for any jitter."""
_MOST_ASKED: Final = 4000
"""Slots a refresh whose states are asked for."""


_BENCH: Final[dict[Kind, tuple[str, ...]]] = {"qepa": (), "tdc1": ("--receiver-device=tdc1",)}


class Matrix:
    """Clicks by state sent (row) and detector (column), both in the order H, V, D, A, over a sliding window."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._parts: deque[tuple[float, npt.NDArray[np.int64], npt.NDArray[np.int64], float]] = deque()

    def add(self, now_s: float, seconds: float, detectors: Nibbles, known: Nibbles, states: Nibbles) -> None:
        """Take the clicks of `seconds`; `known` are the detectors of those whose `states` are given."""
        sent = states != STATE_GONE
        pairs = np.bincount((states[sent] & 3).astype(np.int64) * 4 + known[sent], minlength=16).reshape(4, 4)
        self._parts.append((now_s, np.bincount(detectors, minlength=4), pairs, seconds))
        while self._parts[0][0] < now_s - self._window_s:
            self._parts.popleft()

    def rates_hz(self) -> list[float]:
        """Clicks a second of each detector."""
        seconds = sum(part[3] for part in self._parts)
        counts = sum((part[1] for part in self._parts), np.zeros(4, np.int64))
        return [float(n / seconds) if seconds else 0.0 for n in counts]

    def counts(self) -> npt.NDArray[np.int64]:
        """The matrix."""
        return sum((part[2] for part in self._parts), np.zeros((4, 4), np.int64))

    def visibility(self, states: Sequence[int]) -> float | None:
        """(right - wrong) / (right + wrong) of the clicks in the basis of `states`; None if there are none."""
        matrix = self.counts()
        right = sum(int(matrix[s, s]) for s in states)
        wrong = sum(int(matrix[s, s ^ 1]) for s in states)
        return (right - wrong) / (right + wrong) if right + wrong else None


class Alignment:
    """Runs both controllers without Alice and Bob: no key comes of it."""

    def __init__(self, console: Console, *, live: bool, receiver: Kind = "qepa") -> None:
        self._console, self._live, self._kind = console, live, receiver
        self._tag_slots: TagSlots | None = None
        self._lost = ""
        self._matrix = Matrix()
        self._run = 0
        self._gathered: list[Detections] = []
        self._course: dict[str, deque[float | None]] = {"HV": deque(maxlen=60), "DA": deque(maxlen=60)}
        self._best = {"HV": -1.0, "DA": -1.0}
        self._note = ""
        self._simulated = False

    async def run(
        self, ports: Ports, scratch: Path, bench_options: Sequence[str], pulse_rate_hz: float, seconds: float
    ) -> None:
        """Show until `seconds` are over, for ever if 0, or until cancelled. Raises ToolError and QkdError."""
        async with Programs(scratch) as programs:
            if ports.transmitter is None:
                with self._console.status("starting the virtual bench (the first start compiles) ..."):
                    await start_bench(programs, scratch, [*_BENCH[self._kind], *bench_options])
            names = (str(ports.transmitter or scratch / "bench/transmitter"), ports.receiver)
            self._simulated = behind_pseudo_terminal(Path(names[0]))
            transmitter = await open_soon(lambda: Terminal.open(names[0], role="transmitter"), limit_s=START_LIMIT_S)
            receiver: Receiver | None = None
            try:
                port = str(names[1] or scratch / "bench/receiver")
                receiver = await open_soon(
                    lambda: open_receiver(self._kind, port, self._detected), limit_s=START_LIMIT_S
                )
                await self._watch(transmitter, receiver, pulse_rate_hz, seconds)
            finally:
                for device in (receiver, transmitter):
                    if device is not None:
                        with contextlib.suppress(QkdError):
                            await device.stop()
                        device.close()

    def document(self) -> dict[str, Any]:
        """Return the newest figures."""
        return {
            "simulated": self._simulated,
            "note": self._note,
            "rates_hz": dict(zip(DETECTORS, self._matrix.rates_hz(), strict=True)),
            "visibility": {name: self._matrix.visibility([i]) for i, name in enumerate(DETECTORS)},
            "visibility_hv": self._matrix.visibility((0, 1)),
            "visibility_da": self._matrix.visibility((2, 3)),
            "clicks_by_state_and_detector": self._matrix.counts().tolist(),
        }

    def view(self) -> RenderableType:
        """Return the screen."""
        parts: list[RenderableType] = []
        if self._simulated:
            parts.append(Text("Simulated: a virtual optical bench, no photons", style="yellow"))
        for name, states in (("HV", (0, 1)), ("DA", (2, 3))):
            value = self._matrix.visibility(states)
            text = "--" if value is None else f"{100 * value:.1f}%"
            row = Table.grid(padding=(0, 3))
            row.add_row(Text(f"\n\n{name[0]}/{name[1]}", style="bold"), Text(big(text), style=_style(value)))
            parts.append(row)
            best = "" if value is None else f"best {100 * self._best[name]:.1f} %"
            course = list(self._course[name])
            low = next(low for low in (0.9, 0.5, 0.0, -1.0) if all(v is None or v >= low for v in course))
            parts.append(Text(f"     {sparkline(course, 1.0, bottom=low)}  {100 * low:.0f} to 100 %, {best}", "dim"))
        parts.append(self._detectors())
        if self._note:
            parts.append(Text(self._note, style="yellow"))
        parts.append(Text("Visibility of the last second. Ctrl-C ends", style="dim"))
        return Group(*parts)

    def _detectors(self) -> Table:
        rates = self._matrix.rates_hz()
        table = Table(box=None, padding=(0, 1), caption="clicks by what was sent", caption_justify="right")
        for heading in ("", "counts/s", "", "visibility", "H", "V", "D", "A"):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        matrix = self._matrix.counts()
        for i, name in enumerate(DETECTORS):
            value = self._matrix.visibility([i])
            column = matrix[:, i]
            shares = [f"{100 * n / max(1, column.sum()):.1f} %" for n in column]
            bar = sparkline([rates[i]], max(*rates, 1.0))
            shown = "--" if value is None else f"{100 * value:.1f} %"
            table.add_row(name, f"{rates[i]:,.0f}", bar, shown, *shares)
        return table

    def _detected(self, events: Detections | TimeTags) -> None:
        if isinstance(events, Detections):
            self._gathered.append(events)
        elif self._tag_slots is not None and events.run == self._run and not self._lost:
            try:
                detections = self._tag_slots.feed(events)
            except NoKey as why:
                self._lost = str(why)
                return
            if detections is None:
                self._note = "The clock is not found in the clicks yet: is there light?"
            else:
                self._gathered.append(detections)

    async def _begin(self, transmitter: Terminal, receiver: Receiver, pulse_rate_hz: float) -> int:
        """Start a run at both ends; slots count anew."""
        run = self._run = secrets.randbits(32)
        self._lost = ""
        self._gathered.clear()
        if self._kind == "tdc1":
            self._tag_slots = TagSlots(1e12 / pulse_rate_hz, 1000 * _GATE_NS, None)
        await transmitter.stop()
        await transmitter.command(f"SET pulse_rate_hz={pulse_rate_hz:g}")
        await receiver.start(run)
        await transmitter.start(run)
        return run

    async def _watch(self, transmitter: Terminal, receiver: Receiver, pulse_rate_hz: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        run = await self._begin(transmitter, receiver, pulse_rate_hz)
        ends_s = loop.time() + seconds if seconds else float("inf")
        checked_s, offset = loop.time(), None
        with Live(console=self._console, refresh_per_second=8, auto_refresh=False) as live:
            while loop.time() < ends_s:
                await asyncio.sleep(REFRESH_S)
                if loop.time() - checked_s > 1.0:  # it also keeps the controllers' watchdogs quiet
                    checked_s = loop.time()
                    await self._check(transmitter, receiver)
                if self._lost:  # somebody's hand was in the beam
                    self._note = f"{self._lost[0].upper()}{self._lost[1:]}: looking for it again."
                    run, offset = await self._begin(transmitter, receiver, pulse_rate_hz), None
                parts, self._gathered = [p for p in self._gathered if p.run == run], []
                if parts:
                    offset = await self._take(transmitter, run, parts, offset, loop.time(), pulse_rate_hz)
                if self._live:
                    live.update(self.view(), refresh=True)

    async def _check(self, transmitter: Terminal, receiver: Receiver) -> None:
        """Note a run whose tags were lost. Raises ProtocolError when a controller stopped by itself."""
        try:
            running = await receiver.running()
        except TagStreamError as why:
            self._lost, running = str(why), True
        if not (running and await transmitter.running()):
            raise ProtocolError("a controller stopped by itself")

    async def _take(
        self,
        transmitter: Terminal,
        run: int,
        parts: list[Detections],
        offset: int | None,
        now_s: float,
        pulse_rate_hz: float,
    ) -> int | None:
        """Add what arrived; returns the offset of slots, None while it is unknown: then there are rates only."""
        slots = np.concatenate([part.slots for part in parts])
        detectors = np.concatenate([part.detectors for part in parts])
        pulses = sum(part.end_slot - part.first_slot for part in parts)
        if offset is None:
            offset = await self._find_offset(transmitter, run, slots[-SAMPLE_EVENTS:], detectors[-SAMPLE_EVENTS:])
        known, states = np.empty(0, np.uint8), np.empty(0, np.uint8)
        if offset is not None:
            sent = slots[-_MOST_ASKED:] >= offset
            known = detectors[-_MOST_ASKED:][sent]
            states = await transmitter.states(run, slots[-_MOST_ASKED:][sent] - offset)
        self._matrix.add(now_s, pulses / pulse_rate_hz, detectors, known, states)
        for name, pair in (("HV", (0, 1)), ("DA", (2, 3))):
            value = self._matrix.visibility(pair)
            self._course[name].append(value)
            self._best[name] = max(self._best[name], -1.0 if value is None else value)
        return offset

    async def _find_offset(self, transmitter: Terminal, run: int, slots: Slots, detectors: Nibbles) -> int | None:
        usable = slots >= max(CANDIDATE_OFFSETS)
        slots, symbols = slots[usable], report_symbols(detectors[usable])
        if not len(slots):
            return None
        try:
            found = await self._search(transmitter, run, slots, symbols)
        except NoKey as why:
            self._note = f"{str(why)[0].upper()}{str(why)[1:]}: counts only. Bring D/A nearer to its place."
            return None
        self._note = ""
        return found

    async def _search(self, transmitter: Terminal, run: int, slots: Slots, symbols: Nibbles) -> int:
        """Near by, and far away where the receiver counts from the first light it saw. Raises NoKey."""
        candidates = {offset: await transmitter.states(run, slots - offset) for offset in CANDIDATE_OFFSETS}
        try:
            return find_offset(symbols, candidates)
        except NoKey:
            if self._tag_slots is None:
                raise
        first, end = far_range(slots)
        return find_far_offset(slots, symbols, first, await transmitter.states(run, np.arange(first, end)))


def _style(visibility: float | None) -> str:
    if visibility is None:
        return "dim"
    return "bold green" if visibility >= 0.96 else "bold yellow" if visibility >= 0.84 else "bold red"
