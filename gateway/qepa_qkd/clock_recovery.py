"""Clock recovery: from time tags on the receiver's own clock to the period and phase of the transmitter's pulses.

Sans-IO; times are int64 picoseconds, a frequency error is at most `MOST_PPM`. Two ways to find the clock:

- `acquire` finds it in the clicks alone: the periodogram |sum exp(2 pi i f t)|^2 / n over n tags is exponentially
  distributed with mean 1 for noise (Scargle, Astrophys. J. 263, 835, 1982) and about n at the frequency of the pulses.
  It begins with few tags, so that the peak is broad and the search short, and doubles them until the error of the
  frequency turns the phase by less than the noise does.
- `from_sync` takes it from sync pulses, every so many slots; one that is missing shifts nothing.

`PhaseLock` then follows both through drift: an alpha-beta tracker, a second-order loop whose gains follow Benedict and
Bordner (IRE Trans. AC-7, 27, 1962).
"""

from dataclasses import dataclass
from math import ceil, log, pi
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.errors import NoKey
from qepa_qkd.serial_protocol import Slots

Floats = npt.NDArray[np.float64]

MOST_PPM: Final = 200.0
FIRST_TAGS: Final = 256
FALSE_LOCK: Final = 1e-9
"""Probability that noise passes for a clock."""
_OVERSAMPLING: Final = 4
_MOST_TRIALS: Final = 1 << 16
_SHARPENINGS: Final = 3
_NEAR: Final = 5.0
_GAIN: Final = 0.5
_DRIFT_GAIN: Final = _GAIN**2 / (2 - _GAIN)
PERIOD_NOISE: Final = (2 * _DRIFT_GAIN**2 / (_GAIN * (4 - 2 * _GAIN - _DRIFT_GAIN))) ** 0.5
"""Standard deviation of what the tracker gains or loses in a step, over that of a step's phase (Kalata 1984)."""


@dataclass(frozen=True, slots=True)
class SlotClock:
    """The middle of slot `slot` is at `at_ps`, and slots follow each other every `period_ps`."""

    at_ps: int
    slot: int
    period_ps: float

    def slots(self, times_ps: Slots) -> tuple[Slots, Floats]:
        """Return the slot of each time, and by how many picoseconds it lies after the middle."""
        # Differences are exact where the times themselves would not fit a float.
        elapsed = times_ps - self.at_ps
        counted = np.rint(elapsed / self.period_ps)
        return self.slot + counted.astype(np.int64), elapsed - counted * self.period_ps

    def moved(self, slots: int) -> "SlotClock":
        """The same clock, told from another slot."""
        return SlotClock(self.at_ps + round(slots * self.period_ps), self.slot + slots, self.period_ps)


def acquire(times_ps: Slots, period_ps: float, most_ppm: float = MOST_PPM) -> SlotClock:
    """Find the clock in clicks; its slot 0 is the one of the first tag. Raises NoKey when they show none.

    All of `times_ps` should have light; noise among it costs significance, not accuracy.
    """
    frequency, reach = 1 / period_ps, most_ppm * 1e-6 / period_ps
    elapsed = (times_ps - times_ps[:1]).astype(np.float64)
    count, sure = min(FIRST_TAGS, len(elapsed)), False
    while count >= FIRST_TAGS // 2:
        span_ps = elapsed[count - 1] or 1.0
        trials = 2 * ceil(reach * span_ps * _OVERSAMPLING) + 1
        if trials > _MOST_TRIALS:
            raise NoKey("too few detections to find the clock: sync pulses are needed")
        found = np.linspace(frequency - reach, frequency + reach, trials)
        power = _periodogram(elapsed[:count], found)
        best = int(np.argmax(power))
        if not sure and power[best] > log(trials / FALSE_LOCK):
            sure = True
        if sure:
            frequency, reach = float(found[best]), 1.5 / (_OVERSAMPLING * span_ps)
        if count == len(elapsed):
            break
        count = min(2 * count, len(elapsed))
    if not sure:
        raise NoKey("the detections show no clock")
    return _settle(times_ps, elapsed, 1 / frequency)


