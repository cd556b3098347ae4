"""The two controllers of the bench: text commands and event blocks of the serial protocol, sans-IO.

`receive(data)` returns the bytes to send back. Light is advanced by `Bench.advance`, which the program's clock calls.
"""

import re
from dataclasses import replace

import numpy as np

from qepa_qkd.serial_protocol import (
    Command,
    Detections,
    Event,
    FrameDecoder,
    FrameEncoder,
    Message,
    Reply,
    StateQuery,
    States,
    detections_that_fit,
)
from qepa_tools.bench.physics import BenchSettings, Bytes, OpticalBench, PulseSettings, Slots

HOST_SILENCE_LIMIT_S = 5.0
"""A running controller whose host says nothing for this long stops."""

_TRIPLES = re.compile(r"[0-9.e+-]+,[0-9.e+-]+,[0-9.e+-]+")


class Bench:
    """Both controllers and the optics between them; `now_s` is the caller's clock."""

    def __init__(self, settings: BenchSettings, seed: int) -> None:
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self.pulses = PulseSettings()
        self.optics: OpticalBench | None = None
        self.transmitter = Transmitter(self)
        self.receiver = Receiver(self)
        self._started_s = 0.0

    @property
    def running(self) -> bool:
        """Whether pulses are being sent; while not, nothing here needs the clock."""
        return self.transmitter.run is not None

    def start_optics(self, now_s: float) -> None:
        """Slot 0 begins now; an armed receiver starts to count with it."""
        self.optics = OpticalBench(self._settings, self.pulses, self._rng)
        self._started_s = now_s
        self.receiver.synchronise()

    def advance(self, now_s: float) -> None:
        """Send the pulses that are due at `now_s`. At most half a second's worth: a slow machine slows the bench."""
        for controller in (self.transmitter, self.receiver):
            controller.stop_if_host_is_silent(now_s)
        if not self.running or self.optics is None:
            return
        due = int((now_s - self._started_s) * self.pulses.pulse_rate_hz) - self.optics.slot
        most = int(0.5 * self.pulses.pulse_rate_hz)
        if due > most:
            self._started_s += (due - most) / self.pulses.pulse_rate_hz
        if due > 0:
            slots, detectors = self.optics.advance(min(due, most))
            self.receiver.clicks(slots, detectors, self.optics.slot + self._settings.slot_offset)


class Controller:
    """What both controllers share: framing, the command line, the watchdog."""

    role = ""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.run: int | None = None
        self.outgoing: list[bytes] = []
        self._decoder = FrameDecoder()
        self._encoder = FrameEncoder()
        self._heard_s = 0.0

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the host; what is to be sent back is added to `outgoing`."""
        for event in self._decoder.feed(data):
            self._heard_s = now_s
            self._handle(event, now_s)

    def send(self, message: Message) -> None:
        """Queue one frame for the host."""
        self.outgoing.append(self._encoder.encode(message))

    def stop_if_host_is_silent(self, now_s: float) -> None:
        """The watchdog of a controller: a host that died must not leave the laser on."""
        if self.run is not None and now_s - self._heard_s > HOST_SILENCE_LIMIT_S:
            self.run = None

    def _handle(self, event: Event, now_s: float) -> None:
        if isinstance(event, Command):
            self.send(Reply(self._command(event.text, now_s)))

    def _command(self, text: str, now_s: float) -> str:
        word, _, rest = text.partition(" ")
        if word == "*IDN?":
            return f"OK QEPA {self.role} protocol=1"
        if word == "STATUS?":
            return f"OK {self._status()}"
        if word == "STOP":
            self.run = None
            return "OK"
        if word == "START" and (found := re.fullmatch(r"run=([0-9a-f]{8})", rest)):
            return self._start(int(found[1], 16), now_s)
        if word == "SET":
            name, _, value = rest.partition("=")
            return self._set(name, value)
        return "ERR 1 unknown command"

    def _start(self, run: int, now_s: float) -> str:
        raise NotImplementedError

    def _set(self, name: str, value: str) -> str:
        raise NotImplementedError

    def _status(self) -> str:
        state = "idle" if self.run is None else "running"
        return f"state={state} damaged={self._decoder.frames_damaged} lost={self._decoder.frames_lost}"


class Transmitter(Controller):
    """Sends pulses, remembers the states and tells its host only those it asks for."""

    role = "transmitter"

    def _start(self, run: int, now_s: float) -> str:
        self.run = run
        self.bench.start_optics(now_s)
        return "OK"

    def _set(self, name: str, value: str) -> str:
        if self.run is not None:
            return "ERR 2 stop first"
        pulses = self.bench.pulses
        try:
            if name == "pulse_rate_hz" and 1e3 <= float(value) <= 1e8:
                self.bench.pulses = replace(pulses, pulse_rate_hz=float(value))
            elif name == "key_basis_probability" and 0 < float(value) < 1:
                self.bench.pulses = replace(pulses, key_basis_probability=float(value))
            elif name in ("intensities", "probabilities") and _TRIPLES.fullmatch(value):
                one, two, three = (float(x) for x in value.split(","))
                if name == "intensities":
                    self.bench.pulses = replace(pulses, intensities=(one, two, three))
                else:
                    self.bench.pulses = replace(pulses, probabilities=(one, two, three))
            else:
                return "ERR 3 unknown name or value out of range"
        except ValueError:
            return "ERR 3 not a number"
        return "OK"

    def _handle(self, event: Event, now_s: float) -> None:
        if isinstance(event, StateQuery):
            optics = self.bench.optics
            if optics is not None and event.run == self.run:
                self.send(States(event.run, event.tag, optics.states(event.slots)))
        else:
            super()._handle(event, now_s)


class Receiver(Controller):
    """Numbers the clicks by slot and streams them in blocks that say which slots they cover."""

    role = "receiver"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.queue_limit_bytes = 1 << 18
        self._synchronised = False
        self._covered = 0
        self._overflow = 0

    def synchronise(self) -> None:
        """The first sync pulse after START: slot 0."""
        self._synchronised = self.run is not None
        self._covered = 0

    def clicks(self, slots: Slots, detectors: Bytes, end_slot: int) -> None:
        """Queue the clicks up to `end_slot`; those a stalled host leaves no room for are dropped and counted."""
        if self.run is None or not self._synchronised:
            return
        if sum(map(len, self.outgoing)) > self.queue_limit_bytes:
            self._overflow += len(slots)
            self._covered = end_slot
            return
        while True:
            fit = detections_that_fit(slots, self._covered)
            end = end_slot if fit == len(slots) else int(slots[fit - 1]) + 1
            self.send(Detections(self.run, self._covered, end, self._overflow, slots[:fit], detectors[:fit]))
            self._covered = end
            # A second click in the slot that ended the frame cannot be told any more: the next frame starts after it.
            rest = slots >= end
            slots, detectors = slots[rest], detectors[rest]
            if end == end_slot:
                return

    def _start(self, run: int, now_s: float) -> str:  # noqa: ARG002 (slots are counted, not timed, here)
        self.run = run
        self._synchronised = False
        self._overflow = 0
        return "OK"

    def _set(self, name: str, value: str) -> str:  # noqa: ARG002 (there is nothing to set)
        return "ERR 3 the receiver has no such setting"

    def _status(self) -> str:
        return f"{super()._status()} overflow={self._overflow}"
