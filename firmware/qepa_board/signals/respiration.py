"""Respiration rate from thoracic impedance, and from what breathing does to pulses and QRS complexes.

The latter is the smart fusion of Karlen et al. (IEEE Trans Biomed Eng 60(7), 2013) with a preference for the level,
which was right most often on the recordings it was chosen on. How breaths are counted, and when a rate settles:
breaths.py.
"""

from array import array

from qepa_kernels import ring_span
from qepa_wire.measures import NO_DATA, POOR_SIGNAL, RESP_RATE, RESP_RATE_DERIVED, SETTLING, UNKNOWN

from .breaths import RATE_HZ, BreathWindow

_LONGEST_BEAT_S = 3
_BEAT_BASELINE_SHIFT = 4  # 2 s: what beats carry wanders more
_ALONE_PERCENT = 85  # regularity that a height or a distance needs when nothing confirms it
_AGREE_X10 = 30  # modulations within 3 breaths a minute tell the same


class ThoracicRespiration:
    """Respiration from an impedance channel of `fs_hz` samples a second, 24 bits."""

    def __init__(self, fs_hz):
        self._step = fs_hz // RATE_HZ
        self._window = BreathWindow(fs_hz, self._step)
        self._sum = 0
        self._count = 0
        self._reason = NO_DATA

    def push(self, resp, n):
        """Take resp[0:n]."""
        self._reason = 0
        total = self._sum
        count = self._count
        for k in range(n):
            total += resp[k]
            count += 1
            if count == self._step:
                self._window.add(total // count)
                total = count = 0
        self._sum = total
        self._count = count

    def gap(self, n):
        """n samples were lost: the breaths before them are not joined to those behind."""
        if n:
            self.fault(SETTLING)

    def fault(self, reason):
        """The sensor gives nothing, for one of the reasons of qepa_wire.measures; lasts until the next push."""
        self._window.clear()
        self._sum = 0
        self._count = 0
        self._reason = reason

    def measures(self, out):
        """Append (RESP_RATE, quality, value in tenths of a breath a minute)."""
        quality, value = (self._reason, UNKNOWN) if self._reason else self._window.assess()
        out.append((RESP_RATE, quality, value))

    def apnoea(self):
        """Whether the chest has stood still for 20 s; None without a signal, or while no breaths were seen in it."""
        return None if self._reason else self._window.is_flat()


class DerivedRespiration:
    """Respiration from what breathing does to heart beats: their level, their height, their distance.

    Times are sample numbers at `fs_hz`. The level (the mean light of a pulse) carries most and is believed unless the
    other two agree on something else; without it, those two have to agree, or one of them to be very regular.
    """

    def __init__(self, fs_hz):
        self._fs_hz = fs_hz
        self._step = fs_hz // RATE_HZ
        self._windows = [BreathWindow(fs_hz, self._step, _BEAT_BASELINE_SHIFT) for _ in range(3)]
        self._before = array("i", (0, 0, 0))
        self._now = array("i", (0, 0, 0))
        self.fault(NO_DATA)

    def fault(self, reason):
        """The sensor gives nothing, for one of the reasons of qepa_wire.measures; lasts until the next beat."""
        self._reason = reason
        self._forget()

    def _forget(self):
        for window in self._windows:
            window.clear()
        self._at = -1
        self._has_interval = False
        self._has_level = False

    def gap(self, n):
        """n samples were lost: the breaths before them are not joined to those behind."""
        if n:
            self.fault(SETTLING)

    def beat(self, at, height, level=None):
        """Take the beat at sample `at`: height of its pulse or QRS complex and level, at most 20 bits each."""
        self._reason = 0
        interval = at - self._at
        if self._at >= 0 and interval <= 0:
            return
        if self._at < 0 or interval > _LONGEST_BEAT_S * self._fs_hz:
            self._forget()
        else:
            now = self._now
            now[0] = height << 3
            now[1] = interval << 3
            if level is not None:
                self._has_level = True
                now[2] = level << 3
            if self._has_interval:
                self._join(at, interval)
            self._has_interval = True
            for k in range(3):
                self._before[k] = now[k]
        self._at = at

    def _join(self, at, interval):
        """Draw lines from the last beat to this one, for the windows want samples at equal distances."""
        before = self._before
        now = self._now
        tick = self._at - self._at % self._step + self._step
        while tick <= at:
            part = ((tick - self._at) << 8) // interval
            for k in range(3 if self._has_level else 2):
                self._windows[k].add(before[k] + ((now[k] - before[k] >> 4) * part >> 4))
            tick += self._step

    def measures(self, out):
        """Append (RESP_RATE_DERIVED, quality, value in tenths of a breath a minute)."""
        quality, value = (self._reason, UNKNOWN) if self._reason else self._fuse()
        out.append((RESP_RATE_DERIVED, quality, value))

    def _fuse(self):
        quality, value = self._without_level()
        if quality != SETTLING and self._has_level:
            level_quality, level = self._windows[2].assess()
            if level != UNKNOWN:
                if self._agreed and abs(level - value) > _AGREE_X10:
                    return POOR_SIGNAL, UNKNOWN
                return level_quality, level
        return quality, value

    def _without_level(self):
        quality, height = self._windows[0].assess()
        other_quality, interval = self._windows[1].assess()
        self._agreed = False
        if UNKNOWN not in (height, interval):
            if abs(height - interval) > _AGREE_X10:
                return POOR_SIGNAL, UNKNOWN
            self._agreed = True
            return min(quality, other_quality), (height + interval) >> 1
        if interval != UNKNOWN:
            quality = other_quality
            height = interval
        if height != UNKNOWN and quality < _ALONE_PERCENT:
            return POOR_SIGNAL, UNKNOWN
        return quality, height


def qrs_height(ecg_filter, r_index):
    """Height of the QRS complex at sample `r_index`, 50 ms to either side, whichever way it points."""
    reach = ecg_filter.fs_hz // 20
    return ring_span(ecg_filter.clean, r_index + ecg_filter.clean_delay - reach, 2 * reach + 1)