def _periodogram(elapsed_ps: Floats, frequencies: Floats) -> Floats:
    power = np.empty(len(frequencies))
    part = max(1, (1 << 20) // len(elapsed_ps))
    for start in range(0, len(frequencies), part):
        turns = np.outer(frequencies[start : start + part], elapsed_ps)
        power[start : start + part] = np.abs(np.exp(2j * pi * (turns - np.rint(turns))).sum(axis=1)) ** 2
    return power / len(elapsed_ps)


def _settle(times_ps: Slots, elapsed_ps: Floats, period_ps: float) -> SlotClock:
    """Fit period and phase to all tags: the mean phase of a few stretches, and the line through them."""
    stretches = np.array_split(elapsed_ps, 16)
    middles = np.array([stretch.mean() for stretch in stretches])
    angles = np.array([np.angle(np.exp(2j * pi * (stretch / period_ps % 1)).sum()) for stretch in stretches])
    slope, start = np.polyfit(middles, np.unwrap(angles) / (2 * pi) * period_ps, 1)
    period_ps /= 1 - slope
    phase_ps = start - round(start / period_ps) * period_ps
    clock = SlotClock(int(times_ps[0]) + round(phase_ps), 0, period_ps)
    for _ in range(_SHARPENINGS):
        clock = _sharpened(clock, times_ps)
    return clock


def _sharpened(clock: SlotClock, times_ps: Slots) -> SlotClock:
    """Fit the clock to the tags close to it: noise, spread over the slot, makes a fit to all of them blunt."""
    slots, errors = clock.slots(times_ps)
    near = np.abs(errors) <= _NEAR * np.median(np.abs(errors))
    slope, start = np.polyfit(slots[near] - clock.slot, errors[near], 1)
    return SlotClock(clock.at_ps + round(start), clock.slot, clock.period_ps + float(slope))


def from_sync(sync_ps: Slots, period_ps: float, every: int, most_ppm: float = MOST_PPM) -> SlotClock:
    """Find the clock in sync pulses, of which the first is slot 0. Raises NoKey when they are none of `every` slots."""
    if len(sync_ps) < 2:
        raise NoKey("too few sync pulses")
    counted = np.rint(np.diff(sync_ps) / (every * period_ps))
    slots = np.concatenate([[0.0], np.cumsum(counted)]) * every
    if counted.min() < 1:
        raise NoKey("sync pulses do not keep their distance")
    slope, start = np.polyfit(slots, (sync_ps - sync_ps[0]).astype(np.float64), 1)
    if abs(slope / period_ps - 1) > most_ppm * 1e-6:
        raise NoKey(f"sync pulses come {1e6 * (slope / period_ps - 1):.0f} ppm from where they should")
    return SlotClock(int(sync_ps[0]) + round(start), 0, float(slope))


class PhaseLock:
    """Follows a clock through drift; `clock` is the newest estimate."""

    def __init__(self, clock: SlotClock) -> None:
        self.clock = clock

    def follow(self, times_ps: Slots, window_ps: float) -> int:
        """Correct the clock by tags that should lie in the middle of slots; return how many counted.

        Those further off than half the window do not. The tags of one call should span less time than the drift needs
        for a tenth of the window.
        """
        slots, errors = self.clock.slots(times_ps)
        near = np.abs(errors) <= window_ps / 2
        count = int(np.count_nonzero(near))
        if not count:
            return 0
        middle = round(float(slots[near].mean()))
        elapsed = middle - self.clock.slot
        error = float(errors[near].mean())
        predicted = self.clock.moved(elapsed)
        period_ps = predicted.period_ps + (_DRIFT_GAIN * error / elapsed if elapsed > 0 else 0.0)
        self.clock = SlotClock(predicted.at_ps + round(_GAIN * error), predicted.slot, period_ps)
        return count
