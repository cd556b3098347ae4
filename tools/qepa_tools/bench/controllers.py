"""The two controllers of the bench: the firmware's own command line and watchdog, with simulated light behind them.

`receive(data)` takes bytes from the host, what is to be sent back is in `outgoing`. Light is advanced by
`Bench.advance`, which the program's clock calls.
"""

from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from link_terminal import controller as firmware
from qepa_qkd import cobs_compiled
from qepa_qkd.serial_protocol import (
    STATE_GONE,
    SYNC_CHANNEL,
    Detections,
    Message,
    SerialProtocolError,
    StateQuery,
    States,
    TimeTags,
    decode_message,
    detections_that_fit,
    encode_message,
    tags_that_fit,
)
from qepa_tools.bench.physics import BenchSettings, Bytes, Clicks, OpticalBench, PulseSettings, Slots
from qepa_tools.bench.scenario import Scenario
from qepa_wire.link_commands import HOST_SILENCE_LIMIT_MS, NOT_HERE, PROBABILITY_ONE, RECEIVER, TRANSMITTER
from qepa_wire.link_frames import FrameReader, FrameWriter

HOST_SILENCE_LIMIT_S: Final = HOST_SILENCE_LIMIT_MS / 1000
"""A running controller whose host says nothing for this long stops."""

TICK_PS: Final = 100
"""Resolution of the simulated tagger."""


class Detecting(Protocol):
    """What the bench needs of the device behind its detectors."""

    role: str
    outgoing: list[bytes]

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the host."""

    def poll(self, now_ms: float) -> None:
        """Let time pass."""

    def synchronise(self) -> None:
        """Slot 0 begins."""

    def clicks(self, clicks: Clicks, end_slot: int) -> None:
        """Take all clicks up to `end_slot`."""


class Bench:
    """Both controllers and the optics between them; `now_s` is the caller's clock."""

    most_catch_up_s = 0.5
    receiver: Detecting

    def __init__(self, settings: BenchSettings, seed: int, scenario: Scenario | None = None) -> None:
        self.scenario = scenario or Scenario(settings)
        self._rng = np.random.default_rng(seed)
        self.pulses = PulseSettings()
        self.optics: OpticalBench | None = None
        self.transmitter = Transmitter(self)
        self.receiver = Receiver(self)
        self._started_s = 0.0

    @property
    def lit(self) -> bool:
        """Whether pulses are being sent."""
        return self.transmitter.run is not None

    @property
    def running(self) -> bool:
        """Whether anything here needs the clock."""
        return self.lit

    def start_optics(self, now_s: float) -> None:
        """Slot 0 begins now; an armed receiver starts to count with it."""
        self.receiver.poll(1000 * now_s)
        settings = self.scenario.settings
        self.optics = OpticalBench(settings, self.pulses, self._rng, scenario=self.scenario)
        self._started_s = now_s
        self.receiver.synchronise()

    def advance(self, now_s: float) -> None:
        """Send the pulses that are due at `now_s`. At most `most_catch_up_s`: a slow machine slows the bench."""
        self.transmitter.poll(1000 * now_s)
        self.receiver.poll(1000 * now_s)
        if not self.lit or self.optics is None:
            return
        due = int((now_s - self._started_s) * self.pulses.pulse_rate_hz) - self.optics.slot
        most = int(self.most_catch_up_s * self.pulses.pulse_rate_hz)
        if due > most:
            self._started_s += (due - most) / self.pulses.pulse_rate_hz
        if due > 0:
            clicks = self.optics.advance_tagged(min(due, most))
            self.receiver.clicks(clicks, self.optics.slot + self.scenario.settings.slot_offset)


