"""Signal quality of the latest second, and heart rate, of one ECG lead."""

from array import array

from qepa_kernels import RING, ring_span

GOOD = 0
FLATLINE = 1  # less than 0.05 mV peak to peak: no electrode, or no heart
SATURATED = 2  # the ADC at a rail for more than 5% of the time: electrode lost or railed
NOISY = 3  # much above 30 Hz, noise peaks that rival the QRS, or beats that are all unlike each other

_FLAT = 40  # filter units peak to peak
_RESIDUAL = 60  # mean filter units (0.075 mV) above 30 Hz
_NOISE_PERCENT = 60
_NOVELTY = 112  # of 256 beats, this many like none before

_RR_KEPT = 9
_RR_PLAIN = 4
_RR_NEEDED = 3
_FRESH_SECONDS = 3
_ASYSTOLE_SECONDS = 4
_BPM_MIN = 20
_BPM_MAX = 300


class SignalQuality:
    """Judges each full second of an EcgFilter's output; `state` is one of the constants above."""

    def __init__(self, ecg, detector, templates):
        self._ecg = ecg
        self._detector = detector
        self._templates = templates
        self._due = ecg.fs_hz
        self.state = GOOD

    def update(self):
        """Call after each block; looks at the signal once a second."""
        ecg = self._ecg
        if ecg.n < self._due:
            return
        span = min(ecg.n - self._due + ecg.fs_hz, RING)
        self._due = ecg.n + ecg.fs_hz
        rails = ecg.take_rails()
        residual = ecg.take_residual() // span
        if 20 * rails > span:
            self.state = SATURATED
        elif ring_span(ecg.clean, ecg.n - span, span) < _FLAT:
            self.state = FLATLINE
        elif residual > _RESIDUAL or self._templates.novelty > _NOVELTY or self._noise_peaks():
            self.state = NOISY
        else:
            self.state = GOOD

    def _noise_peaks(self):
        return self._detector.has_learnt() and self._detector.noise_percent() > _NOISE_PERCENT


class HeartRate:
    """Heart rate over the latest nine RR intervals, and the time without a beat, in sample counts."""

    def __init__(self, fs_hz):
        self._fs_hz = fs_hz
        self._rr = array("i", bytes(4 * _RR_KEPT))
        self._count = 0
        self._next = 0
        self._last = -1
        self._watching_since = 0

    def beat(self, r_index):
        """A beat at sample r_index; intervals outside 20 to 300 bpm start afresh."""
        if self._last >= 0:
            rr = r_index - self._last
            if rr * _BPM_MIN > 60 * self._fs_hz:
                self._count = 0
                self._next = 0
            elif rr * _BPM_MAX >= 60 * self._fs_hz:
                self._rr[self._next] = rr
                self._next = (self._next + 1) % _RR_KEPT
                if self._count < _RR_KEPT:
                    self._count += 1
        self._last = r_index

    def lead_on(self, now):
        """The electrodes are back at sample `now`: neither a rate nor asystole is known from before."""
        self._count = 0
        self._next = 0
        self._last = -1
        self._watching_since = now

    def bpm_x10(self, now):
        """Heart rate in tenths of a beat per minute at sample `now`; None without three RR or a beat in 3 s."""
        n = self._count
        if n < _RR_NEEDED or now - self._last > _FRESH_SECONDS * self._fs_hz:
            return None
        # A mean, as beats in a minute are one: a median would jump between the two intervals of bigeminy. Without
        # its extremes, so that one missed or false beat hardly moves it.
        total = low = high = self._rr[0]
        for k in range(1, n):
            rr = self._rr[k]
            total += rr
            low = min(low, rr)
            high = max(high, rr)
        if n > _RR_PLAIN:
            total -= low + high
            n -= 2
        return (600 * self._fs_hz * n + (total >> 1)) // total

    def asystole(self, now):
        """No beat for 4 s."""
        since = self._last if self._last > self._watching_since else self._watching_since
        return now - since > _ASYSTOLE_SECONDS * self._fs_hz
