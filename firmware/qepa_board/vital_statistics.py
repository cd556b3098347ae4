"""Vital-sign statistics of a round window: small non-negative words whose sum over patients a hospital may open.

From sums over n patients with a value: mean heart rate = sum(hr) / n, its variance between patients
= sum(hr^2) / n - mean^2, a histogram of patients by mean heart rate, and means of beats, SDNN and RMSSD.
"""

from array import array

from .fixed_point import isqrt

MIN_INTERVALS = 5
HR_EDGES_BPM = (40, 50, 60, 75, 90, 110, 130)  # bins: below 40, 40-49, 50-59, 60-74, 75-89, 90-109, 110-129, 130 up
N_BINS = len(HR_EDGES_BPM) + 1

NAMES = (
    "valid",  # 1 where this window has at least MIN_INTERVALS good RR intervals, else every word is 0
    "hr_bpm",  # mean heart rate over the window, rounded
    "hr_squared_bpm2",
    "beats",  # RR intervals counted
    "sdnn_ms",  # standard deviation of RR
    "rmssd_ms",  # root mean square of successive RR differences
    "rr_min_ms",
    "rr_max_ms",
    "hr_below_40",
    "hr_40_49",
    "hr_50_59",
    "hr_60_74",
    "hr_75_89",
    "hr_90_109",
    "hr_110_129",
    "hr_130_up",
)
BOUNDS = (1, 300, 90000, 1023, 1023, 1023, 4095, 4095, 1, 1, 1, 1, 1, 1, 1, 1)  # each word is 0 to its bound
WORDS = len(NAMES)


class RoundStatistics:
    """Collects RR intervals until `take`."""

    def __init__(self, fs_hz):
        self._fs_hz = fs_hz
        self._reset()

    def _reset(self):
        self._n = 0
        self._sum_ms = 0
        self._sum_squares = 0
        self._steps = 0
        self._sum_step_squares = 0
        self._min_ms = 0
        self._max_ms = 0
        self._last_ms = 0

    def interval(self, rr):
        """Count an RR interval of rr samples; one outside 200 to 3000 ms is no heart beat and breaks the row."""
        ms = (1000 * rr + self._fs_hz // 2) // self._fs_hz
        if not 200 <= ms <= 3000:
            self._last_ms = 0
            return
        if self._last_ms:
            self._steps += 1
            self._sum_step_squares += (ms - self._last_ms) * (ms - self._last_ms)
        self._last_ms = ms
        self._min_ms = ms if self._n == 0 else min(self._min_ms, ms)
        self._max_ms = max(self._max_ms, ms)
        self._n += 1
        self._sum_ms += ms
        self._sum_squares += ms * ms

    def take(self):
        """array('i') of WORDS words within BOUNDS; all zero when too few good intervals were seen."""
        out = array("i", bytes(4 * WORDS))
        n = self._n
        if n >= MIN_INTERVALS:
            hr = (60000 * n + self._sum_ms // 2) // self._sum_ms
            variance = (self._sum_squares * n - self._sum_ms * self._sum_ms) // (n * n)
            steps = max(1, self._steps)
            bin_index = 0
            for edge in HR_EDGES_BPM:
                if hr >= edge:
                    bin_index += 1
            values = (1, hr, hr * hr, n, isqrt(variance), isqrt(self._sum_step_squares // steps))
            for k in range(len(values)):
                out[k] = min(values[k], BOUNDS[k])
            out[6] = self._min_ms
            out[7] = self._max_ms
            out[WORDS - N_BINS + bin_index] = 1
        self._reset()
        return out
