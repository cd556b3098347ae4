"""Vital-sign statistics of a round window, laid out as qepa_wire.statistics says."""

from array import array

from qepa_wire.statistics import BOUNDS, FIRST_BIN, HR_EDGES_BPM, WORDS

from ..fixed_point import isqrt

MIN_INTERVALS = 5


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

    def interrupt(self):
        """The row of intervals breaks."""
        self._last_ms = 0

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
            out[FIRST_BIN + bin_index] = 1
        self._reset()
        return out
