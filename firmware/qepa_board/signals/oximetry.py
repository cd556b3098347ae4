"""Pulse rate, perfusion and oxygen saturation from red and infrared light.

Ratio of ratios: R = (AC/DC of red) / (AC/DC of infrared), with the curve of textbooks, SpO2 = 110 - 25 R (Webster,
Design of Pulse Oximeters, 1997). It is calibrated for no sensor and no skin: the value is for trends, "uncalibrated"
wherever it is shown. AC red / AC infrared is the slope of the regression of red on infrared over a pulse, which noise
moves less than peaks do.

Values settle about 8 s after light comes back or samples were lost.
"""

from array import array

from qepa_wire.measures import (
    LEAD_OFF,
    MOTION,
    NO_DATA,
    PERFUSION,
    POOR_SIGNAL,
    PULSE_RATE,
    SETTLING,
    SPO2,
    UNKNOWN,
)

from .ppg import PULSES, PulseDetector, PulseFilter, PulseShape
from .quality import HeartRate

LEAST_QUALITY = 90  # percent likeness, mean of the latest pulses
LEAST_LIGHT = 2000  # counts of infrared: less comes back from no finger
RAIL = (1 << 18) - 1

_PULSES_NEEDED = 5
_WIDTH = 1023  # a pulse's wave is scaled to this for the regression, so that its sums stay small ints
_RATIO_ONE = 1024
_RATIO_LOW = 300  # 0.29: beyond what blood does
_RATIO_HIGH = 2250  # 2.2: 55 percent
_SPREAD = 5  # ratios of half of the pulses within a fifth of the middle one
_AFTER_MOTION_S = 4  # until pulses from before are outnumbered


