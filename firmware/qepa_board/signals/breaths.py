"""Breaths counted in the latest 32 s of a slow signal.

A turn is a change of direction by more than 0.3 of the upper quartile of swings, after "count-adv" of Schaefer and
Kratky (Ann Biomed Eng 36(3), 2008). Quality: regularity of breath durations, the share of the window that proper
breaths fill, and their likeness, after Charlton et al. (Biomed Signal Process Control 65:102339, 2021).

A rate is the mean over the window: it needs 20 s of signal, 32 s below 9 breaths a minute, and lags by about 16 s.
"""

from array import array

from qepa_wire.measures import POOR_SIGNAL, SETTLING, UNKNOWN

from ..fixed_point import isqrt

WINDOW_S = 32
SETTLE_S = 20
RATE_HZ = 8  # at least; what the window is filled with
APNOEA_S = 20  # without a breath

_SMOOTH_MS = 700
_BASELINE_SHIFT = 5  # time constant of 32 samples, 4 s
_TURNS = 128
_BREATHS_NEEDED = 3
_FASTEST_X10 = 900  # what follows faster is no breath
_POINTS = 16  # of a breath
_UNIT = 63
_ALIKE_PERCENT = 80
_FLAT_SHARE = 4  # of the usual breath; less is no breath
_HEART_X10 = 400  # what moves a chest that stands still, faster than this, is its heart
_LIMIT = (1 << 23) - 1
_turns = array("i", bytes(8 * _TURNS))  # of the window that is being assessed: one at a time


