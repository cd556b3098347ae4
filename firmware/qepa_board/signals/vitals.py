"""The sampling side of the application: samples in, beats, alerts and one care record a second out."""

from array import array

from qepa_wire.measures import HEART_RATE, LEAD_OFF, MEASURES, POOR_SIGNAL, SETTLING, UNKNOWN
from qepa_wire.payloads import (
    ALERT_ASYSTOLE,
    ALERT_LEAD_OFF,
    CARE_ASYSTOLE,
    CARE_LEAD_OFF,
    NO_BEAT_CLASS,
    Alert,
    Care,
)

from ..learning.learn import Learner
from ..learning.network import ModelShape, predict
from .ecg import EcgPipeline
from .quality import FLATLINE, GOOD, SATURATED

_LABEL_PATIENCE_S = 10  # a label may be here before its beat is measured
_MAX_WAITING_LABELS = 64
_QUALITY_PERCENT = {GOOD: 100, SATURATED: 0, FLATLINE: 0}
_POOR_PERCENT = 30
_HR = MEASURES[HEART_RATE]


class Vitals:
    """What this board knows of its patient. Times are sample time: milliseconds of samples since boot."""

    def __init__(self, fs_hz, mains_hz):
        self._fs_hz = fs_hz
        self.pipeline = EcgPipeline(fs_hz, mains_hz)
        self.shape = ModelShape()
        self._learner = None
        self._scores = array("i", bytes(4 * self.shape.classes))
        self._waiting = []  # (sample, beat_class, give up at sample)
        self.beat_class = NO_BEAT_CLASS
        self.labels_taken = 0
        self.labels_lost = 0

    @property
    def t_ms(self):
        """Sample time."""
        return self.pipeline.n_samples * 1000 // self._fs_hz

    def push(self, block, n, models):
        """Take samples; classify new beats with the model that ``models`` (a ModelStore or None) holds."""
        new = self.pipeline.push(block, n)
        if new and models is not None and models.words is not None:
            self.beat_class = predict(models.shape, models.words, self.pipeline.features, self._scores)

    def asystole(self):
        """True or False, or None while there is no telling: no heart rate yet, or a bad signal."""
        if self.pipeline.asystole():
            return True
        return None if self.pipeline.hr_bpm() is None else False

    def second(self):
        """To be called about once a second of sample time: offers waiting labels again."""
        now = self.pipeline.n_samples
        keep = []
        for sample, beat_class, until in self._waiting:
            if self.pipeline.label(sample, beat_class):
                self.labels_taken += 1
            elif now < until:
                keep.append((sample, beat_class, until))
            else:
                self.labels_lost += 1
        self._waiting = keep

    def label(self, labels):
        """Take a clinician's labels."""
        until = self.pipeline.n_samples + _LABEL_PATIENCE_S * self._fs_hz
        for label in labels:
            if label.beat_class < self.shape.classes and len(self._waiting) < _MAX_WAITING_LABELS:
                self._waiting.append((label.sample, label.beat_class, until))
            else:
                self.labels_lost += 1
        self.second()

    def update(self, models):
        """What learning from the beats labelled since the last call adds to the model's words: array('i'), clipped."""
        if self._learner is None or self._learner.shape is not models.shape:
            self._learner = Learner(models.shape)
        features, labels = self.pipeline.training_set()
        delta = array("i", bytes(4 * models.shape.words))
        self._learner.local_update(models.words, features, labels, delta)
        return delta

    def care(self, boots, model, alerts, lead_off):
        """The care record of this moment."""
        flags = 0
        if lead_off or alerts.is_active(ALERT_LEAD_OFF):
            flags |= CARE_LEAD_OFF
        if alerts.is_active(ALERT_ASYSTOLE):
            flags |= CARE_ASYSTOLE
        return Care(
            self.t_ms & 0xFFFFFFFF,
            boots & 0xFFFF,
            flags,
            self.beat_class,
            self.pipeline.n_beats,
            model & 0xFFFF,
            (self.heart_rate(flags & CARE_LEAD_OFF),),
        )

    def heart_rate(self, lead_off):
        """(code, quality, value) of the heart rate, value UNKNOWN with the reason where there is none."""
        hr_bpm = self.pipeline.hr_bpm()
        quality = self.pipeline.quality()
        if hr_bpm is not None and not lead_off and _HR.low <= hr_bpm <= _HR.high:
            return HEART_RATE, _QUALITY_PERCENT.get(quality, _POOR_PERCENT), hr_bpm
        reason = LEAD_OFF if lead_off else SETTLING if quality == GOOD else POOR_SIGNAL
        return HEART_RATE, reason, UNKNOWN

    def alert(self, boots, kind, active, value=None):
        """The alert for an edge; ``value`` is what it is about, without one the heart rate known then, 0 for none."""
        if value is None:
            value = self.pipeline.hr_bpm() or 0
        return Alert(self.t_ms & 0xFFFFFFFF, boots & 0xFFFF, kind, 1 if active else 0, value)
