"""Integer ECG filters: baseline, mains notch, smoothing, QRS band, slope envelope.

One pass a block in qepa_kernels.ecg_filter, no allocation: every intermediate word stays below 2**30, above which
MicroPython would put it on the heap. The same words come out on CPython and MicroPython, native code or not.

A count beyond +-2040 is taken to be at a rail of the ADC. The baseline's time constant is 128 samples, a corner at
0.45 Hz for 360 Hz.

Units: the input is signed counts of a 12-bit ADC, COUNTS_PER_MV of them to a millivolt at the electrode; filtered
signals carry one more bit (UNITS_PER_MV).

The QRS band is the difference of two centred moving averages of 25 ms and 125 ms, followed by the absolute slope
over 10 ms, averaged over 80 ms: the chain of Hamilton, "Open source ECG analysis", Computers in Cardiology 2002,
built from running sums.
"""

from array import array

from qepa_kernels import RING, ecg_filter

from ..fixed_point import cos_q12

COUNTS_PER_MV = 400
UNITS_PER_MV = 2 * COUNTS_PER_MV
RING_MASK = RING - 1

_POLE_BANDWIDTH_HZ = 4
_BASELINE = 1  # places in the kernel's state
_RAILS = 11
_RESIDUAL = 12
_COEFFICIENTS = 15
_LINES = 22


class EcgFilter:
    """Filters blocks of counts into the rings `clean` and `band`, and the slope envelope.

    `clean` (0.45 to about 30 Hz) and `band` (about 5 to 15 Hz) hold the latest RING samples, int16, at position
    `index & RING_MASK`, index being the number of the input sample. A feature of the input at sample s is found at
    s + clean_delay in `clean`, s + clean_delay + band_delay in `band`.
    """

    def __init__(self, fs_hz, mains_hz=50):
        if not 200 <= fs_hz <= 500:
            raise ValueError("fs_hz must be 200 to 500")
        if mains_hz not in (50, 60):
            raise ValueError("mains_hz must be 50 or 60")
        self.fs_hz = fs_hz
        self.mains_hz = mains_hz
        self.n = 0  # samples seen or skipped
        self._fresh = True
        self.clean = array("h", bytes(2 * RING))
        self.band = array("h", bytes(2 * RING))

        smooth = (fs_hz + 45) // 90
        short = (fs_hz * 25 // 1000) | 1
        slope = max(2, (fs_hz * 10 + 500) // 1000)
        window = fs_hz * 80 // 1000
        self.clean_delay = smooth - 1
        self.band_delay = (5 * short - 1) // 2

        # Notch with zeros on the circle and poles at radius r: r = 1 - pi * bandwidth / fs.
        r = 4096 - (4096 * 355 * _POLE_BANDWIDTH_HZ) // (113 * fs_hz)
        a2 = (r * r) >> 12
        b0 = (4096 + a2) >> 1
        b1 = -((4096 + a2) * cos_q12(mains_hz, fs_hz)) >> 12

        self.state = array("i", bytes(4 * (_LINES + 2 * smooth + window)))
        k = _COEFFICIENTS
        for word in (b0, b1, a2, smooth, short, slope, window):
            self.state[k] = word
            k += 1

    def skip(self, n):
        """n samples are not to be had: they keep their numbers, the filters start afresh behind them."""
        state = self.state
        for k in range(len(state)):
            if not _COEFFICIENTS <= k < _LINES:
                state[k] = 0
        self.n += n
        state[0] = self.n & RING_MASK
        self._fresh = True

    def run(self, counts, n, envelope, first=0):
        """Filter n of counts (signed 12-bit, clipped at the rails) from place `first` on; write n envelope words."""
        state = self.state
        if self._fresh and n > 0:
            self._fresh = False
            state[_BASELINE] = max(-2048, min(2047, counts[first])) << 8
        ecg_filter(counts, first, n, envelope, self.clean, self.band, state)
        self.n += n

    def take_rails(self):
        """How many samples were at a rail since the last call."""
        rails = self.state[_RAILS]
        self.state[_RAILS] = 0
        return rails

    def take_residual(self):
        """Sum of what smoothing took away (muscle noise) since the last call."""
        residual = self.state[_RESIDUAL]
        self.state[_RESIDUAL] = 0
        return residual