class BreathWindow:
    """The latest 32 s of a signal with breaths in it, `fs_hz / step` samples a second."""

    def __init__(self, fs_hz, step, baseline_shift=_BASELINE_SHIFT):
        self._fs_hz = fs_hz
        self._shift = baseline_shift
        self._step = step
        self._size = WINDOW_S * fs_hz // step
        self._ring = array("i", bytes(4 * self._size))
        width = max(1, _SMOOTH_MS * fs_hz // (1000 * step))
        self._line1 = array("i", bytes(4 * width))
        self._line2 = array("i", bytes(4 * width))
        self._width = width
        self._breath = array("i", bytes(4 * _POINTS))
        self._mean = array("i", bytes(4 * _POINTS))
        self._high_first = False
        self._usual = 0  # height of the latest breaths that gave a rate, 0 until there were some
        self.clear()

    def clear(self):
        """Forget everything."""
        self._n = 0
        self._usual = 0
        self._base = 0
        self._sum1 = 0
        self._sum2 = 0
        for k in range(self._width):
            self._line1[k] = 0
            self._line2[k] = 0

    def add(self, value):
        """Take the next sample (at most 24 bits)."""
        n = self._n
        value = -_LIMIT if value < -_LIMIT else _LIMIT if value > _LIMIT else value
        if n == 0:
            self._base = value << self._shift
        value -= self._base >> self._shift
        self._base += value
        width = self._width
        k = n % width
        self._sum1 += value - self._line1[k]
        self._line1[k] = value
        value = self._sum1 // width
        self._sum2 += value - self._line2[k]
        self._line2[k] = value
        self._ring[n % self._size] = self._sum2 // width
        self._n = n + 1

    def assess(self):
        """Count the breaths in the window.

        Returns (quality_percent, rate): the rate in tenths of a breath a minute, or UNKNOWN and the reason instead of
        a quality.
        """
        if self._n * self._step < SETTLE_S * self._fs_hz:
            return SETTLING, UNKNOWN
        swings = self._turn(max(1, self._mean_size() >> 2))
        if swings < 2 * _BREATHS_NEEDED - 1:
            return self._too_few(), UNKNOWN
        turns = _turns
        usual = sorted([abs(turns[2 * k + 2] - turns[2 * k]) for k in range(swings - 1)])[3 * (swings - 1) // 4]
        found = self._turn(max(1, 3 * usual // 10))
        tops = [turns[2 * k + 1] for k in range(0 if self._high_first else 1, found, 2)]
        if len(tops) < _BREATHS_NEEDED:
            return self._too_few(), UNKNOWN
        if self._likeness(tops) < _ALIKE_PERCENT:
            return POOR_SIGNAL, UNKNOWN
        quality, rate = self._rate([tops[k + 1] - tops[k] for k in range(len(tops) - 1)])
        # Neither noise nor heart beats may become the usual breath of a chest that stands still.
        if rate != UNKNOWN and (rate < _HEART_X10 or not self.is_flat()):
            self._usual = usual
        return quality, rate

    def _too_few(self):
        return SETTLING if self._n < self._size else POOR_SIGNAL

    def is_flat(self):
        """Whether the signal moved less than a quarter of a usual breath for 20 s; None while that cannot be told."""
        span = APNOEA_S * self._fs_hz // self._step
        if not self._usual or self._n < span:
            return None
        high = low = self._ring[(self._n - 1) % self._size]
        for i in range(self._n - span, self._n):
            value = self._ring[i % self._size]
            high = max(high, value)
            low = min(low, value)
        return (high - low) * _FLAT_SHARE < self._usual

    def _mean_size(self):
        """Mean absolute value of the window, which the filter centres on zero."""
        total = 0
        count = min(self._n, self._size)
        for k in range(count):
            total += abs(self._ring[k])
        return total // count

    def _turn(self, least):
        """Note the turns, (value, sample) by turns high and low, that `least` of movement confirms; how many."""
        ring = self._ring
        size = self._size
        turns = _turns
        first = max(0, self._n - size)
        high = low = ring[first % size]
        high_at = low_at = first
        falling = None
        found = 0
        for i in range(first, self._n):
            value = ring[i % size]
            if value > high:
                high = value
                high_at = i
            if value < low:
                low = value
                low_at = i
            if falling is not True and high - value > least:
                turn = high
                at = high_at
                falling = True
            elif falling is not False and value - low > least:
                turn = low
                at = low_at
                falling = False
            else:
                continue
            high = low = value
            high_at = low_at = i
            if at == first:
                continue  # where the window begins is no turn
            if found == 0:
                self._high_first = falling
            turns[2 * found] = turn
            turns[2 * found + 1] = at
            found += 1
            if found == _TURNS:
                break
        return found

    def _likeness(self, tops):
        """Mean correlation, in percent, of the breaths between `tops` with their mean."""
        mean = self._mean
        for j in range(_POINTS):
            mean[j] = 0
        for k in range(len(tops) - 1):
            self._sample(tops[k], tops[k + 1])
            for j in range(_POINTS):
                mean[j] += self._breath[j]
        mean_size = isqrt(sum([v * v for v in mean]))
        total = 0
        for k in range(len(tops) - 1):
            self._sample(tops[k], tops[k + 1])
            product = size = 0
            for j in range(_POINTS):
                size += self._breath[j] * self._breath[j]
                product += self._breath[j] * mean[j]
            total += 100 * product // max(1, isqrt(size) * mean_size)
        return total // (len(tops) - 1)

    def _sample(self, first, end):
        """The breath from sample `first` to `end` at _POINTS places, about zero, its largest word _UNIT."""
        breath = self._breath
        total = 0
        for j in range(_POINTS):
            breath[j] = self._ring[(first + (end - first) * j // _POINTS) % self._size]
            total += breath[j]
        total //= _POINTS
        size = 1
        for j in range(_POINTS):
            breath[j] -= total
            size = max(size, abs(breath[j]))
        for j in range(_POINTS):
            breath[j] = breath[j] * _UNIT // size

    def _rate(self, durations):
        """Mean rate and quality of breaths that took `durations` samples each."""
        n = len(durations)
        total = sum(durations)
        median = sorted(durations)[n // 2]
        proper = [d for d in durations if median <= 2 * d <= 3 * median]
        spread = isqrt(10000 * (n * sum([d * d for d in durations]) - total * total)) // total
        window = min(self._n, self._size)
        # Of the window, less the breath that its ends cut.
        if spread > 25 or 100 * (n - len(proper)) > 15 * n or 100 * sum(proper) < 60 * (window - median):
            return POOR_SIGNAL, UNKNOWN
        rate = (600 * self._fs_hz * n + self._step * total // 2) // (self._step * total)
        return (100 - spread, rate) if rate <= _FASTEST_X10 else (POOR_SIGNAL, UNKNOWN)
