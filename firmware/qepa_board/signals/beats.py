"""The latest beats, kept for their labels in four arrays: a list of objects would take three times the memory."""

from array import array

from ..learning.features import N_FEATURES
from ..learning.learn import UNLABELLED

BEATS = 128  # over 25 s at 300 bpm

_TOGETHER = 16  # rows in one array: a heap that has been in use has no large hole


class Beat:
    """A look at one place of a BeatRing: good until BEATS more beats have been measured."""

    def __init__(self, ring, place):
        self._ring = ring
        self._place = place

    @property
    def sample_index(self):
        """Sample number of the R peak, -1 where there was no beat yet."""
        return self._ring.samples[self._place]

    @property
    def features(self):
        """The N_FEATURES features (Q8), as a memoryview into the ring."""
        first = self._place % _TOGETHER * N_FEATURES
        return memoryview(self._ring.rows[self._place // _TOGETHER])[first : first + N_FEATURES]

    @property
    def label(self):
        """Class number, or UNLABELLED."""
        return self._ring.labels[self._place]


class BeatRing:
    """BEATS places; ring[k] is a Beat. Each has a sample number, a row of features, a label and a waiting mark.

    waiting: not 0 while the beat has not been taken for training.
    """

    def __init__(self):
        self.samples = array("i", [-1] * BEATS)
        self.rows = [array("h", bytes(2 * _TOGETHER * N_FEATURES)) for _ in range(BEATS // _TOGETHER)]
        self.labels = array("b", [UNLABELLED] * BEATS)
        self.waiting = bytearray(BEATS)

    def __len__(self):
        return BEATS

    def __getitem__(self, place):
        if not 0 <= place < BEATS:
            raise IndexError("beat %d" % place)
        return Beat(self, place)

    def put(self, number, sample_index, features):
        """Write beat `number` over the one BEATS before it; allocates nothing."""
        place = number % BEATS
        self.samples[place] = sample_index
        self.labels[place] = UNLABELLED
        self.waiting[place] = 1
        rows = self.rows[place // _TOGETHER]
        k = place % _TOGETHER * N_FEATURES
        for value in features:
            rows[k] = value
            k += 1
