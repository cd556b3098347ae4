"""Model of the light: weak coherent decoy pulses, a lossy rotated channel, four detectors, an eavesdropper.

Sans-IO and seeded: `advance(n)` moves `n` slots forward and returns the clicks. Photon numbers per pulse are Poisson,
so after loss they still are, and the photons detected from all pulses of one intensity can be drawn at once: their
number is Poisson(n_mu * eta * mu) and their slots are uniform. The cost is that of the clicks, not of the pulses.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qepa_qkd.serial_protocol import STATE_GONE

Slots = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What the bench is made of. Defaults: a few metres of air, silicon avalanche diodes, fair alignment."""

    channel_transmittance: float = 0.8
    receiver_transmittance: float = 0.55
    detector_efficiency: float = 0.5
    dark_counts_hz: float = 300.0
    """Of each of the four detectors."""
    background_hz: float = 1000.0
    """Stray light, all detectors together, after their efficiency."""
    gate_ns: float = 100.0
    """Only clicks this close to the expected arrival count; the rest of the slot is dark."""
    dead_time_ns: float = 1200.0
    afterpulse_probability: float = 0.006
    misalignment: float = 0.008
    """Probability that a photon goes to the wrong detector of the right basis."""
    receiver_key_basis_probability: float = 0.7
    """Splitting ratio of the passive basis choice."""
    slot_offset: int = 3
    """Slot number at the receiver minus slot number at the transmitter: cable and sync latency."""
    intercept_fraction: float = 0.0
    """Share of pulses that an eavesdropper measures in a random basis and sends on."""


@dataclass(frozen=True, slots=True)
class PulseSettings:
    """What the transmitter was told to send."""

    pulse_rate_hz: float = 1e6
    intensities: tuple[float, float, float] = (0.5, 0.2, 0.002)
    probabilities: tuple[float, float, float] = (0.4, 0.3, 0.3)
    key_basis_probability: float = 0.7

    def state_table(self) -> Bytes:
        """Return 65,536 state nibbles (bit 0 value, bit 1 basis, bits 2-3 intensity), each as often as it is sent."""
        weights = []
        for intensity, p_intensity in enumerate(self.probabilities):
            for basis, p_basis in enumerate((self.key_basis_probability, 1 - self.key_basis_probability)):
                weights += [(intensity << 2 | basis << 1 | value, p_intensity * p_basis / 2) for value in (0, 1)]
        edges = np.rint(np.cumsum([p for _, p in weights]) * 65536).astype(int)
        return np.repeat(np.array([s for s, _ in weights], np.uint8), np.diff(edges, prepend=0))


