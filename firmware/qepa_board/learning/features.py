"""Seventeen causal beat features in fixed point, relative to what is usual for this patient.

No cardiologist's mark is used: the R peak is the detector's, the "usual beat" is learnt by clustering QRS shapes
(templates.py), the usual rhythm by running means. A beat is measured once the *next* R peak is known (or 2.5 s have
passed), a delay that is the same for every class.

Each feature is an int in Q8 (256 = 1.0) clipped to +-LIMIT, near 0 for the patient's usual beat. The interval
features follow de Chazal, O'Dwyer and Reilly (IEEE Trans Biomed Eng 51(7), 2004), the others are morphology relative
to the usual beat, so that one set of weights can serve all patients and amplitudes.
"""

from array import array

from ..fixed_point import isqrt
from ..signals.dsp import RING_MASK
from .templates import QrsTemplates

ONE = 256
LIMIT = 1024

NAMES = (
    "rr_pre_local",  # preceding RR over the mean of the last eight, minus 1
    "rr_post_local",  # following RR over the same, minus 1
    "rr_pre_global",  # preceding RR over the slow mean, minus 1
    "rr_step",  # following minus preceding RR, over the local mean
    "premature",  # how far the preceding RR falls short of 88% of the local mean, times 4
    "irregular",  # mean absolute RR difference over the local mean, times 2
    "width_ratio",  # QRS width over the usual, minus 1, times 2
    "width",  # QRS width in units of 40 ms above 60 ms
    "amplitude",  # QRS peak-to-peak over the usual, minus 1
    "unlike",  # 1 minus correlation with the usual QRS, times 2
    "polarity",  # signed balance of the QRS deflections minus the usual
    "p_unlike",  # 1 minus correlation of the P window with the usual, weighed by the presence of a P wave
    "p_energy",  # RMS of the P window over the usual, minus 1
    "t_area",  # mean of the T window minus the usual, over QRS amplitude, times 4
    "unlike_mid",  # peaks where the QRS is half like the usual: between a normal and a ventricular beat
    "premature_like",  # premature in a regular rhythm, with the usual QRS: supraventricular
    "premature_unlike",  # premature with another QRS: ventricular
)
N_FEATURES = len(NAMES)

_RR = 8
_P_FROM_MS = -240
_P_POINTS = 18  # 10 ms apart
_T_FROM_MS = 140
_T_POINTS = 27
_ADAPT_SHIFT = 3
_PREMATURE_Q8 = 225  # 88%


def clip(value):
    """value within +-LIMIT."""
    return LIMIT if value > LIMIT else -LIMIT if value < -LIMIT else value


