"""The light of one run: weak coherent decoy pulses, a lossy wandering channel, four detectors, two clocks, an attacker.

Sans-IO and seeded: `advance(n)` moves n slots forward and returns the clicks. The same seed, settings and changes give
the same light, however it is cut into calls. The cost is that of the clicks, not of the pulses.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qepa_qkd.serial_protocol import STATE_GONE
from qepa_tools.bench import light as kernels
from qepa_tools.bench.attackers import Blinding, no_attack
from qepa_tools.bench.drift import Drift
from qepa_tools.bench.scenario import Scenario
from qepa_tools.bench.settings import BenchSettings, PulseSettings

__all__ = ["BenchSettings", "Bytes", "Clicks", "OpticalBench", "PulseSettings", "Slots"]

Slots = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_ROOM = 1 << 16
"""Clicks a kernel call returns at most."""


@dataclass(frozen=True, slots=True)
class Clicks:
    """Clicks in order of time."""

    slots: Slots
    """As the receiver counts them."""
    detectors: Bytes
    """0 H, 1 V, 2 D, 3 A."""
    phases_ps: npt.NDArray[np.int64]
    """Since the slot began; a pulse arrives in its middle."""
    times_ps: npt.NDArray[np.int64]
    """By the receiver's own clock, which drifts; without drift slot s spans [s, s + 1) periods."""


