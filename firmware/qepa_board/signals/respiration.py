"""Breaths counted in 32 s of a slow signal: thoracic impedance, or what breathing does to pulses and QRS complexes.

Counting: a turn is a change of direction by more than 0.3 of the upper quartile of swings, after "count-adv" of
Schaefer and Kratky (Ann Biomed Eng 36(3), 2008). Quality: regularity of breath durations and the share of the window
that proper breaths fill, after Charlton et al. (Biomed Signal Process Control 65:102339, 2021). Derived rates:
three modulations that must agree, the smart fusion of Karlen et al. (IEEE Trans Biomed Eng 60(7), 2013).

A rate is the mean over the window: it settles within 20 s of signal and lags a change by about 16 s.
"""

from array import array

from qepa_kernels import ring_span
from qepa_wire.measures import (
    NO_DATA,
    POOR_SIGNAL,
    RESP_RATE,
    RESP_RATE_DERIVED,
    SETTLING,
    UNKNOWN,
)

from ..fixed_point import isqrt

WINDOW_S = 32
SETTLE_S = 20
APNOEA_S = 20  # without a breath

_RATE_HZ = 8  # at least; what the window is filled with
_SMOOTH_MS = 700
_BASELINE_SHIFT = 5  # time constant of 32 samples, 4 s
_TURNS = 128
_BREATHS_NEEDED = 3
_FLAT_SHARE = 4  # of the usual breath; less is no breath
_LIMIT = (1 << 23) - 1
_LONGEST_BEAT_S = 3
_BEAT_BASELINE_SHIFT = 4  # 2 s: what beats carry wanders more
_ALONE_PERCENT = 85  # regularity that a height or a distance needs when nothing confirms it
_AGREE_X10 = 30  # modulations within 3 breaths a minute tell the same


