"""One ECG lead from ADC counts to beats, heart rate, labelled beats and round statistics.

A driver turns `ADC.read_u16()` (0 to 65535, 12 bits left-justified) into signed counts with
`(value >> 4) - 2048`; nominally 400 counts are a millivolt.

The RR interval that follows is a feature, so a beat is reported when the next one is found (or 2.5 s later).
"""

from array import array

from ..learning.features import N_FEATURES, BeatFeatures
from ..learning.learn import REHEARSED, UNLABELLED, Rehearsal
from .beats import BEATS, BeatRing
from .dsp import EcgFilter
from .quality import GOOD, SATURATED, HeartRate, SignalQuality
from .rpeak import RPeakDetector
from .vital_statistics import RoundStatistics

MATCH_MS = 150  # a label belongs to the nearest beat within this (ANSI/AAMI EC57)
MAX_BLOCK = 512

_LAST_WAIT_MS = 2500
_PART = 64  # samples filtered at a time: the envelope is not kept


class EcgPipeline:
    """The board's ECG: `push` blocks of counts, read the rest.

    beats[(n_beats - 1) % BEATS] is the latest of n_beats measured beats, `features` (array('h'), Q8) describes it.
    """

    def __init__(self, fs_hz, mains_hz=50, rehearsed=REHEARSED):
        self.fs_hz = fs_hz
        self.filter = EcgFilter(fs_hz, mains_hz)
        self._detector = RPeakDetector(self.filter)
        self._measure = BeatFeatures(self.filter)
        self._quality = SignalQuality(self.filter, self._detector, self._measure.templates)
        self._rate = HeartRate(fs_hz)
        self._statistics = RoundStatistics(fs_hz)
        self._envelope = array("i", bytes(4 * _PART))
        self._previous = -1  # R peak before the pending one
        self._pending = -1  # R peak that waits for its following RR
        self._rehearsal = Rehearsal(rehearsed)
        self.beats = BeatRing()
        self.features = array("h", bytes(2 * N_FEATURES))
        self.n_beats = 0

    @property
    def n_samples(self):
        """Samples pushed so far; the next one has this number."""
        return self.filter.n

    def push(self, block, n):
        """Take block[0:n] (array('h') of signed counts, n <= MAX_BLOCK); returns how many beats were measured."""
        if n > MAX_BLOCK:
            raise ValueError("a block has at most %d samples, this one %d" % (MAX_BLOCK, n))
        before = self.n_beats
        detector = self._detector
        done = 0
        while done < n:
            part = min(n - done, _PART)
            self.filter.run(block, part, self._envelope, done)
            detector.run(self._envelope, self.filter.n - part, part)
            done += part
        was = self._quality.state
        self._quality.update()
        if was == SATURATED and self._quality.state != SATURATED:
            self._rate.lead_on(self.filter.n)
        for k in range(detector.n_found):
            self._peak(detector.found[k])
        detector.clear()
        if self._pending >= 0 and self.filter.n - self._pending > _LAST_WAIT_MS * self.fs_hz // 1000:
            self._finish(0)
            self._previous = -1
            self._pending = -1
        return self.n_beats - before

    def gap(self, n):
        """n samples were lost: they keep their numbers, but no interval goes over them."""
        if self._pending >= 0:
            self._finish(0)
        self._previous = -1
        self._pending = -1
        self.filter.skip(n)
        self._detector.restart(self.filter.n)
        self._rate.lead_on(self.filter.n)
        self._statistics.interrupt()

    def _peak(self, r_index):
        if self._pending >= 0:
            if r_index <= self._pending:
                return
            self._finish(r_index - self._pending)
            self._previous = self._pending
        self._pending = r_index
        self._rate.beat(r_index)
        if self._previous >= 0 and self._quality.state == GOOD:
            self._statistics.interval(r_index - self._previous)

    def _finish(self, rr_post):
        rr_pre = self._pending - self._previous if self._previous >= 0 else 0
        self._measure.measure(self._pending, rr_pre, rr_post, self.features)
        self.beats.put(self.n_beats, self._pending, self.features)
        self.n_beats += 1

    def latest_peaks(self):
        """Sample numbers of the latest R peaks, rising, the one whose beat is not measured yet among them."""
        samples = self.beats.samples
        return [samples[k % BEATS] for k in range(max(0, self.n_beats - 8), self.n_beats)] + [self._pending]

    def quality(self):
        """Signal quality of the latest second: quality.GOOD, FLATLINE, SATURATED or NOISY."""
        return self._quality.state

    def hr_bpm_x10(self):
        """Heart rate in tenths of a beat per minute; None while unknown, stale or the signal is bad."""
        return self._rate.bpm_x10(self.filter.n) if self._quality.state == GOOD else None

    def hr_bpm(self):
        """Heart rate in whole beats per minute; None while unknown, stale or the signal is bad."""
        x10 = self.hr_bpm_x10()
        return None if x10 is None else (x10 + 5) // 10

    def asystole(self):
        """No beat for 4 s while the lead is on; a railed input (lead off) is no asystole, a flat one is."""
        return self._quality.state != SATURATED and self._rate.asystole(self.filter.n)

    def label(self, sample_index, label):
        """Attach a class number to the measured beat nearest to sample_index within 150 ms; True if there is one.

        A clinician's label comes seconds after the beat; one for a beat not yet measured (the next R peak is not in
        yet) returns False and may be offered again.
        """
        reach = MATCH_MS * self.fs_hz // 1000
        best = -1
        samples = self.beats.samples
        for k in range(max(0, self.n_beats - BEATS), self.n_beats):
            away = abs(samples[k % BEATS] - sample_index)
            if away <= reach:
                best = k % BEATS
                reach = away - 1
        if best < 0:
            return False
        self.beats.labels[best] = label
        return True

    def training_set(self):
        """(features, labels): lists over the beats labelled since the last call, oldest first, which this forgets.

        They are preceded by what learn.Rehearsal kept of earlier calls. The features of new beats are looks into the
        ring: use them before pushing more.
        """
        features = list(self._rehearsal.features)
        labels = list(self._rehearsal.labels)
        for k in range(max(0, self.n_beats - BEATS), self.n_beats):
            place = k % BEATS
            label = self.beats.labels[place]
            if label != UNLABELLED and self.beats.waiting[place]:
                self.beats.waiting[place] = 0
                row = self.beats[place].features
                features.append(row)
                labels.append(label)
                self._rehearsal.add(row, label)
        return features, labels

    def take_statistics(self):
        """The round window's vital-sign statistics, see qepa_wire.statistics, and begin the next window."""
        return self._statistics.take()