class Controller(firmware.Controller):
    """The firmware's controller on the bench's clock, which counts seconds, and with the host's codec."""

    settings: dict[str, Any]

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._reader, self._writer = FrameReader(cobs_compiled.decode), FrameWriter(cobs_compiled.encode)
        self.bench = bench

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the host; what is to be sent back is added to `outgoing`."""
        super().receive(data, 1000 * now_s)

    def say(self, message: Message) -> None:
        """Queue one message for the host."""
        self.send(*encode_message(message))


class Transmitter(Controller):
    """Sends pulses, remembers the states and tells its host only those it asks for."""

    role = TRANSMITTER

    def begin(self, now_ms: float) -> None:
        """Apply the settings and begin with slot 0."""
        scale = PROBABILITY_ONE
        one, two, three = (x / scale for x in self.settings["intensities"])
        p_one, p_two, p_three = (x / scale for x in self.settings["probabilities"])
        self.bench.pulses = PulseSettings(
            pulse_rate_hz=float(self.settings["pulse_rate_hz"][0]),
            intensities=(one, two, three),
            probabilities=(p_one, p_two, p_three),
            key_basis_probability=self.settings["key_basis_probability"][0] / scale,
        )
        self.bench.start_optics(now_ms / 1000)

    def frame(self, kind: int, payload: bytes) -> None:
        """Answer a query for states."""
        try:
            query = decode_message(kind, payload)
        except SerialProtocolError:
            return
        optics = self.bench.optics
        if isinstance(query, StateQuery) and optics is not None and query.run == self.run:
            known = query.slots >= 0
            self.say(States(query.run, query.tag, np.where(known, optics.states(query.slots), STATE_GONE)))

    def self_test(self) -> str:
        """There is nothing that could break."""
        return "simulated"


class Receiver(Controller):
    """Numbers the clicks by slot, or tags them, and streams them in blocks that say what they cover."""

    role = RECEIVER

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.queue_limit_bytes = 1 << 18
        self._synchronised = False
        self._covered = 0
        self._covered_ps = 0
        self._overflow = 0

    def synchronise(self) -> None:
        """The first sync pulse after START: slot 0."""
        self._synchronised = self.run is not None
        self._covered = self._covered_ps = 0

    def clicks(self, clicks: Clicks, end_slot: int) -> None:
        """Queue the clicks up to `end_slot`; those a stalled host leaves no room for are dropped and counted."""
        if self.run is None or not self._synchronised:
            return
        full = sum(map(len, self.outgoing)) > self.queue_limit_bytes
        if self.settings["report"] == "tags":
            self._report_tags(clicks, end_slot, full)
        elif full:
            self._overflow += len(clicks.slots)
            self._covered = end_slot
        else:
            kept = self._gated(clicks)
            self._report_slots(clicks.slots[kept], clicks.detectors[kept], end_slot)

    def _gated(self, clicks: Clicks) -> npt.NDArray[np.bool_]:
        gate_ps, delay_ps = (1000 * self.settings[name][0] for name in ("gate_ns", "gate_delay_ns"))
        if not gate_ps:
            return np.ones(len(clicks.slots), np.bool_)
        in_gate: npt.NDArray[np.bool_] = (clicks.phases_ps >= delay_ps) & (clicks.phases_ps < delay_ps + gate_ps)
        return in_gate

    def _report_slots(self, slots: Slots, detectors: Bytes, end_slot: int) -> None:
        assert self.run is not None  # noqa: S101
        while True:
            fit = detections_that_fit(slots, self._covered)
            end = end_slot if fit == len(slots) else int(slots[fit - 1]) + 1
            self.say(Detections(self.run, self._covered, end, self._overflow, slots[:fit], detectors[:fit]))
            self._covered = end
            # A second click in the slot that ended the frame cannot be told any more: the next frame starts after it.
            told = int(np.searchsorted(slots, end))
            slots, detectors = slots[told:], detectors[told:]
            if end == end_slot:
                return

    def _report_tags(self, clicks: Clicks, end_slot: int, full: bool) -> None:
        assert self.run is not None  # noqa: S101
        times, channels = self._with_sync(clicks, end_slot)
        order = np.argsort(times, kind="stable")
        times, channels = times[order], channels[order]
        late = times < self._covered_ps
        self._overflow += int(np.count_nonzero(late))
        times, channels = times[~late], channels[~late]
        end_ps = max(self._covered_ps, int(times[-1]) + TICK_PS if len(times) else 0)
        if full:
            self._overflow += len(times)
            self._covered_ps = end_ps
            return
        while True:
            fit = tags_that_fit(times, self._covered_ps, TICK_PS)
            cut = end_ps if fit == len(times) else int(times[fit - 1]) + TICK_PS
            tags = times[:fit], channels[:fit]
            self.say(TimeTags(self.run, self._covered_ps, cut, self._overflow, TICK_PS, *tags))
            self._covered_ps = cut
            told = int(np.searchsorted(times, cut))
            times, channels = times[told:], channels[told:]
            if cut == end_ps:
                return

    def _with_sync(self, clicks: Clicks, end_slot: int) -> tuple[Slots, Bytes]:
        """All tags of this stretch: the clicks', and sync pulses on the same clock, which the clicks betray."""
        every = self.settings["sync_every"][0]
        slots = np.arange(-(-self._covered // every) * every, end_slot, every, dtype=np.int64)
        self._covered = end_slot
        period_ps = 1e12 / self.bench.pulses.pulse_rate_hz
        error_ps = clicks.times_ps - clicks.phases_ps - clicks.slots * period_ps
        errors = np.interp(slots, clicks.slots, error_ps) if len(clicks.slots) else np.zeros(len(slots))
        sync = np.rint(slots * period_ps + errors).astype(np.int64)
        times = np.concatenate([clicks.times_ps, sync]) // TICK_PS * TICK_PS
        return times, np.concatenate([clicks.detectors, np.full(len(sync), SYNC_CHANNEL, np.uint8)])

    def begin(self, now_ms: float) -> None:  # noqa: ARG002  slots are counted, not timed, here
        """Be ready for the first sync pulse."""
        self._synchronised = False
        self._overflow = 0

    def accept(self, name: str, value: object) -> None:
        """Refuse what the optics have of their own."""
        if name == "dead_time_ns" and value != (0,):
            raise firmware.RefusedError(NOT_HERE, "the detectors of the bench have a dead time of their own")

    def details(self) -> str:
        """Dropped events."""
        return f" overflow={self._overflow}"

    def self_test(self) -> str:
        """There is nothing that could break."""
        return "simulated"
