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
from .templates import TEMPLATES, QrsTemplates

ONE = 256
LIMIT = 1024

NAMES = (
    "rr_pre_local",  # preceding RR over the mean of the last eight, minus 1; times steady, see below
    "rr_post_local",  # following RR over the same, minus 1
    "rr_pre_global",  # preceding RR over the mean of about the last 128, minus 1; times steady
    "rr_step",  # following minus preceding RR, over the local mean; times steady
    "premature",  # how far the preceding RR falls short of 88% of the local mean, times 4; times regular
    "irregular",  # share of the last 32 or so RR that differ by over a twelfth of the local mean from the one before
    "width_ratio",  # QRS width over the usual, minus 1, times 2
    "shape_early",  # rr_pre_local before it is weighed, mean over the last 16 or so beats of this QRS shape
    "amplitude",  # QRS peak-to-peak over the usual, minus 1
    "novelty",  # share of the last eight or so beats whose QRS was like none before: noise
    "polarity",  # signed balance of the QRS deflections minus the usual
    "turned",  # size of polarity, less its mean over the last 64 or so beats
    "p_unlike",  # 1 minus correlation of the P window with the usual, as far as there is a P wave; less its mean over
    # the last 64 or so beats; times regular
    "t_area",  # mean of the T window minus the usual, over QRS amplitude, times 4
    "early",  # how far the preceding RR falls short of 92% of the global mean, times 4; times regular
    "early_like",  # the greater of premature and early, with the usual QRS; times regular: supraventricular
    "premature_unlike",  # premature in whatever rhythm, with another QRS: ventricular
)
N_FEATURES = len(NAMES)

_RR = 8
_P_FROM_MS = -240
_P_POINTS = 18  # 10 ms apart
_T_FROM_MS = 140
_T_POINTS = 27
_SLOW_SHIFT = 7  # a run of supraventricular beats shall not soon make its own rate the usual one
_STEADY_SHIFT = 5
_SHAPE_SHIFT = 4
_MEAN_SHIFT = 6
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
        self._rr_slow = 0  # Q8
        self._rr_previous = 0
        self._irregular = 0  # Q14
        self._shape_early = array("i", bytes(4 * TEMPLATES))
        self._means = array("i", bytes(8))
        self._p = array("i", bytes(4 * _P_POINTS))
        self._p_usual = array("i", bytes(4 * _P_POINTS))
        self._width_usual = 0  # all the usual values are running means with 3 more bits
        self._amplitude_usual = 0
        self._polarity_usual = 0
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
        local = excess(rr_pre, mean) if rr_pre else 0
        slow = excess(rr_pre << 8, self._rr_slow) if rr_pre else 0
        premature = max(0, _PREMATURE_Q8 - (rr_pre << 8) // mean) << 2 if mean and rr_pre else 0
        early = max(0, -20 - slow) << 2
        polarity = clip(qrs.polarity - (self._polarity_usual >> 3)) if self._amplitude_usual else 0
        # Atrial fibrillation makes early beats without their being ectopic: intervals count as far as they are steady.
        irregular = self._irregular >> 6
        steady = ONE - irregular
        regular = max(0, steady - irregular)
        out[0] = steady * local >> 8
        out[1] = excess(rr_post, mean) if rr_post else 0
        out[2] = steady * slow >> 8
        out[3] = steady * clip(((rr_post - rr_pre) << 8) // mean) >> 8 if mean and rr_post and rr_pre else 0
        out[4] = regular * premature >> 8
        out[5] = irregular
        out[6] = excess(width << 3, self._width_usual, 2)
        out[7] = self._early_shape(min(local, ONE))
        out[8] = excess(amplitude << 3, self._amplitude_usual)
        out[9] = qrs.novelty
        out[10] = polarity
        out[11] = self._less_mean(0, abs(polarity))
        out[12] = regular * self._less_mean(1, self._p_unlike(rms)) >> 8
        out[13] = clip(t_level - (self._t_usual >> 3)) if self._amplitude_usual else 0
        out[14] = regular * early >> 8
        out[15] = clip(regular * max(premature, early) * max(0, 128 - unlike) >> 14)
        out[16] = clip(premature * min(unlike, 256) >> 7)

        if qrs.usual and unlike < 52 and premature == 0:
            self._adapt(width, amplitude, qrs.polarity, t_level)
        self._follow_rhythm(rr_pre)

    def _adapt(self, width, amplitude, polarity, t_level):
        """Move the usual values an eighth of the way, or set them at the first usual beat."""
        p = self._p
        usual = self._p_usual
        if self._amplitude_usual == 0:
            self._width_usual = width << 3
            self._amplitude_usual = amplitude << 3
            self._polarity_usual = polarity << 3
            self._t_usual = t_level << 3
            for k in range(_P_POINTS):
                usual[k] = p[k] << 3
            return
        self._width_usual += width - (self._width_usual >> 3)
        self._amplitude_usual += amplitude - (self._amplitude_usual >> 3)
        self._polarity_usual += polarity - (self._polarity_usual >> 3)
        self._t_usual += t_level - (self._t_usual >> 3)
        for k in range(_P_POINTS):
            usual[k] += p[k] - (usual[k] >> 3)

    def _early_shape(self, local):
        """Running mean of how early beats of this one's template come: a shape that comes in time is not ectopic."""
        means = self._shape_early
        slot = self.templates.slot
        if self.templates.new:
            means[slot] = local << _SHAPE_SHIFT
        else:
            means[slot] += local - (means[slot] >> _SHAPE_SHIFT)
        return means[slot] >> _SHAPE_SHIFT

    def _less_mean(self, k, value):
        """value less its running mean, which no beat pulls by more than half of ONE."""
        away = value - (self._means[k] >> _MEAN_SHIFT)
        self._means[k] += max(-128, min(away, 128))
        return away

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
            self._rr_slow = rr_pre << 8
        else:
            self._rr_slow += ((rr_pre << 8) - self._rr_slow) >> (_SLOW_SHIFT if self._n_rr == _RR else 2)
        if self._rr_previous:
            unsteady = 12 * abs(rr_pre - self._rr_previous) * self._n_rr > self._rr_sum
            self._irregular += ((1 << 14 if unsteady else 0) - self._irregular) >> _STEADY_SHIFT
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
