"""What the virtual bench is made of and what its transmitter was told to send."""

from dataclasses import dataclass, fields
from math import inf

import numpy as np
import numpy.typing as npt

Four = tuple[float, float, float, float]

_SHARES = (
    "channel_transmittance",
    "receiver_transmittance",
    "detector_efficiency",
    "afterpulse_probability",
    "intercept_fraction",
)
_MAY_BE_NEGATIVE = ("slot_offset", "clock_offset_ppm", "mismatch_ps")


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """Optics, detectors and clocks. Defaults: a few metres of air, silicon avalanche diodes, fair alignment.

    Raises ValueError, in one sentence, on what no bench can be.
    """

    channel_transmittance: float = 0.8
    receiver_transmittance: float = 0.55
    detector_efficiency: float = 0.5
    detector_balance: Four = (1.0, 1.0, 1.0, 1.0)
    """Efficiency of the detectors H, V, D, A as a multiple of `detector_efficiency`."""
    dark_counts_hz: float = 300.0
    """Of each of the four detectors."""
    background_hz: float = 1000.0
    """Stray light, all detectors together, after their efficiency."""
    gate_ns: float = 100.0
    """Only clicks in a window this wide around the expected arrival count; longer than a slot, all of it does."""
    dead_time_ns: float = 1200.0
    """After a click its detector is blind; light that arrives meanwhile does not prolong it."""
    afterpulse_probability: float = 0.006
    """That a click is followed by a false one which counts."""
    afterpulse_ns: float = 1000.0
    """Mean life of the trapped carriers, counted from the end of the dead time."""
    misalignment: float = 0.008
    """Probability that a photon goes to the wrong detector of the right basis."""
    receiver_key_basis_probability: float = 0.7
    """Splitting ratio of the passive basis choice."""
    jitter_ps: float = 350.0
    """Standard deviation of a photon's time tag: pulse width, avalanche and electronics."""
    slot_offset: int = 3
    """Slot number at the receiver minus slot number at the transmitter: cable and sync latency."""
    clock_offset_ppm: float = 0.0
    """By how much the receiver's own clock runs fast against the pulses; slots, counted by sync, do not feel it."""
    clock_walk_ppb: float = 0.0
    """Random walk of that offset: its standard deviation after one second."""
    pointing_sigma: float = 0.0
    """Wander of the beam in each direction, standard deviation, in radii of the beam (to 1/e^2)."""
    pointing_bandwidth_hz: float = 10.0
    """Corner frequency of the wander."""
    efficiency_window_ps: float = 0.0
    """Width (sigma) of the time response of a gated detector; 0: it answers alike in the whole gate."""
    mismatch_ps: float = 0.0
    """By how much the detectors V and A respond later than H and D."""
    intercept_fraction: float = 0.0
    """Share of pulses that an eavesdropper measures and sends on from the start."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies between 0 and 1")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in (*_MAY_BE_NEGATIVE, "detector_balance") and not 0 <= value < inf:
                raise ValueError(f"{field.name} is a number and not negative")
        efficiencies = [self.detector_efficiency * factor for factor in self.detector_balance]
        if len(efficiencies) != 4 or not all(0 <= efficiency <= 1 for efficiency in efficiencies):
            raise ValueError("detector_balance has four factors, and no detector's efficiency exceeds 1")
        if not 0 < self.receiver_key_basis_probability < 1 or not 0 <= self.misalignment <= 0.5:
            raise ValueError("a splitting ratio lies between 0 and 1, misalignment between 0 and 0.5")
        if not self.gate_ns or not self.afterpulse_ns or not self.pointing_bandwidth_hz:
            raise ValueError("gate_ns, afterpulse_ns and pointing_bandwidth_hz are more than 0")
        if not abs(self.slot_offset) <= 16 or not abs(self.clock_offset_ppm) <= 1000 or not abs(self.mismatch_ps) < inf:
            raise ValueError("slot_offset is at most 16 slots, clock_offset_ppm at most 1000")

    @property
    def receiver_efficiency(self) -> float:
        """From the receiver's aperture to a click in its best detector."""
        return self.receiver_transmittance * self.detector_efficiency * max(self.detector_balance)


def parse_setting(name: str, text: str) -> float | int | Four:
    """Return the value of setting `name` written as `text`. Raises ValueError on an unknown name or no number."""
    defaults = {field.name: field.default for field in fields(BenchSettings)}
    if name not in defaults:
        raise ValueError(f"the bench has no setting {name}")
    try:
        if name == "detector_balance":
            h, v, d, a = (float(x) for x in text.split(","))
            return h, v, d, a
        return int(text) if isinstance(defaults[name], int) else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no value for {name}") from None


@dataclass(frozen=True, slots=True)
class PulseSettings:
    """What the transmitter was told to send."""

    pulse_rate_hz: float = 1e6
    intensities: tuple[float, float, float] = (0.5, 0.2, 0.002)
    probabilities: tuple[float, float, float] = (0.4, 0.3, 0.3)
    key_basis_probability: float = 0.7

    def state_table(self) -> npt.NDArray[np.uint8]:
        """Return 65,536 state nibbles (bit 0 value, bit 1 basis, bits 2-3 intensity), each as often as it is sent."""
        weights = []
        for intensity, p_intensity in enumerate(self.probabilities):
            for basis, p_basis in enumerate((self.key_basis_probability, 1 - self.key_basis_probability)):
                weights += [(intensity << 2 | basis << 1 | value, p_intensity * p_basis / 2) for value in (0, 1)]
        edges = np.rint(np.cumsum([p for _, p in weights]) * 65536).astype(int)
        return np.repeat(np.array([s for s, _ in weights], np.uint8), np.diff(edges, prepend=0))