class Oximeter:
    """Takes red and infrared counts of one sensor, `fs_hz` samples a second, 50 to 400.

    Set `moving` while the patient moves too much for optics; nothing is reported then and 4 s after.

    `pulses` counts pulses since the start; of the latest PULSES of them `pulse_at` (input sample number of the rise
    that ends it), `pulse_height` and `pulse_level` (mean light) are kept, in counts, at position number % PULSES.
    """

    def __init__(self, fs_hz):
        if not 50 <= fs_hz <= 400:
            raise ValueError("fs_hz must be 50 to 400")
        self._fs_hz = fs_hz
        self.moving = False
        self.pulses = 0
        self.pulse_at = array("i", bytes(4 * PULSES))
        self.pulse_height = array("i", bytes(4 * PULSES))
        self.pulse_level = array("i", bytes(4 * PULSES))
        self._infrared = PulseFilter(fs_hz)
        self._red = PulseFilter(fs_hz)
        self._detector = PulseDetector(self._infrared.rate_hz)
        self._shape = PulseShape(self._infrared)
        self._rate = HeartRate(fs_hz)
        self._likeness = array("i", bytes(4 * PULSES))
        self._ratios = array("i", bytes(4 * PULSES))
        self._index = 0  # wave samples since the start
        self._break(NO_DATA)

    def _break(self, reason):
        self._reason = reason
        self._count = 0
        self._sum_infrared = 0
        self._sum_red = 0
        self._railed = False
        self._moved_at = -(1 << 20)
        self._fresh = 0  # pulses since the break
        self._pending = -1
        self._shift = 0
        self._infrared.clear()
        self._red.clear()
        self._shape.clear()
        self._detector.clear(self._index)
        self._rate.lead_on(self._index * self._infrared.step)
        self._open_pulse()

    def _open_pulse(self):
        self._high = -RAIL
        self._low = RAIL
        self._light = 0
        self._samples = 0
        self._n = 0
        self._sx = 0
        self._sy = 0
        self._sxx = 0
        self._sxy = 0

    def push(self, red, infrared, n):
        """Take red[0:n] and infrared[0:n]; without a red LED give infrared twice and leave SPO2 out."""
        self._reason = 0
        step = self._infrared.step
        count = self._count
        sum_infrared = self._sum_infrared
        sum_red = self._sum_red
        for k in range(n):
            v = infrared[k]
            if v >= RAIL:
                self._railed = True
            sum_infrared += v
            sum_red += red[k]
            count += 1
            if count == step:
                self._step(sum_infrared // step, sum_red // step)
                count = sum_infrared = sum_red = 0
        self._count = count
        self._sum_infrared = sum_infrared
        self._sum_red = sum_red
        if self.moving:
            self._moved_at = self._index

    def gap(self, n):
        """n samples were lost: pulses before them are not joined to those behind."""
        if n:
            self._index += n // self._infrared.step
            self._break(SETTLING)

    def fault(self, reason):
        """The sensor gives nothing, for one of the reasons of qepa_wire.measures; lasts until the next push."""
        self._break(reason)

    def _step(self, infrared, red):
        index = self._index
        wave = self._infrared.add(infrared, index)
        red_wave = self._red.add(red, index)
        self._light += infrared
        self._samples += 1
        self._high = max(self._high, wave)
        self._low = min(self._low, wave)
        self._regress(wave >> self._shift, red_wave >> self._shift)
        if self._pending >= 0 and index >= self._pending + self._shape.behind:
            self._judge()
        at = self._detector.step(wave, index)
        self._index = index + 1
        if at >= 0:
            if self._pending >= 0:
                self._judge()
            self._pulse(at)

    def _regress(self, x, y):
        if -2 * _WIDTH < x < 2 * _WIDTH and -2 * _WIDTH < y < 2 * _WIDTH and self._n < 200:
            self._n += 1
            self._sx += x
            self._sy += y
            self._sxx += x * x
            self._sxy += x * y

    def _pulse(self, at):
        """A pulse begins at wave sample `at`; what was gathered since the last belongs to that one."""
        k = self.pulses % PULSES
        height = self._high - self._low
        self.pulse_at[k] = at * self._infrared.step
        self.pulse_height[k] = height
        self.pulse_level[k] = self._light // max(1, self._samples)
        self._ratios[k] = self._ratio()
        self._likeness[k] = 0
        self._rate.beat(at * self._infrared.step)
        self.pulses += 1
        self._fresh += 1
        self._pending = at
        self._shift = 0
        while height >> self._shift > _WIDTH:
            self._shift += 1
        self._open_pulse()

    def _judge(self):
        self._likeness[(self.pulses - 1) % PULSES] = self._shape.likeness(self._pending)
        self._pending = -1

    def _ratio(self):
        """R of the pulse gathered, in 1024ths, 0 for none. Two decimals are lost before sums, so that none is big."""
        n = self._n
        if n < 8:
            return 0
        x = self._sx // n
        y = self._sy // n
        spread = self._sxx - n * x * x
        common = self._sxy - n * x * y
        level = self._red.level >> 4
        if spread <= 0 or common <= 0 or level == 0:
            return 0
        while spread >= 1 << 18 or common >= 1 << 18:
            spread >>= 1
            common >>= 1
        if spread < 256:
            return 0
        slope = common * _RATIO_ONE // spread
        if slope >= 16 * _RATIO_ONE:
            return 0
        return slope * (self._infrared.level >> 4) // level

    def quality(self):
        """Mean likeness of the latest pulses to each other, percent; 0 while there are fewer than two."""
        unjudged = 1 if self._pending >= 0 else 0
        last = self.pulses - unjudged
        # The first after a break had nothing to be like.
        judged = min(PULSES, self._fresh - 1) - unjudged
        if judged < 1:
            return 0
        total = 0
        for k in range(last - judged, last):
            total += self._likeness[k % PULSES]
        return total // judged

    def _why_not(self):
        """The reason for which nothing can be told, or 0."""
        if self._reason:
            return self._reason
        if self._infrared.level < LEAST_LIGHT:
            return LEAD_OFF
        if self.moving or self._index - self._moved_at < _AFTER_MOTION_S * self._infrared.rate_hz:
            return MOTION
        if self._railed:
            self._railed = False
            return POOR_SIGNAL
        if self._fresh < _PULSES_NEEDED or self._detector.learning:
            return SETTLING
        return 0

    def measures(self, out):
        """Append pulse rate, perfusion and oxygen saturation; to be called about once a second."""
        quality = self.quality()
        now = self._index * self._infrared.step
        reason = self._why_not()
        rate = None if reason else self._rate.bpm_x10(now)
        if not reason and (rate is None or quality < LEAST_QUALITY):
            reason = POOR_SIGNAL
        if reason:
            for code in (PULSE_RATE, PERFUSION, SPO2):
                out.append((code, reason, UNKNOWN))
            return
        out.append((PULSE_RATE, quality, (rate + 5) // 10))
        heights = self._latest(self.pulse_height)
        levels = self._latest(self.pulse_level)
        middle = len(heights) // 2
        out.append((PERFUSION, quality, min(3000, 10000 * heights[middle] // max(1, levels[middle]))))
        out.append(self._saturation(quality))

    def _latest(self, ring):
        """The latest values of a ring that belong to whole pulses since the last break, sorted."""
        n = min(PULSES, self._fresh - 1)
        return sorted([ring[k % PULSES] for k in range(self.pulses - n, self.pulses)])

    def _saturation(self, quality):
        ratios = self._latest(self._ratios)
        n = len(ratios)
        ratio = ratios[n // 2]
        if not _RATIO_LOW <= ratio <= _RATIO_HIGH or (ratios[3 * n // 4] - ratios[n // 4]) * _SPREAD > ratio:
            return SPO2, POOR_SIGNAL, UNKNOWN
        return SPO2, quality, min(1000, 1100 - (250 * ratio + _RATIO_ONE // 2) // _RATIO_ONE)
