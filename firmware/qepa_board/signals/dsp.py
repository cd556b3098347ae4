"""Integer ECG filters: baseline, mains notch, smoothing, QRS band, slope envelope.

One pass a block, no allocation: every intermediate word stays below 2**30, above which MicroPython would put it
on the heap. The same words come out on CPython and MicroPython.

Units: the input is signed counts of a 12-bit ADC, COUNTS_PER_MV of them to a millivolt at the electrode; filtered
signals carry one more bit (UNITS_PER_MV).

The QRS band is the difference of two centred moving averages of 25 ms and 125 ms, followed by the absolute slope
over 10 ms, averaged over 80 ms: the chain of Hamilton, "Open source ECG analysis", Computers in Cardiology 2002,
built from running sums.
"""

from array import array

from ..fixed_point import cos_q12

COUNTS_PER_MV = 400
UNITS_PER_MV = 2 * COUNTS_PER_MV
RING = 2048  # samples of history: 5.7 s at 360 Hz
RING_MASK = RING - 1

_RAIL = 2040  # counts from which on the ADC is taken to be at a rail
_BASELINE_SHIFT = 7  # time constant of 128 samples: a corner at 0.45 Hz for 360 Hz
_POLE_BANDWIDTH_HZ = 4


class EcgFilter:
    """Filters blocks of counts into the rings `clean` and `band`, and the slope envelope.

    `clean` (0.45 to about 30 Hz) and `band` (about 5 to 15 Hz) hold the latest RING samples, int16, at position
    `index & RING_MASK`, index being the number of the input sample. A feature of the input at sample s is found at
    s + clean_delay in `clean`, s + clean_delay + band_delay in `band`, s + clean_delay + envelope_delay in the
    envelope.
    """

    def __init__(self, fs_hz, mains_hz=50):
        if not 200 <= fs_hz <= 500:
            raise ValueError("fs_hz must be 200 to 500")
        if mains_hz not in (50, 60):
            raise ValueError("mains_hz must be 50 or 60")
        self.fs_hz = fs_hz
        self.mains_hz = mains_hz
        self.n = 0  # samples seen
        self.rail_samples = 0  # samples at a rail since quality last took the count
        self.residual = 0  # sum of what smoothing took away (muscle noise) since quality last took it
        self.clean = array("h", bytes(2 * RING))
        self.band = array("h", bytes(2 * RING))

        smooth = (fs_hz + 45) // 90
        short = (fs_hz * 25 // 1000) | 1
        self._smooth = smooth
        self._short = short
        self._slope = max(2, (fs_hz * 10 + 500) // 1000)
        self._window = fs_hz * 80 // 1000
        self.clean_delay = smooth - 1
        self.band_delay = (5 * short - 1) // 2
        self.envelope_delay = self.band_delay + (self._slope + self._window) // 2

        # Notch with zeros on the circle and poles at radius r: r = 1 - pi * bandwidth / fs.
        r = 4096 - (4096 * 355 * _POLE_BANDWIDTH_HZ) // (113 * fs_hz)
        self._a2 = (r * r) >> 12
        self._b0 = (4096 + self._a2) >> 1
        self._b1 = -((4096 + self._a2) * cos_q12(mains_hz, fs_hz)) >> 12

        self._baseline = 0
        self._notch = array("i", (0, 0, 0, 0))
        self._sums = array("i", (0, 0, 0, 0, 0))
        self._line1 = array("i", bytes(4 * smooth))
        self._line2 = array("i", bytes(4 * smooth))
        self._slopes = array("i", bytes(4 * self._window))

    def run(self, counts, n, envelope):  # noqa: PLR0915 - one loop with local state: a call a stage would cost more than the stages
        """Filter counts[0:n] (signed 12-bit) and write n envelope words; counts beyond the rails are clipped."""
        clean = self.clean
        band = self.band
        line1 = self._line1
        line2 = self._line2
        slopes = self._slopes
        smooth = self._smooth
        gain = 4096 // (smooth * smooth)
        long = 5 * self._short
        enter = 2 * self._short
        leave = 3 * self._short
        slope = self._slope
        window = self._window
        mask = RING_MASK
        b0 = self._b0
        b1 = self._b1
        a2 = self._a2
        u1, u2, v1, v2 = self._notch
        sum1, sum2, sum_short, sum_long, height = self._sums
        i = self.n
        if i == 0 and n > 0:
            self._baseline = max(-2048, min(2047, counts[0])) << (1 + _BASELINE_SHIFT)
        base = self._baseline
        rails = 0
        residual = 0
        for k in range(n):
            x = counts[k]
            if not -_RAIL < x < _RAIL:
                rails += 1
                x = -2048 if x < -2048 else 2047 if x > 2047 else x
            x = (x << 1) - (base >> _BASELINE_SHIFT)
            base += x
            # |x| <= 8190 and the notch's impulse response sums to less than 3, so v fits 16 bits.
            v = (b0 * (x + u2) + b1 * (u1 - v1) - a2 * v2 + 2048) >> 12
            u2 = u1
            u1 = x
            v2 = v1
            v1 = v
            j = i % smooth
            old = line1[j]
            line1[j] = v
            sum1 += v - old
            sum2 += sum1 - line2[j]
            line2[j] = sum1
            c = (sum2 * gain) >> 12
            clean[i & mask] = c
            old -= c
            residual += old if old > 0 else -old
            sum_short += clean[(i - enter) & mask] - clean[(i - leave) & mask]
            sum_long += c - clean[(i - long) & mask]
            c = (5 * sum_short - sum_long) >> 6
            band[i & mask] = c
            c -= band[(i - slope) & mask]
            if c < 0:
                c = -c
            j = i % window
            height += c - slopes[j]
            slopes[j] = c
            envelope[k] = height
            i += 1
        self.n = i
        self._baseline = base
        self.rail_samples += rails
        self.residual += residual
        state = self._notch
        state[0] = u1
        state[1] = u2
        state[2] = v1
        state[3] = v2
        state = self._sums
        state[0] = sum1
        state[1] = sum2
        state[2] = sum_short
        state[3] = sum_long
        state[4] = height
