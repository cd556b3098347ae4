"""One ECG lead as the application uses it: beats, heart rate, asystole, labels, the model and what is learnt."""

from array import array

from qepa_wire.measures import (
    HEART_RATE,
    HEART_RATE_HIGH,
    HEART_RATE_LOW,
    LEAD_OFF,
    NO_DATA,
    POOR_SIGNAL,
    SETTLING,
    UNKNOWN,
)
from qepa_wire.payloads import NO_BEAT_CLASS, WAVE_ECG

from ..console import say
from ..errors import BoardError
from ..learning.learn import Learner
from ..learning.network import ModelShape, predict
from .beats import BEATS
from .ecg import EcgPipeline
from .quality import FLATLINE, GOOD, SATURATED
from .waveform import Waveform

_LABEL_PATIENCE_S = 10  # a label may be here before its beat is measured
_MAX_WAITING_LABELS = 64
_QUALITY_PERCENT = {GOOD: 100, SATURATED: 0, FLATLINE: 0}
_POOR_PERCENT = 30
_BLOCK = 128


class Vitals:
    """What this board knows of its patient's heart. ``models`` is a ModelStore, or None while there is none."""

    def __init__(self, fs_hz, mains_hz):
        self._fs_hz = fs_hz
        self.pipeline = EcgPipeline(fs_hz, mains_hz)
        self.shape = ModelShape()
        self.models = None
        self._learner = None
        self._scores = array("i", bytes(4 * self.shape.classes))
        self._block = array("h", bytes(2 * _BLOCK))
        self._waiting = []  # (sample, beat_class, give up at sample)
        self._lead_off = False
        self._fault = NO_DATA
        self._breaths = None
        self._waveform = Waveform()
        self.beat_class = NO_BEAT_CLASS

    def push(self, samples, n):
        """Take samples[0:n] (n at most 128), steps of 2.5 microvolts; classify new beats with the model in use."""
        self._fault = 0
        block = self._block
        for k in range(n):
            block[k] = samples[k]
        new = self.pipeline.push(block, n)
        if new and self._breaths is not None:
            at = self.pipeline.beats.samples[(self.pipeline.n_beats - 1) % BEATS]
            self._breaths.beat(at, self._height(at))
        models = self.models
        if new and models is not None and models.words is not None:
            self.beat_class = predict(models.shape, models.words, self.pipeline.features, self._scores)

    def derive_breaths(self):
        """Tell the respiration rate as well, from what breathing does to beats: 6 kB of heap."""
        from .respiration import DerivedRespiration, qrs_height  # noqa: PLC0415  few boards want it

        self._breaths = DerivedRespiration(self._fs_hz)
        self._height = lambda at: qrs_height(self.pipeline.filter, at)

    def gap(self, n):
        """n samples were lost: beats before them are not joined to those behind."""
        self.pipeline.gap(n)
        self.unfit()
        if self._breaths is not None:
            self._breaths.gap(n)

    def unfit(self):
        """No waveform is to hold what was pushed so far: an electrode is off."""
        self._waveform.fresh = self.pipeline.n_samples

    def wave(self, boots):
        """The next Wave of the cleaned lead, as a tuple; None without one."""
        ecg = self.pipeline.filter
        delay = ecg.clean_delay
        kind = (WAVE_ECG, 1, ecg.fs_hz, boots)
        return self._waveform.take(kind, ecg.clean, ecg.n - delay, delay, self.pipeline.latest_peaks())

    def fault(self, reason):
        """The sensor gives nothing, for one of the reasons of qepa_wire.measures; lasts until the next push."""
        self._fault = reason
        if self._breaths is not None:
            self._breaths.fault(reason)

    def asystole(self):
        """True or False, or None while there is no telling: no heart rate yet, a bad signal or none."""
        if self._fault:
            return None
        if self.pipeline.asystole():
            return True
        return None if self.pipeline.hr_bpm() is None else False

    def second(self, lead_off):
        """To be called about once a second of sample time: note whether an electrode is off, offer labels again."""
        self._lead_off = lead_off
        self._offer_labels()

    def _offer_labels(self):
        now = self.pipeline.n_samples
        keep = []
        for sample, beat_class, until in self._waiting:
            if self.pipeline.label(sample, beat_class):
                continue
            if now < until:
                keep.append((sample, beat_class, until))
            else:
                say("a label of no beat")
        self._waiting = keep

    def label(self, labels):
        """Take a clinician's labels; raises BoardError("label") if not all, those that can be used are."""
        until = self.pipeline.n_samples + _LABEL_PATIENCE_S * self._fs_hz
        lost = 0
        for label in labels:
            if label.beat_class < self.shape.classes and len(self._waiting) < _MAX_WAITING_LABELS:
                self._waiting.append((label.sample, label.beat_class, until))
            else:
                lost += 1
        self._offer_labels()
        if lost:
            raise BoardError("label", "%d of no class, or too many" % lost)

    def update(self, models):
        """What learning from the beats labelled since the last call adds to the model's words: array('i'), clipped."""
        if self._learner is None or self._learner.shape is not models.shape:
            self._learner = Learner(models.shape)
        features, labels = self.pipeline.training_set()
        delta = array("i", bytes(4 * models.shape.words))
        self._learner.local_update(models.words, features, labels, delta)
        return delta

    def measures(self, out):
        """Append the heart rate, and the respiration rate if it is derived."""
        out.append(self._heart_rate())
        if self._breaths is not None:
            self._breaths.measures(out)

    def _heart_rate(self):
        if self._fault or self._lead_off:
            return HEART_RATE, self._fault or LEAD_OFF, UNKNOWN
        hr_bpm = self.pipeline.hr_bpm()
        quality = self.pipeline.quality()
        if hr_bpm is not None and HEART_RATE_LOW <= hr_bpm <= HEART_RATE_HIGH:
            return HEART_RATE, _QUALITY_PERCENT.get(quality, _POOR_PERCENT), hr_bpm
        return HEART_RATE, SETTLING if quality == GOOD else POOR_SIGNAL, UNKNOWN
