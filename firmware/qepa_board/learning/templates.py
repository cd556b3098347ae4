"""Running QRS templates of one patient: which shape is the usual one, and how like it a beat is.

Four shapes compete. A beat goes to the template it correlates with best, or seeds a new one over the least used; the
usual shape is the one with most beats, halved every 64 beats so that it may change. Of two nearly as frequent ones
(bigeminy) the narrower is usual. Correlation is taken over lags of +-20 ms, so the R peak need not be exact.
"""

from array import array

from ..fixed_point import isqrt
from ..signals.dsp import RING_MASK

POINTS = 41  # from -80 ms to +120 ms in steps of 5 ms
TEMPLATES = 4

_FROM = -16
_STEP_MS = 5
_LAGS = 4
_SPAN = POINTS + 2 * _LAGS
_ALIKE_Q10 = 870  # correlation 0.85
_NORM = 1 << 10
_HALVE_AFTER = 64


class QrsTemplates:
    """Matches QRS complexes; the attributes describe the beat last given to `match`.

    usual: it belongs to the usual shape. correlation: with the usual shape, Q10, -1024 to 1024.
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
        self._norms = array("i", bytes(4 * (2 * _LAGS + 1)))
        self._shapes = [array("i", bytes(4 * POINTS)) for _ in range(TEMPLATES)]
        self._counts = array("i", bytes(4 * TEMPLATES))
        self._widths = array("i", bytes(4 * TEMPLATES))
        self._beats = 0
        self._best_lag = 0
        self.usual_slot = -1
        self.usual = False
        self.correlation = _NORM
        self.width_ms = 0
        self.peak_to_peak = 0
        self.polarity = 0
        self.novelty = 0

    def match(self, r_index):
        """Describe the QRS at sample r_index, then let it adapt the templates."""
        self._take(r_index)
        best = -2 * _NORM
        slot = -1
        lag = _LAGS
        self.correlation = _NORM
        lag_usual = _LAGS
        for t in range(TEMPLATES):
            if self._counts[t]:
                rho = self._correlate(self._shapes[t])
                if t == self.usual_slot:
                    self.correlation = rho
                    lag_usual = self._best_lag
                if rho > best:
                    best = rho
                    slot = t
                    lag = self._best_lag
        self._describe(lag_usual if self.correlation >= _ALIKE_Q10 else lag)
        new = best < _ALIKE_Q10
        self.novelty += ((256 if new else 0) - self.novelty) >> 3
        if new:
            slot = self._least_used()
            lag = _LAGS
            self._counts[slot] = 0
        self._adapt(slot, lag)
        self.usual = slot == self.usual_slot

    def _take(self, r_index):
        """Copy the window and, per lag, the norm of its deviation from its mean."""
        x = self._x
        clean = self._ecg.clean
        start = r_index + self._ecg.clean_delay
        high = 0
        for k in range(_SPAN):
            v = clean[(start + self._offsets[k]) & RING_MASK]
            x[k] = v
            if v < 0:
                v = -v
            high = max(high, v)
        shift = 0
        while high >> shift > 4095:  # keeps sums of 41 squares below 2**30
            shift += 1
        if shift:
            for k in range(_SPAN):
                x[k] >>= shift
        total = 0
        square = 0
        for k in range(POINTS):
            total += x[k]
            square += x[k] * x[k]
        for lag in range(2 * _LAGS + 1):
            if lag:
                gone = x[lag - 1]
                new = x[lag + POINTS - 1]
                total += new - gone
                square += new * new - gone * gone
            self._norms[lag] = max(1, isqrt(max(0, square - total * total // POINTS)))
        self._shift = shift

    def _correlate(self, shape):
        """Highest correlation over the lags, Q10; the shape has zero mean and norm 1024, so x needs no centring."""
        x = self._x
        best = -2 * _NORM
        for lag in range(2 * _LAGS + 1):
            dot = 0
            k = lag
            for s in shape:
                dot += s * x[k]
                k += 1
            rho = dot // self._norms[lag]
            if rho > best:
                best = rho
                self._best_lag = lag
        return min(best, _NORM)

    def _describe(self, lag):
        x = self._x
        high = low = level = (x[lag] + x[lag + 1] + x[lag + 2] + x[lag + 3]) >> 2
        slopes = 0
        squares = 0
        last = x[lag]
        for k in range(lag + 1, lag + POINTS):
            v = x[k]
            high = max(high, v)
            low = min(low, v)
            d = v - last
            last = v
            squares += d * d
            slopes += d if d > 0 else -d
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
        shape = self._shapes[slot]
        x = self._x
        norm = self._norms[lag]
        mean = 0
        for k in range(POINTS):
            mean += x[lag + k]
        mean = mean // POINTS
        first = self._counts[slot] == 0
        # x reaches 4095, so the scaling may need a big int for a moment; once a beat that is affordable.
        for k in range(POINTS):
            v = (x[lag + k] - mean) * _NORM // norm
            shape[k] = v if first else shape[k] + ((v - shape[k]) >> 3)
        self._normalise(shape)
        width = self.width_ms << 3
        self._widths[slot] = width if first else self._widths[slot] + ((width - self._widths[slot]) >> 3)
        self._counts[slot] += 1
        self._beats += 1
        if self._beats % _HALVE_AFTER == 0:
            for t in range(TEMPLATES):
                self._counts[t] = (self._counts[t] + 1) >> 1
        self._elect()

    def _normalise(self, shape):
        total = 0
        for v in shape:
            total += v
        mean = total // POINTS
        square = 0
        for k in range(POINTS):
            v = shape[k] - mean
            shape[k] = v
            square += v * v
        norm = max(1, isqrt(square))
        for k in range(POINTS):
            shape[k] = shape[k] * _NORM // norm

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