class BreathWindow:
    """The latest 32 s of a signal with breaths in it, `fs_hz / step` samples a second."""

    def __init__(self, fs_hz, step, baseline_shift=_BASELINE_SHIFT):
        self._fs_hz = fs_hz
        self._shift = baseline_shift
        self._step = step
        self._size = WINDOW_S * fs_hz // step
        self._ring = array("i", bytes(4 * self._size))
        self._turns = array("i", bytes(8 * _TURNS))
        width = max(1, _SMOOTH_MS * fs_hz // (1000 * step))
        self._line1 = array("i", bytes(4 * width))
        self._line2 = array("i", bytes(4 * width))
        self._width = width
        self._high_first = False
        self.usual = 0  # height of a usual breath in the window, 0 until it is known
        self.clear()

    def clear(self):
        """Forget everything."""
        self._n = 0
        self.usual = 0
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
            return POOR_SIGNAL, UNKNOWN
        turns = self._turns
        usual = sorted([abs(turns[2 * k + 2] - turns[2 * k]) for k in range(swings - 1)])[3 * (swings - 1) // 4]
        found = self._turn(max(1, 3 * usual // 10))
        tops = [turns[2 * k + 1] for k in range(0 if self._high_first else 1, found, 2)]
        if len(tops) < _BREATHS_NEEDED:
            return POOR_SIGNAL, UNKNOWN
        self.usual = usual
        return self._rate([tops[k + 1] - tops[k] for k in range(len(tops) - 1)])

    def is_flat(self, seconds):
        """Whether the signal moved less than a quarter of its usual breath over the latest seconds."""
        span = seconds * self._fs_hz // self._step
        if not self.usual or self._n < span:
            return False
        high = low = self._ring[(self._n - 1) % self._size]
        for i in range(self._n - span, self._n):
            value = self._ring[i % self._size]
            high = max(high, value)
            low = min(low, value)
        return (high - low) * _FLAT_SHARE < self.usual

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
        turns = self._turns
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

    def _rate(self, durations):
        """Mean rate and quality of breaths that took `durations` samples each."""
        n = len(durations)
        total = sum(durations)
        median = sorted(durations)[n // 2]
        proper = [d for d in durations if median <= 2 * d <= 3 * median]
        spread = isqrt(10000 * (n * sum([d * d for d in durations]) - total * total)) // total
        window = min(self._n, self._size)
        if spread > 25 or 100 * (n - len(proper)) > 15 * n or 100 * sum(proper) < 60 * window:
            return POOR_SIGNAL, UNKNOWN
        return 100 - spread, (600 * self._fs_hz * n + self._step * total // 2) // (self._step * total)


class ThoracicRespiration:
    """Respiration from an impedance channel of `fs_hz` samples a second, 24 bits."""

    def __init__(self, fs_hz):
        self._step = fs_hz // _RATE_HZ
        self._window = BreathWindow(fs_hz, self._step)
        self._sum = 0
        self._count = 0
        self._reason = NO_DATA

    def push(self, resp, n):
        """Take resp[0:n]."""
        self._reason = 0
        total = self._sum
        count = self._count
        for k in range(n):
            total += resp[k]
            count += 1
            if count == self._step:
                self._window.add(total // count)
                total = count = 0
        self._sum = total
        self._count = count

    def gap(self, n):
        """n samples were lost: the breaths before them are not joined to those behind."""
        if n:
            self.fault(SETTLING)

    def fault(self, reason):
        """The sensor gives nothing, for one of the reasons of qepa_wire.measures; lasts until the next push."""
        self._window.clear()
        self._sum = 0
        self._count = 0
        self._reason = reason

    def measures(self, out):
        """Append (RESP_RATE, quality, value in tenths of a breath a minute)."""
        quality, value = (self._reason, UNKNOWN) if self._reason else self._window.assess()
        out.append((RESP_RATE, quality, value))

    def apnoea(self):
        """Whether the chest has stood still for 20 s, after breaths were seen, electrodes on and no sample lost."""
        return self._reason == 0 and self._window.is_flat(APNOEA_S)


class DerivedRespiration:
    """Respiration from what breathing does to heart beats: their level, their height, their distance.

    Times are sample numbers at `fs_hz`. The level (the mean light of a pulse) carries most and is believed unless the
    other two agree on something else; without it, those two have to agree, or one of them to be very regular.
    """

    def __init__(self, fs_hz):
        self._fs_hz = fs_hz
        self._step = fs_hz // _RATE_HZ
        self._windows = [BreathWindow(fs_hz, self._step, _BEAT_BASELINE_SHIFT) for _ in range(3)]
        self._before = array("i", (0, 0, 0))
        self._now = array("i", (0, 0, 0))
        self.fault(NO_DATA)

    def fault(self, reason):
        """The sensor gives nothing, for one of the reasons of qepa_wire.measures; lasts until the next beat."""
        self._reason = reason
        self._forget()

    def _forget(self):
        for window in self._windows:
            window.clear()
        self._at = -1
        self._has_interval = False
        self._has_level = False

    def gap(self, n):
        """n samples were lost: the breaths before them are not joined to those behind."""
        if n:
            self.fault(SETTLING)

    def beat(self, at, height, level=None):
        """Take the beat at sample `at`: height of its pulse or QRS complex and level, at most 20 bits each."""
        self._reason = 0
        interval = at - self._at
        if self._at >= 0 and interval <= 0:
            return
        if self._at < 0 or interval > _LONGEST_BEAT_S * self._fs_hz:
            self._forget()
        else:
            now = self._now
            now[0] = height << 3
            now[1] = interval << 3
            if level is not None:
                self._has_level = True
                now[2] = level << 3
            if self._has_interval:
                self._join(at, interval)
            self._has_interval = True
            for k in range(3):
                self._before[k] = now[k]
        self._at = at

    def _join(self, at, interval):
        """Draw lines from the last beat to this one, for the windows want samples at equal distances."""
        before = self._before
        now = self._now
        tick = self._at - self._at % self._step + self._step
        while tick <= at:
            part = ((tick - self._at) << 8) // interval
            for k in range(3 if self._has_level else 2):
                self._windows[k].add(before[k] + ((now[k] - before[k] >> 4) * part >> 4))
            tick += self._step

    def measures(self, out):
        """Append (RESP_RATE_DERIVED, quality, value in tenths of a breath a minute)."""
        quality, value = (self._reason, UNKNOWN) if self._reason else self._fuse()
        out.append((RESP_RATE_DERIVED, quality, value))

    def _fuse(self):
        quality, value = self._without_level()
        if quality != SETTLING and self._has_level:
            level_quality, level = self._windows[2].assess()
            if level != UNKNOWN:
                if self._agreed and abs(level - value) > _AGREE_X10:
                    return POOR_SIGNAL, UNKNOWN
                return level_quality, level
        return quality, value

    def _without_level(self):
        quality, height = self._windows[0].assess()
        other_quality, interval = self._windows[1].assess()
        self._agreed = False
        if UNKNOWN not in (height, interval):
            if abs(height - interval) > _AGREE_X10:
                return POOR_SIGNAL, UNKNOWN
            self._agreed = True
            return min(quality, other_quality), (height + interval) >> 1
        if interval != UNKNOWN:
            quality = other_quality
            height = interval
        if height != UNKNOWN and quality < _ALONE_PERCENT:
            return POOR_SIGNAL, UNKNOWN
        return quality, height


def qrs_height(ecg_filter, r_index):
    """Height of the QRS complex at sample `r_index`, 50 ms to either side, whichever way it points."""
    reach = ecg_filter.fs_hz // 20
    return ring_span(ecg_filter.clean, r_index + ecg_filter.clean_delay - reach, 2 * reach + 1)
