"""A simulated S-Fifteen TDC1, sans-IO, after the vendor's documentation: to show the driver at work without one.

It understands what the driver sends and a little more. `expect` gives it the events it will see; `advance` lets its
clock run. Whoever tests the driver can cut bytes out of `outgoing`.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.drivers.tdc1_words import INPUTS, STEP_PS, WRAP_STEPS
from qepa_tools.bench.controllers import Bench
from qepa_tools.bench.physics import BenchSettings, Clicks
from qepa_tools.bench.scenario import Scenario

IDENTITY: Final = "TDC1 (simulated)"
_DUMMY: Final = 0x10
_DUMMY_EVERY: Final = WRAP_STEPS // 2
_NO_GATE_NS: Final = 1e6
_MOST_QUEUED: Final = 1 << 22
"""Bytes that wait for the host; a real one has less room."""


class SimulatedTdc1:
    """The device's side of its port; `now_s` is the caller's clock, on which its own begins at 0."""

    role = "receiver"

    def __init__(self) -> None:
        """Nothing to be seen yet."""
        self.outgoing: list[bytes] = []
        self.level = "TTL"
        self.reference = "0"
        self.orders: list[str] = []
        self._mode = "singles"
        self._time_ms = 1000
        self._line = b""
        self._streaming = False
        self._step = 0
        self._steps = np.empty(0, np.int64)
        self._inputs = np.empty(0, np.uint8)

    @property
    def streaming(self) -> bool:
        """Whether it sends time tags."""
        return self._streaming

    def expect(self, times_ps: npt.NDArray[np.int64], inputs: Iterable[int]) -> None:
        """Events to come, in order of time, each at one of the inputs 0 to 3."""
        self._steps = np.concatenate([self._steps, times_ps // STEP_PS])
        self._inputs = np.concatenate([self._inputs, np.fromiter(inputs, np.uint8)])

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the host."""
        self.advance(now_s)
        self._line += data.replace(b"\r", b"\n").replace(b";", b"\n")
        while (end := self._line.find(b"\n")) >= 0:
            order, self._line = self._line[:end].decode("ascii", "replace").strip().lower(), self._line[end + 1 :]
            if order:
                self.orders.append(order)
                self._execute(order)

    def advance(self, now_s: float) -> None:
        """Let its clock run to `now_s`; a stream tells what happened meanwhile."""
        start, self._step = self._step, max(self._step, int(now_s * 1e12 / STEP_PS))
        due = self._steps < self._step
        if self._streaming and self._step > start:
            self.outgoing.append(self._records(self._steps[due], self._inputs[due], start))
        self._steps, self._inputs = self._steps[~due], self._inputs[~due]

    def _execute(self, order: str) -> None:
        word, _, argument = order.partition(" ")
        if word == "*idn?":
            self._say(IDENTITY)
        elif word in ("singles", "pairs", "timestamp"):
            self._mode = word
        elif word == "time":
            self._time_ms = int(argument)
        elif word in ("pos", "neg", "ttl", "nim"):
            self.level = order.upper()
        elif word == "refclk":
            self.reference = argument
        elif word == "abort":
            self._streaming = False
        elif word == "counts?":
            self._count()
        elif word != "inpkt":
            self._say("Unknown command")

    def _count(self) -> None:
        if self._mode == "timestamp":
            self._streaming = True
            return
        # The answer is given at once, for the window to come; only the real one makes its host wait.
        window = self._steps < self._step + self._time_ms * 10**9 // STEP_PS
        counts = np.bincount(self._inputs[window], minlength=4)
        self._say(" ".join(str(count) for count in counts))

    def _records(self, steps: npt.NDArray[np.int64], inputs: npt.NDArray[np.uint8], start: int) -> bytes:
        dummies = np.arange(-(-start // _DUMMY_EVERY) * _DUMMY_EVERY, self._step, _DUMMY_EVERY)
        times, place = np.unique(steps, return_inverse=True)
        patterns = np.zeros(len(times), np.uint32)
        np.bitwise_or.at(patterns, place, np.uint32(1) << inputs.astype(np.uint32))
        dummies = np.setdiff1d(dummies, times)
        times = np.concatenate([times, dummies])
        patterns = np.concatenate([patterns, np.full(len(dummies), _DUMMY, np.uint32)])
        order = np.argsort(times, kind="stable")
        records = (times[order] % WRAP_STEPS).astype(np.uint32) << 5 | patterns[order]
        return records.astype("<u4").tobytes()

    def _say(self, line: str) -> None:
        self.outgoing.append(line.encode() + b"\r\n")


class TaggerBench(Bench):
    """A bench whose detectors hang on a TDC1: no gate, no sync, a clock that never waits for the transmitter."""

    most_catch_up_s = 10.0

    def __init__(self, settings: BenchSettings, seed: int, scenario: Scenario | None = None) -> None:
        scenario = scenario or Scenario(settings)
        scenario.settings = replace(scenario.settings, gate_ns=_NO_GATE_NS)
        super().__init__(settings, seed, scenario)
        self.receiver: BenchTdc1 = BenchTdc1(self, seed)

    @property
    def running(self) -> bool:
        """It also is while only dark counts are seen."""
        return self.lit or self.receiver.streaming


class BenchTdc1(SimulatedTdc1):
    """Sees the light of a bench: its clock is that of the time tags while there is light, else the caller's."""

    def __init__(self, bench: TaggerBench, seed: int) -> None:
        super().__init__()
        self._bench = bench
        self._rng = np.random.default_rng([seed, 1])
        self._now_s: float | None = None
        self._clock_ps = self._light_ps = 0
        self._led = False
        """Whether light leads the clock."""

    def poll(self, now_ms: float) -> None:
        """Let time pass."""
        self.advance(now_ms / 1000)

    def advance(self, now_s: float) -> None:
        """Let time pass; in the dark, noise is all there is."""
        elapsed_s = 0.0 if self._now_s is None else max(0.0, now_s - self._now_s)
        self._now_s, self._led = now_s, self._led and self._bench.lit
        if self._led or not elapsed_s:
            return
        settings = self._bench.scenario.settings
        rate_hz = INPUTS * settings.dark_counts_hz + settings.background_hz
        end_ps = self._clock_ps + int(elapsed_s * 1e12)
        if self._streaming:
            times = np.sort(self._rng.integers(self._clock_ps, end_ps, self._rng.poisson(rate_hz * elapsed_s)))
            self.expect(times, self._rng.integers(0, INPUTS, len(times)))
        self._run_to(end_ps)

    def synchronise(self) -> None:
        """Light begins: what it counts from is what the clock shows now."""
        self._light_ps, self._led = self._clock_ps, True

    def clicks(self, clicks: Clicks, end_slot: int) -> None:  # noqa: ARG002  a tagger knows no slots
        """Tag the clicks of the light."""
        assert self._bench.optics is not None  # noqa: S101
        self.expect(np.maximum(self._light_ps + clicks.times_ps, self._clock_ps), clicks.detectors)
        self._run_to(self._light_ps + self._bench.optics.clock_ps)

    def _run_to(self, clock_ps: int) -> None:
        self._clock_ps = max(self._clock_ps, clock_ps)
        super().advance(self._clock_ps * 1e-12)
        while sum(map(len, self.outgoing)) > _MOST_QUEUED:
            self.outgoing.pop()
