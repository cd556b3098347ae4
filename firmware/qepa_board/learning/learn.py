"""The board's part of federated averaging: what it would change in the model after its labelled beats, clipped.

Local learning is stochastic gradient descent on the cross-entropy, one beat at a time, in the units of network.py.
With p the probabilities of the classes, y the label, and all right shifts rounding down:

    e_c = p_c - (PROBABILITY_ONE if c = y else 0), but 0 where |e_c| < 32                                       Q15
    d_j = floor((sum over c of floor((e_c + 4) / 8) w_cj + 2^8) / 2^9) where 0 < h_j < LIMIT, else 0            Q15
    w_cj -= floor((e_c h_j + 2^15) / 2^16),   v_ji -= floor((d_j x_i + 2^15) / 2^16)          a step of 1/32 in Q12

with the w_cj of before the step in d_j, and every word then clipped to +-WORD_LIMIT. As the |e_c| sum to 2^16 at most,
no value reaches 2^30.

The delta is the new model minus the old, each word clipped to +-DELTA_LIMIT, then the whole scaled towards zero so that
its Euclidean norm is at most a limit, never above it. Where a patient's k boards are each held to 1/k of what the
patient may contribute, the norm of their sum is at most the whole, by the triangle inequality. Federated averaging
(McMahan et al., AISTATS 2017) gives each board equal weight, so that no board's number of beats is told.
"""

from array import array

from qepa_kernels import descend
from qepa_wire.quantizer import clip_l2

from .features import LIMIT
from .network import PROBABILITY_ONE, WORD_LIMIT, ModelShape, scores, softmax

UNLABELLED = -1

DELTA_LIMIT = 1024  # +-0.25 a word
DELTA_NORM_LIMIT = 4096  # 1.0 over the whole update
EPOCHS = 2
REHEARSED = 8  # beats of a class

_NOTHING = 32  # an error of a thousandth moves no word of an ordinary beat


def clip_words(words, limit):
    """Clip every word to +-limit in place."""
    for k in range(len(words)):
        if words[k] > limit:
            words[k] = limit
        elif words[k] < -limit:
            words[k] = -limit


class Rehearsal:
    """The latest labelled beats of each class but the first (N), to be learnt again in later rounds.

    In half a minute most boards see no rare beat; without rehearsal their updates unlearn what others saw.
    """

    def __init__(self, kept=REHEARSED):
        self._kept = kept
        self.features = []
        self.labels = []

    def add(self, features, label):
        """Keep a copy of a beat's features unless it is of class 0; the oldest of its class may give way."""
        if label <= 0 or self._kept == 0:
            return
        same = 0
        oldest = 0
        for k in range(len(self.labels) - 1, -1, -1):
            if self.labels[k] == label:
                same += 1
                oldest = k
        if same >= self._kept:
            self.features.pop(oldest)
            self.labels.pop(oldest)
        self.features.append(array("h", features))
        self.labels.append(label)


class Learner:
    """Local learning of one board on models of one shape."""

    def __init__(self, shape=None, epochs=EPOCHS):
        self.shape = ModelShape() if shape is None else shape
        self._epochs = epochs
        self._errors = array("i", bytes(4 * self.shape.classes))
        self._back = array("i", bytes(4 * self.shape.hidden))

    def local_update(self, words, beats, labels, delta, norm_limit=DELTA_NORM_LIMIT):
        """Write into delta what stochastic gradient descent on the labelled beats adds to the model `words`.

        words, delta: two array('i') of the shape's words. beats: features, array('h'), in order of time; labels: their
        class numbers, others are skipped. The beats are gone through `epochs` times in that order. norm_limit bounds
        the Euclidean norm of the delta (Q12). Returns how many beats were used; with none, delta is zero.
        """
        n = self.shape.words
        for k in range(n):
            delta[k] = words[k]  # the local model, until the end
        used = 0
        for epoch in range(self._epochs):
            for b in range(len(beats)):
                if 0 <= labels[b] < self.shape.classes:
                    self._step(delta, beats[b], labels[b])
                    if epoch == 0:
                        used += 1
        for k in range(n):
            delta[k] -= words[k]
        clip_words(delta, DELTA_LIMIT)
        clipped = clip_l2(delta, norm_limit)
        if clipped is not delta:
            for k in range(n):
                delta[k] = clipped[k]
        return used

    def _step(self, words, x, label):
        """One step against the gradient of the cross-entropy for one beat."""
        shape = self.shape
        errors = self._errors
        scores(shape, words, x, errors)
        softmax(errors, shape.classes)
        errors[label] -= PROBABILITY_ONE
        for c in range(shape.classes):
            if -_NOTHING < errors[c] < _NOTHING:
                errors[c] = 0
        if shape.hidden:
            self._propagate(words)
        inputs = shape.units if shape.hidden else x
        descend(words, shape.first, errors, shape.classes, inputs, shape.inputs, WORD_LIMIT)
        if shape.hidden:
            descend(words, 0, self._back, shape.hidden, x, shape.features, WORD_LIMIT)

    def _propagate(self, words):
        """Errors of the hidden units (Q15) from those of the classes; a unit at either end of its range has none."""
        shape = self.shape
        errors = self._errors
        n = shape.hidden
        for j in range(n):
            total = 0
            if 0 < shape.units[j] < LIMIT:
                k = shape.first + j
                for c in range(shape.classes):
                    total += ((errors[c] + 4) >> 3) * words[k]
                    k += n + 1
            self._back[j] = (total + 256) >> 9