def excess(value, usual, gain=1):
    """gain * (value / usual - 1) in Q8, clipped; 0 where nothing is usual yet."""
    if usual <= 0:
        return 0
    return clip(gain * ((value - usual) << 8) // usual)


class BeatFeatures:
    """Measures beats in the rings of an EcgFilter, in order of time."""

    def __init__(self, ecg):
        self._ecg = ecg
        self._fs_hz = ecg.fs_hz
        self.templates = QrsTemplates(ecg)
        self._rr = array("i", bytes(4 * _RR))
        self._n_rr = 0
        self._rr_sum = 0
        self._rr_slow = 0  # Q4
        self._rr_previous = 0
        self._irregular = 0  # Q4 samples
        self._p = array("i", bytes(4 * _P_POINTS))
        self._p_usual = array("i", bytes(4 * _P_POINTS))
        self._width_usual = 0  # all the usual values are running means with 3 more bits
        self._amplitude_usual = 0
        self._polarity_usual = 0
        self._p_rms_usual = 0
        self._t_usual = 0

    def measure(self, r_index, rr_pre, rr_post, out):
        """Write the N_FEATURES features of the beat at sample r_index into out; intervals in samples, 0 = unknown."""
        qrs = self.templates
        qrs.match(r_index)
        start = self._ecg.clean_delay + r_index
        rms = self._p_wave(start)
        t_mean = self._t_wave(start, rr_post)
        amplitude = max(qrs.peak_to_peak, 1)
        width = qrs.width_ms
        unlike = ONE - (qrs.correlation >> 2)  # Q8: 0 alike, 256 unrelated, 512 inverted
        t_level = clip((t_mean << 10) // amplitude)

        mean = self._rr_sum // self._n_rr if self._n_rr else rr_pre
        out[0] = excess(rr_pre, mean)
        out[1] = excess(rr_post, mean) if rr_post else 0
        out[2] = excess(rr_pre << 4, self._rr_slow)
        out[3] = clip(((rr_post - rr_pre) << 8) // mean) if mean and rr_post and rr_pre else 0
        premature = max(0, _PREMATURE_Q8 - (rr_pre << 8) // mean) << 2 if mean and rr_pre else 0
        out[4] = clip(premature)
        out[5] = clip((self._irregular << 5) // mean) if mean else 0
        out[6] = excess(width << 3, self._width_usual, 2)
        out[7] = clip(((width - 60) << 8) // 40)
        out[8] = excess(amplitude << 3, self._amplitude_usual)
        out[9] = clip(2 * unlike)
        out[10] = clip(qrs.polarity - (self._polarity_usual >> 3)) if self._amplitude_usual else 0
        out[11] = self._p_unlike(rms)
        out[12] = excess(rms << 3, self._p_rms_usual)
        out[13] = clip(t_level - (self._t_usual >> 3)) if self._amplitude_usual else 0
        out[14] = max(0, 256 - abs(unlike - 64) * 4)
        # An irregular rhythm makes early beats without their being ectopic: discount by the irregularity.
        out[15] = clip(2 * premature * max(0, 128 - unlike) // (ONE + 2 * out[5]))
        out[16] = clip(premature * min(unlike, 256) >> 7)

        if qrs.usual and unlike < 52 and premature == 0:
            self._adapt(width, amplitude, qrs.polarity, rms, t_level)
        self._follow_rhythm(rr_pre)

    def _adapt(self, width, amplitude, polarity, rms, t_level):
        """Move the usual values an eighth of the way, or set them at the first usual beat."""
        p = self._p
        usual = self._p_usual
        if self._amplitude_usual == 0:
            self._width_usual = width << 3
            self._amplitude_usual = amplitude << 3
            self._polarity_usual = polarity << 3
            self._p_rms_usual = rms << 3
            self._t_usual = t_level << 3
            for k in range(_P_POINTS):
                usual[k] = p[k] << 3
            return
        self._width_usual += width - (self._width_usual >> 3)
        self._amplitude_usual += amplitude - (self._amplitude_usual >> 3)
        self._polarity_usual += polarity - (self._polarity_usual >> 3)
        self._p_rms_usual += rms - (self._p_rms_usual >> 3)
        self._t_usual += t_level - (self._t_usual >> 3)
        for k in range(_P_POINTS):
            usual[k] += p[k] - (usual[k] >> 3)

    def _follow_rhythm(self, rr_pre):
        if rr_pre <= 0:
            return
        rr_pre = min(rr_pre, 3 * self._fs_hz)
        k = self._n_rr
        if k < _RR:
            self._rr[k] = rr_pre
            self._n_rr = k + 1
            self._rr_sum += rr_pre
        else:
            rr = self._rr
            self._rr_sum += rr_pre - rr[0]
            for k in range(_RR - 1):
                rr[k] = rr[k + 1]
            rr[_RR - 1] = rr_pre
        if self._rr_slow == 0:
            self._rr_slow = rr_pre << 4
        else:
            self._rr_slow += ((rr_pre << 4) - self._rr_slow) >> (5 if self._n_rr == _RR else 2)
        if self._rr_previous:
            self._irregular += ((abs(rr_pre - self._rr_previous) << 4) - self._irregular) >> _ADAPT_SHIFT
        self._rr_previous = rr_pre

    def _p_wave(self, start):
        """Take the P window without its straight line; returns its RMS."""
        clean = self._ecg.clean
        fs_hz = self._fs_hz
        p = self._p
        for k in range(_P_POINTS):
            p[k] = clean[(start + (_P_FROM_MS + 10 * k) * fs_hz // 1000) & RING_MASK] >> 1
        first = (p[0] + p[1] + p[2]) // 3
        last = (p[_P_POINTS - 1] + p[_P_POINTS - 2] + p[_P_POINTS - 3]) // 3
        total = 0
        for k in range(_P_POINTS):
            v = p[k] - first - (last - first) * k // (_P_POINTS - 1)
            p[k] = v
            total += v * v
        return isqrt(total // _P_POINTS)

    def _p_unlike(self, rms):
        usual = self._p_usual
        p = self._p
        dot = 0
        norm = 0
        for k in range(_P_POINTS):
            u = usual[k] >> 3
            dot += p[k] * u
            norm += u * u
        norm = isqrt(norm // _P_POINTS)
        if norm == 0:
            return 0
        # A P wave of 4% of the QRS height counts in full, a smaller one in proportion: below it there is only noise.
        presence = min(256, norm * 51200 // max(self._amplitude_usual, 1))
        rho = (dot // _P_POINTS << 8) // (norm * max(rms, 1))
        return clip((ONE - min(rho, ONE)) * presence >> 8)

    def _t_wave(self, start, rr_post):
        """Mean of the T window (cut short before the next beat) over the level before the QRS."""
        clean = self._ecg.clean
        fs_hz = self._fs_hz
        level = 0
        for k in range(4):
            level += clean[(start + (-100 + 10 * k) * fs_hz // 1000) & RING_MASK]
        points = _T_POINTS
        if rr_post:
            points = min(points, (rr_post * 1000 // fs_hz - 100 - _T_FROM_MS) // 10)
        if points < 4:
            return 0
        total = 0
        for k in range(points):
            total += clean[(start + (_T_FROM_MS + 10 * k) * fs_hz // 1000) & RING_MASK]
        return total // points - (level >> 2)