class OpticalBench:
    """Pulses in, clicks out. `ring_slots` states are remembered for the transmitter's answers."""

    def __init__(
        self, settings: BenchSettings, pulses: PulseSettings, rng: np.random.Generator, ring_slots: int = 1 << 23
    ) -> None:
        self.settings = settings
        self.pulses = pulses
        self.slot = 0
        self._rng = rng
        self._table = pulses.state_table()
        self._ring = np.full(ring_slots, STATE_GONE, np.uint8)
        self._late_slots = np.empty(0, np.int64)
        self._late_detectors = np.empty(0, np.uint8)
        self._last_click = np.full(4, -(1 << 40), np.int64)

    def advance(self, pulses: int) -> tuple[Slots, Bytes]:
        """Send the next `pulses` pulses; return the clicks as (receiver slot, detector), sorted by slot."""
        start, self.slot = self.slot, self.slot + pulses
        states = self._table[self._rng.integers(0, 65536, pulses, np.uint16)]
        self._ring[np.arange(start, self.slot) % len(self._ring)] = states
        photon_slots, photon_detectors = self._photons(states)
        noise_slots, noise_detectors = self._noise(pulses)
        slots = np.concatenate([photon_slots + start, noise_slots + start, self._late_slots])
        detectors = np.concatenate([photon_detectors, noise_detectors, self._late_detectors])
        slots, detectors = self._afterpulses(slots, detectors)
        slots, detectors = self._dead_time(slots, detectors)
        return slots + self.settings.slot_offset, detectors

    def states(self, slots: Slots) -> Bytes:
        """Return the state nibbles sent in transmitter slots `slots`; STATE_GONE outside the ring's memory."""
        known = (slots < self.slot) & (slots >= max(0, self.slot - len(self._ring)))
        return np.where(known, self._ring[slots % len(self._ring)], STATE_GONE).astype(np.uint8)

    def _photons(self, states: Bytes) -> tuple[Slots, Bytes]:
        s = self.settings
        eta = s.channel_transmittance * s.receiver_transmittance * s.detector_efficiency
        picked = []
        for intensity, mu in enumerate(self.pulses.intensities):
            slots = np.flatnonzero(states >> 2 == intensity)
            if len(slots):
                picked.append(slots[self._rng.integers(0, len(slots), self._rng.poisson(len(slots) * eta * mu))])
        slots = np.concatenate(picked) if picked else np.empty(0, np.int64)
        value, basis = self._after_eavesdropper(states, slots)
        receiver_basis = self._rng.random(len(slots)) >= s.receiver_key_basis_probability
        wrong = np.where(receiver_basis == basis, s.misalignment, 0.5)
        value = value ^ (self._rng.random(len(slots)) < wrong)
        return slots, (receiver_basis << 1 | value).astype(np.uint8)

    def _after_eavesdropper(self, states: Bytes, slots: Slots) -> tuple[Bytes, Bytes]:
        """Value and basis of each photon after intercept-resend; photons of one pulse share its fate."""
        value, basis = states & 1, states >> 1 & 1
        if self.settings.intercept_fraction:
            attacked = self._rng.random(len(states)) < self.settings.intercept_fraction
            eve_basis = self._rng.integers(0, 2, len(states), np.uint8)
            guess = self._rng.integers(0, 2, len(states), np.uint8)
            value = np.where(attacked & (eve_basis != basis), guess, value)
            basis = np.where(attacked, eve_basis, basis)
        return value[slots].astype(np.uint8), basis[slots].astype(np.uint8)

    def _noise(self, pulses: int) -> tuple[Slots, Bytes]:
        s = self.settings
        gate_s = min(s.gate_ns * 1e-9, 1 / self.pulses.pulse_rate_hz)
        count = self._rng.poisson(pulses * gate_s * (4 * s.dark_counts_hz + s.background_hz))
        return self._rng.integers(0, pulses, count), self._rng.integers(0, 4, count, np.uint8)

    def _afterpulses(self, slots: Slots, detectors: Bytes) -> tuple[Slots, Bytes]:
        again = self._rng.random(len(slots)) < self.settings.afterpulse_probability
        # Trapped carriers are released over a few microseconds, after the dead time.
        dead = int(self.settings.dead_time_ns * 1e-9 * self.pulses.pulse_rate_hz)
        delay = dead + self._rng.geometric(0.3, int(again.sum()))
        slots = np.concatenate([slots, slots[again] + delay])
        detectors = np.concatenate([detectors, detectors[again]])
        late = slots >= self.slot
        self._late_slots, self._late_detectors = slots[late], detectors[late]
        return slots[~late], detectors[~late]

    def _dead_time(self, slots: Slots, detectors: Bytes) -> tuple[Slots, Bytes]:
        """Drop clicks in the same slot or within the dead time of an earlier click of the same detector."""
        dead = int(self.settings.dead_time_ns * 1e-9 * self.pulses.pulse_rate_hz)
        order = np.argsort(slots, kind="stable")
        slots, detectors = slots[order], detectors[order]
        keep = np.zeros(len(slots), bool)
        for detector in range(4):
            mine = np.flatnonzero(detectors == detector)
            if len(mine):
                gaps = np.diff(slots[mine], prepend=self._last_click[detector])
                keep[mine] = gaps > dead
                self._last_click[detector] = slots[mine[-1]]
        return slots[keep], detectors[keep]
