"""Pulses in a photoplethysmogram: filtering, detection, quality of each pulse.

A pulse is where the slope sum function peaks (Zong, Heldt, Moody, Mark, Computers in Cardiology 2003: the rises of the
last 130 ms), against a threshold that follows the latest pulses. Its quality is its correlation with the mean of
earlier ones (Orphanidou et al., IEEE J Biomed Health Inform 19(3), 2015).

Light falls when blood comes: the input is the detector's counts, the pulse wave is their negative. Words stay below
2**30, so that nothing is allocated.
"""

from array import array

from ..fixed_point import isqrt

PULSES = 8  # remembered

_RATE_HZ = 50  # at least; what pulses are looked for at
_BASELINE_SHIFT = 5  # time constant of 32 samples, 0.6 s: a corner at 0.25 Hz
_SMOOTH_MS = 100
_SLOPE_MS = 130
_LEARN_MS = 4000  # thresholds come from the higher rise of each of two halves; one holds a pulse from 30 a minute up
_REFRACTORY_MS = 270
_LONGEST_MS = 2500  # without a pulse: learn again
_LEAST = 4  # counts; a lower rise is noise of the converter
_BEFORE_MS = 120
_SHAPE = 26  # samples of a pulse's shape, half a second
_SHAPE_UNIT = 127


class PulseFilter:
    """Turns counts into the pulse wave: `wave`, a ring of RING samples, `step` input samples each.

    The wave is free of what is slower than about 0.25 Hz (`level`, counts) and smoothed over 100 ms.
    """

    RING = 64

    def __init__(self, fs_hz):
        self.step = fs_hz // _RATE_HZ
        self.rate_hz = fs_hz // self.step
        self.wave = array("i", bytes(4 * self.RING))
        self._line = array("i", bytes(4 * max(1, self.rate_hz * _SMOOTH_MS // 1000)))
        self.clear()

    def clear(self):
        """Begin anew."""
        self._base = -1
        self._sum = 0
        for k in range(len(self._line)):
            self._line[k] = 0

    def add(self, counts, index):
        """Take the mean of `step` samples; returns the wave's sample number `index`."""
        if self._base < 0:
            self._base = counts << _BASELINE_SHIFT
        value = (self._base >> _BASELINE_SHIFT) - counts
        self._base -= value
        k = index % len(self._line)
        self._sum += value - self._line[k]
        self._line[k] = value
        value = self._sum // len(self._line)
        self.wave[index & 63] = value
        return value

    @property
    def level(self):
        """The steady part, counts."""
        return max(0, self._base) >> _BASELINE_SHIFT


class PulseShape:
    """How much a pulse resembles those before it."""

    def __init__(self, pulse_filter):
        self._wave = pulse_filter.wave
        self.before = _BEFORE_MS * pulse_filter.rate_hz // 1000
        self.behind = _SHAPE - self.before
        self._pulse = array("i", bytes(4 * _SHAPE))
        self._mean = array("i", bytes(4 * _SHAPE))
        self.clear()

    def clear(self):
        """Forget the earlier ones."""
        self._n = 0
        self._unlike = 0

    def likeness(self, at):
        """Correlation in percent, 0 to 100, of the pulse at wave sample `at`, of which `behind` more are in."""
        wave = self._wave
        pulse = self._pulse
        mean = self._mean
        first = at - self.before
        total = 0
        for k in range(_SHAPE):
            total += wave[(first + k) & 63]
        total //= _SHAPE
        size = 1
        for k in range(_SHAPE):
            size = max(size, abs(wave[(first + k) & 63] - total))
        power = mean_power = product = 0
        for k in range(_SHAPE):
            v = (wave[(first + k) & 63] - total) * _SHAPE_UNIT // size
            pulse[k] = v
            power += v * v
            m = mean[k] >> 4
            mean_power += m * m
            product += v * m
        percent = 0
        if self._n and product > 0:
            percent = min(100, 100 * product // max(1, isqrt(power) * isqrt(mean_power)))
        self._learn(percent)
        return percent

    def _learn(self, percent):
        self._unlike = 0 if percent >= 50 else self._unlike + 1
        if self._unlike == PULSES:
            self._n = 0
        if self._n and percent < 50 and self._n >= PULSES:
            return
        self._n += 1
        share = min(self._n, PULSES)
        for k in range(_SHAPE):
            v = (self._pulse[k] << 4) - self._mean[k]
            self._mean[k] = (self._pulse[k] << 4) if self._n == 1 else self._mean[k] + v // share


class PulseDetector:
    """Finds pulses in a wave; `step` returns the wave sample number of one that has ended, else -1."""

    def __init__(self, rate_hz):
        self._slope = max(2, rate_hz * _SLOPE_MS // 1000)
        self._half = rate_hz * _LEARN_MS // 2000
        self._refractory = rate_hz * _REFRACTORY_MS // 1000
        self._longest = rate_hz * _LONGEST_MS // 1000
        self._rises = array("i", bytes(4 * self._slope))
        self.clear(0)

    def clear(self, index):
        """Learn from wave sample `index` on."""
        for k in range(self._slope):
            self._rises[k] = 0
        self._last = None
        self._sum = 0
        self._learn(index)

    def _learn(self, index):
        self.learning = True
        self._due = index + self._half
        self._first = -1
        self._best = 0
        self._height = 0
        self._top = 0
        self._top_at = -1
        self._pulse_at = index
        self._interval = 0
        self._is_first = True

    def step(self, value, index):
        """Take wave sample number `index`."""
        rise = 0 if self._last is None else max(0, value - self._last)
        self._last = value
        k = index % self._slope
        self._sum += rise - self._rises[k]
        self._rises[k] = rise
        if self.learning:
            self._watch(index)
            return -1
        waited = index - self._pulse_at
        if self._top_at >= 0:
            if self._sum > self._top:
                self._top = self._sum
                self._top_at = index
            if 2 * self._sum < self._top or index - self._top_at > self._slope:
                return self._end()
        elif waited >= self._refractory and self._sum > self._threshold(waited):
            self._top = self._sum
            self._top_at = index
        elif waited > self._longest:
            self._learn(index)
        return -1

    def _watch(self, index):
        self._best = max(self._best, self._sum)
        if index < self._due:
            return
        self._due = index + self._half
        height = self._best if self._first < 0 else min(self._best, self._first)
        learnt = self._first >= 0 and height >= _LEAST
        self._first = self._best
        self._best = 0
        if learnt:
            self.learning = False
            self._height = height
            self._pulse_at = index - self._refractory

    def _threshold(self, waited):
        """Half of a usual rise; more while a dicrotic wave may come, a quarter once a pulse is overdue."""
        height = self._height
        interval = self._interval
        if 2 * waited < interval:
            height -= height >> 2
        elif interval and 2 * waited > 3 * interval:
            height >>= 2
        else:
            height >>= 1
        return max(_LEAST, height)

    def _end(self):
        at = self._top_at
        top = self._top
        self._top_at = -1
        interval = at - self._pulse_at
        if interval < self._refractory:
            return -1
        self._height += (min(top, 2 * self._height) - self._height) >> 3
        if self._is_first:
            self._is_first = False  # how long it took is unknown
        else:
            self._interval = interval if not self._interval else (7 * self._interval + interval) // 8
        self._pulse_at = at
        return at
