"""What changes slowly: a beam that wanders and a clock that runs away. One step a millisecond, seeded."""

from math import exp, pi, sqrt

import numpy as np
import numpy.typing as npt

from qepa_tools.bench.settings import BenchSettings

Floats = npt.NDArray[np.float64]
Slots = npt.NDArray[np.int64]

STEP_S = 1e-3


class Drift:
    """Pointing and clock error from slot 0 on, on a grid of `step_slots`; settings may change between calls."""

    def __init__(self, pulse_rate_hz: float, seed: int) -> None:
        self.step_slots = max(1, round(pulse_rate_hz * STEP_S))
        self.first = 0
        """Step of the first value of `fading`."""
        self.fading: Floats = np.ones(1)
        self._step_s = self.step_slots / pulse_rate_hz
        self._rng = np.random.Generator(np.random.Philox(key=seed))
        self._position = self._rng.standard_normal(2)
        self._walk_ppm = 0.0
        self._errors_ps: Floats = np.zeros(1)

    def reach(self, start_slot: int, stop_slot: int, settings: BenchSettings) -> None:
        """Have values for the slots [start_slot, stop_slot); what lies before is forgotten."""
        forget = start_slot // self.step_slots - self.first
        self.fading, self._errors_ps = self.fading[forget:], self._errors_ps[forget:]
        self.first += forget
        missing = stop_slot // self.step_slots + 2 - self.first - len(self.fading)
        if missing > 0:
            self._extend(missing, settings)

    def clock_error_ps(self, slots: Slots) -> Floats:
        """By how much the receiver's clock is ahead at `slots`, picoseconds."""
        if not self._errors_ps.any():
            return np.zeros(len(slots))
        steps = self.first + np.arange(len(self._errors_ps))
        error: Floats = np.interp(slots, steps * self.step_slots, self._errors_ps)
        return error

    def _extend(self, steps: int, settings: BenchSettings) -> None:
        normal = self._rng.standard_normal((steps, 3))
        self.fading = np.concatenate([self.fading, self._wander(normal[:, :2], settings)])
        walk = self._walk_ppm + np.cumsum(normal[:, 2]) * settings.clock_walk_ppb * 1e-3 * sqrt(self._step_s)
        self._walk_ppm = float(walk[-1])
        gained_ps = (settings.clock_offset_ppm + walk) * 1e-6 * self._step_s * 1e12
        self._errors_ps = np.concatenate([self._errors_ps, self._errors_ps[-1] + np.cumsum(gained_ps)])

    def _wander(self, normal: Floats, settings: BenchSettings) -> Floats:
        """Two Ornstein-Uhlenbeck processes of unit variance, and the power of a Gaussian beam at that distance.

        A beam of radius w (to 1/e^2) off a small aperture by r gives exp(-2 r^2 / w^2) of its power.
        """
        if not settings.pointing_sigma:
            return np.ones(len(normal))
        stay = exp(-2 * pi * settings.pointing_bandwidth_hz * self._step_s)
        kick = sqrt(1 - stay**2)
        path = np.empty_like(normal)
        for i, step in enumerate(normal):
            self._position = stay * self._position + kick * step
            path[i] = self._position
        fading: Floats = np.exp(-2 * settings.pointing_sigma**2 * np.sum(path**2, axis=1))
        return fading