class OpticalBench:
    """Pulses in, clicks out. `scenario` says what happens meanwhile; it outlives a run and keeps count of the light.

    States are recomputed from the slot number when they are asked for, so nothing need be remembered; `ring_slots`
    imitates a transmitter that forgets what is older.
    """

    def __init__(
        self,
        settings: BenchSettings,
        pulses: PulseSettings,
        rng: np.random.Generator,
        ring_slots: int = 0,
        scenario: Scenario | None = None,
    ) -> None:
        self.pulses = pulses
        self.slot = 0
        self.scenario = scenario or Scenario(settings)
        self._ring_slots = ring_slots
        self._offset = settings.slot_offset
        states, photons, others, drift = (int(seed) for seed in rng.integers(0, 1 << 63, 4))
        self._key = np.uint64(states)
        self._table = pulses.state_table()
        self._memory = kernels.new_memory(photons, others)
        self._drift = Drift(pulses.pulse_rate_hz, drift)
        self._version = -1
        self._began_s = self.scenario.light_s
        self._light = self._new_light()

    @property
    def settings(self) -> BenchSettings:
        """The settings of the moment."""
        return self.scenario.settings

    @property
    def tally(self) -> dict[str, int]:
        """Clicks by detector, detections lost to dead time, slots with several clicks, since the run began."""
        return dict(
            zip(("H", "V", "D", "A", "dead", "double"), self._memory.slots[kernels.TALLY :].tolist(), strict=True)
        )

    @property
    def clock_ps(self) -> int:
        """What the receiver's clock shows now, as the time tags to come count."""
        slot = np.array([self.slot])
        return int((self.slot + self._offset) * 1e12 / self.pulses.pulse_rate_hz + self._drift.clock_error_ps(slot)[0])

    def advance(self, pulses: int) -> tuple[Slots, Bytes]:
        """Send the next `pulses` pulses; return the clicks as (receiver slot, detector), sorted by slot."""
        rows = self._rows(pulses)
        return rows[:, 0] + self._offset, rows[:, 1].astype(np.uint8)

    def advance_tagged(self, pulses: int) -> Clicks:
        """Likewise, but return the clicks with their time tags."""
        slots, detectors, offsets = self._rows(pulses).T
        period_ps = 1e12 / self.pulses.pulse_rate_hz
        phases = np.rint(period_ps / 2 + offsets).astype(np.int64)
        received = slots + self._offset
        # Whole seconds apart, so that a long run loses no picoseconds.
        second = round(self.pulses.pulse_rate_hz)
        times = received // second * round(second * period_ps) + np.rint(received % second * period_ps).astype(np.int64)
        times += phases + np.rint(self._drift.clock_error_ps(slots)).astype(np.int64)
        return Clicks(received, detectors.astype(np.uint8), phases, times)

    def _rows(self, pulses: int) -> Slots:
        """Advance; return (transmitter slot, detector, picoseconds from the middle of the slot), sorted."""
        stop = self.slot + pulses
        self._drift.reach(self.slot, stop, self.settings)
        parts: list[Slots] = []
        while True:
            self.scenario.take_effect(self._now_s(self.slot))
            until = self._next_change(stop)
            self._stretch(until, parts)
            self.slot = until
            self.scenario.light_s = self._now_s(until)
            if until == stop:
                return np.concatenate(parts)

    def states(self, slots: Slots) -> Bytes:
        """Return the state nibbles sent in transmitter slots `slots`; STATE_GONE where none was or it is forgotten."""
        states = np.empty(len(slots), np.uint8)
        kernels.slot_states(self._key, self._table, np.ascontiguousarray(slots, np.int64), states)
        oldest = max(0, self.slot - self._ring_slots) if self._ring_slots else 0
        states[(slots >= self.slot) | (slots < oldest)] = STATE_GONE
        return states

    def _now_s(self, slot: int) -> float:
        return self._began_s + slot / self.pulses.pulse_rate_hz

    def _next_change(self, stop: int) -> int:
        due_s = self.scenario.next_s()
        if due_s is None:
            return stop
        # A change takes effect with the first slot that begins no earlier than it.
        slot = self.slot
        while slot < stop and self._now_s(slot) < due_s:
            slot = max(slot + 1, min(stop, int((due_s - self._began_s) * self.pulses.pulse_rate_hz)))
        return slot

    def _stretch(self, until: int, parts: list[Slots]) -> None:
        """Advance to slot `until` under the scenario as it is."""
        if self._version != self.scenario.version:
            self._light = self._new_light()
        while True:
            out = np.empty((_ROOM, 3), np.int64)
            tables = self._table, self._shares, self._efficiencies, self._drift.fading
            count = kernels.clicks(self._light, *tables, self._drift.first, *self._memory, until, out)
            parts.append(out[:count])
            if count < _ROOM - kernels.CLICKS_OF_A_SLOT:
                return

    def _new_light(self) -> kernels.Light:
        """Put the scenario into numbers. Arrivals are drawn anew, which a process without memory does not notice."""
        s, attack, rate = self.settings, self.scenario.attack, self.pulses.pulse_rate_hz
        self._version = self.scenario.version
        effect = attack.effect(s, self.pulses) if attack else no_attack(s)
        brightest, best = max(self.pulses.intensities), max(s.detector_balance)
        self._shares = np.array([*self.pulses.intensities, 0.0]) / (brightest or 1.0)
        self._efficiencies = np.array(s.detector_balance, np.float64) / (best or 1.0)
        gate_s = min(s.gate_ns * 1e-9, 1 / rate)
        noise_hz = 0.0 if effect.kind == kernels.BLINDED else 4 * s.dark_counts_hz + s.background_hz
        light = kernels.Light(
            key=self._key,
            photons=brightest * effect.sampled,
            passing=effect.passing,
            noise=noise_hz * gate_s,
            period_ps=1e12 / rate,
            gate_ps=gate_s * 1e12,
            dead_ps=s.dead_time_ns * 1e3,
            afterpulse=float(s.afterpulse_probability),
            afterpulse_ps=s.afterpulse_ns * 1e3,
            misalignment=float(s.misalignment),
            key_basis=float(s.receiver_key_basis_probability),
            jitter_ps=float(s.jitter_ps),
            window_ps=float(s.efficiency_window_ps),
            mismatch_ps=float(s.mismatch_ps),
            attack=effect.kind,
            fraction=float(effect.fraction),
            first_number=float(effect.numbers[0]),
            second_number=float(effect.numbers[1]),
            fading_slots=self._drift.step_slots,
        )
        self._restart_arrivals(light)
        if isinstance(attack, Blinding):
            # Bright light makes every diode break down once.
            self._memory.slots[kernels.PENDING : kernels.LAST] = self.slot
        return light

    def _restart_arrivals(self, light: kernels.Light) -> None:
        random, slots, parts, _ = self._memory
        slots[kernels.NEXT : kernels.PENDING], parts[:2] = self.slot, 0.0
        slots[kernels.HEAD] = slots[kernels.TAIL] = 0
        for kind, rate in ((kernels.PHOTON, light.photons), (kernels.NOISE, light.noise)):
            kernels.arrive(random, slots, parts, kind, rate)
