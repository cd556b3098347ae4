"""Running QRS templates of one patient: which shape is the usual one, and how like it a beat is.

Four shapes compete. A beat goes to the template it correlates with best, or seeds a new one over the least used; the
usual shape is the one with most beats, halved every 64 beats so that it may change. Of two nearly as frequent ones
(bigeminy) the narrower is usual. Correlation is taken over lags of +-20 ms, so the R peak need not be exact.
"""

from array import array

from qepa_kernels import correlate, qrs_adapt, qrs_shape, qrs_window

POINTS = 41  # from -80 ms to +120 ms in steps of 5 ms
TEMPLATES = 4

_FROM = -16
_STEP_MS = 5
_LAGS = 4
_ALL_LAGS = 2 * _LAGS + 1
_SPAN = POINTS + 2 * _LAGS
_ALIKE_Q10 = 870  # correlation 0.85
_NORM = 1 << 10
_HALVE_AFTER = 64


class QrsTemplates:
    """Matches QRS complexes; the attributes describe the beat last given to `match`.

    slot: number of its template; new: which it seeded. usual: it belongs to the usual shape.
    correlation: with the usual shape, Q10, -1024 to 1024.
    width_ms: (sum |slope|)^2 / sum slope^2, the time over which the slopes are spread. peak_to_peak: in filter units.
    polarity: Q8, +256 an all positive complex, -256 an all negative one.
    novelty: running share (Q8) of beats like none before; noise that is taken for beats drives it up.
    """

    def __init__(self, ecg):
        self._ecg = ecg
        self._offsets = array("h", bytes(2 * _SPAN))
        for k in range(_SPAN):
            self._offsets[k] = ((_FROM - _LAGS + k) * _STEP_MS * ecg.fs_hz + 500) // 1000
        self._x = array("i", bytes(4 * _SPAN))
        self._norms = array("i", bytes(4 * _ALL_LAGS))
        self._shapes = [array("i", bytes(4 * POINTS)) for _ in range(TEMPLATES)]
        self._counts = array("i", bytes(4 * TEMPLATES))
        self._widths = array("i", bytes(4 * TEMPLATES))
        self._beats = 0
        self._shift = 0
        self._shape = array("i", (0, 0, 0, 0))
        self.usual_slot = -1
        self.slot = 0
        self.new = False
        self.usual = False
        self.correlation = _NORM
        self.width_ms = 0
        self.peak_to_peak = 0
        self.polarity = 0
        self.novelty = 0

    def match(self, r_index):
        """Describe the QRS at sample r_index, then let it adapt the templates."""
        start = r_index + self._ecg.clean_delay
        x = self._x
        self._shift = qrs_window(self._ecg.clean, start, self._offsets, x, POINTS, self._norms, _ALL_LAGS)
        best = -2 * _NORM
        slot = -1
        lag = _LAGS
        self.correlation = _NORM
        lag_usual = _LAGS
        for t in range(TEMPLATES):
            if self._counts[t]:
                found = correlate(x, self._shapes[t], POINTS, self._norms, _ALL_LAGS)
                rho = found >> 4
                if t == self.usual_slot:
                    self.correlation = rho
                    lag_usual = found & 15
                if rho > best:
                    best = rho
                    slot = t
                    lag = found & 15
        self._describe(lag_usual if self.correlation >= _ALIKE_Q10 else lag)
        self.new = best < _ALIKE_Q10
        self.novelty += ((256 if self.new else 0) - self.novelty) >> 3
        if self.new:
            slot = self._least_used()
            lag = _LAGS
            self._counts[slot] = 0
        self._adapt(slot, lag)
        self.slot = slot
        self.usual = slot == self.usual_slot

    def _describe(self, lag):
        shape = self._shape
        squares = qrs_shape(self._x, lag, POINTS, shape)
        high, low, level, slopes = shape
        self.width_ms = _STEP_MS * slopes * slopes // max(squares, 1)
        span = high - low
        self.peak_to_peak = span << self._shift
        self.polarity = ((high + low - 2 * level) << 8) // span if span else 0

    def _least_used(self):
        slot = 0 if self.usual_slot != 0 else 1
        for t in range(TEMPLATES):
            if t != self.usual_slot and self._counts[t] < self._counts[slot]:
                slot = t
        return slot

    def _adapt(self, slot, lag):
        first = self._counts[slot] == 0
        qrs_adapt(self._x, lag, POINTS, self._norms[lag], self._shapes[slot], first)
        width = self.width_ms << 3
        self._widths[slot] = width if first else self._widths[slot] + ((width - self._widths[slot]) >> 3)
        self._counts[slot] += 1
        self._beats += 1
        if self._beats % _HALVE_AFTER == 0:
            for t in range(TEMPLATES):
                self._counts[t] = (self._counts[t] + 1) >> 1
        self._elect()

    def _elect(self):
        """Make the most frequent shape usual; one with at least half its beats but narrower takes precedence."""
        counts = self._counts
        top = 0
        for t in range(TEMPLATES):
            if counts[t] > counts[top]:
                top = t
        for t in range(TEMPLATES):
            if 2 * counts[t] >= counts[top] and 4 * self._widths[t] < 3 * self._widths[top] and counts[t] > 1:
                top = t
        self.usual_slot = top
