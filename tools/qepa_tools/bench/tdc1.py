"""A simulated S-Fifteen TDC1, sans-IO, after the vendor's documentation: to show the driver at work without one.

It understands what the driver sends and a little more. `expect` gives it the events it will see; `advance` lets its
clock run. Whoever tests the driver can cut bytes out of `outgoing`.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.drivers.tdc1_words import STEP_PS, WRAP_STEPS

IDENTITY: Final = "TDC1 (simulated)"
_DUMMY: Final = 0x10
_DUMMY_EVERY: Final = WRAP_STEPS // 2


class SimulatedTdc1:
    """The device's side of its port; `now_s` is the caller's clock, on which its own begins at 0."""

    role = "receiver"

    def __init__(self) -> None:
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
