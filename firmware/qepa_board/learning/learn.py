"""Softmax regression on beat features in fixed point, and the board's part of federated averaging.

A model is an array('i') of ModelShape.words words in Q12 (4096 = 1.0), class after class, each class its weights in
feature order and then its bias, every word within +-WORD_LIMIT. Features are Q8; a score, their product sum, is Q20
and stays below 2**30 (18 products of at most 2**15 * 2**10). The same words come out on CPython and MicroPython:
integers only, in a fixed order.

What the server does with the boards' deltas: federated averaging (McMahan et al., AISTATS 2017) with equal weights,
so that no board's number of beats is told, a server rate because the deltas are clipped, and weight decay, without
which the model drifts towards whatever the latest rounds held. From the exact sum of n deltas:

    def apply_mean_delta(words, total, n):
        for k in range(len(words)):
            kept = words[k] - (words[k] + SERVER_DECAY // 2) // SERVER_DECAY
            step = (SERVER_RATE * total[k] + n // 2) // n
            words[k] = max(-WORD_LIMIT, min(WORD_LIMIT, kept + step))

with the model starting from zeros. A robust mean may stand in for total / n.
"""

from array import array

from ..fixed_point import isqrt
from .features import N_FEATURES, ONE

CLASSES = ("N", "S", "V", "F")  # AAMI; index = class number
UNLABELLED = -1
WORD_LIMIT = 32767  # +-8.0 in Q12
MAX_WORDS = 240
PROBABILITY_ONE = 32768

CLASS_WEIGHTS = (1, 1, 1, 1)  # rehearsal balances the classes; weights on top of it cost accuracy
SERVER_RATE = 4
SERVER_DECAY = 16  # a sixteenth of the model a round

DELTA_LIMIT = 1024  # +-0.25 a word
DELTA_NORM_LIMIT = 4096  # 1.0 over the whole update
EPOCHS = 2
REHEARSED = 8  # beats of a class
RATE_SHIFT = 5  # step size 1/32

_EXP_STEP_SHIFT = 5  # table step: 32 of Q10, i.e. 1/32
_EXP_ENTRIES = 385  # exp(-12) is the last, 0 in Q15


def _exp_table():
    """exp(-k/32) in Q15, by repeated multiplication in Q30: math.exp would differ between float widths."""
    table = array("H", bytes(2 * _EXP_ENTRIES))
    value = 1 << 30
    for k in range(_EXP_ENTRIES):
        table[k] = (value + (1 << 14)) >> 15
        value = (value * 1040705990 + (1 << 29)) >> 30  # exp(-1/32) in Q30
    return table


_EXP = _exp_table()


class ModelShape:
    """Numbers of classes and features; one word for each of their products and one bias a class."""

    def __init__(self, classes=4, features=N_FEATURES):
        if classes < 2 or features < 1:
            raise ValueError("a model needs two classes and one feature")
        self.classes = classes
        self.features = features
        self.words = classes * (features + 1)
        if self.words > MAX_WORDS:
            raise ValueError("a model has at most %d words, this one %d" % (MAX_WORDS, self.words))


def scores(shape, words, x, out):
    """Write the classes' scores (Q20) for features x into out."""
    n = shape.features
    k = 0
    for c in range(shape.classes):
        total = 0
        for j in range(n):
            total += words[k] * x[j]
            k += 1
        out[c] = total + words[k] * ONE
        k += 1


def predict(shape, words, x, out):
    """Class number with the highest score, the lower one in a tie; out receives the scores."""
    scores(shape, words, x, out)
    best = 0
    for c in range(1, shape.classes):
        if out[c] > out[best]:
            best = c
    return best


def softmax(out, n):
    """Replace n scores (Q20) by probabilities in Q15; within 2**-11 of the exact ones."""
    top = out[0]
    for c in range(1, n):
        top = max(top, out[c])
    total = 0
    for c in range(n):
        below = (top - out[c]) >> 10
        k = below >> _EXP_STEP_SHIFT
        if k >= _EXP_ENTRIES - 1:
            e = 0
        else:
            e = _EXP[k]
            e -= (e - _EXP[k + 1]) * (below & 31) >> _EXP_STEP_SHIFT
        out[c] = e
        total += e
    for c in range(n):
        out[c] = (out[c] * 32767 // total) + 1 if out[c] else 0


def clip_words(words, limit):
    """Clip every word to +-limit in place."""
    for k in range(len(words)):
        if words[k] > limit:
            words[k] = limit
        elif words[k] < -limit:
            words[k] = -limit


def clip_norm(words, limit):
    """Scale words towards zero in place so that their Euclidean norm is at most limit."""
    square = 0
    for v in words:
        square += v * v
    norm = isqrt(square)
    if norm * norm < square:
        norm += 1
    if norm > limit:
        for k in range(len(words)):
            v = words[k]
            words[k] = v * limit // norm if v >= 0 else -(-v * limit // norm)


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
    """Local learning of one board: what it would change in the model, clipped.

    limit and norm_limit bound each word and the Euclidean norm of the delta (Q12), as privacy and robustness need.
    """

    def __init__(
        self, shape=None, class_weights=CLASS_WEIGHTS, limit=DELTA_LIMIT, norm_limit=DELTA_NORM_LIMIT, epochs=EPOCHS
    ):
        self.shape = ModelShape() if shape is None else shape
        if len(class_weights) != self.shape.classes:
            raise ValueError("one weight a class")
        self.class_weights = class_weights
        self.limit = limit
        self.norm_limit = norm_limit
        self.epochs = epochs
        self._local = array("i", bytes(4 * self.shape.words))
        self._p = array("i", bytes(4 * self.shape.classes))

    def local_update(self, words, beats, labels, delta):
        """Write into delta what stochastic gradient descent on the labelled beats adds to the model `words`.

        beats: sequences of Q8 features in order of time; labels: their class numbers, others are skipped. The beats
        are gone through self.epochs times in that order. Returns how many beats were used; with none, delta is zero.
        """
        local = self._local
        shape = self.shape
        for k in range(shape.words):
            local[k] = words[k]
        used = 0
        for epoch in range(self.epochs):
            for b in range(len(beats)):
                if 0 <= labels[b] < shape.classes:
                    self._step(local, beats[b], labels[b])
                    if epoch == 0:
                        used += 1
        for k in range(shape.words):
            delta[k] = local[k] - words[k]
        clip_norm(delta, self.norm_limit)
        clip_words(delta, self.limit)
        return used

    def _step(self, local, x, label):
        """One step against the gradient of the weighted cross-entropy: (p - y) x, rounded to nearest."""
        shape = self.shape
        p = self._p
        n = shape.features
        scores(shape, local, x, p)
        softmax(p, shape.classes)
        weight = self.class_weights[label]
        shift = 11 + RATE_SHIFT  # Q15 times Q8 down to Q12, then the step size
        half = 1 << (shift - 1)
        k = 0
        for c in range(shape.classes):
            error = p[c] - PROBABILITY_ONE if c == label else p[c]
            error *= weight
            if -32 < error < 32:
                k += n + 1
                continue
            for j in range(n + 1):
                v = local[k] - ((error * (x[j] if j < n else ONE) + half) >> shift)
                local[k] = WORD_LIMIT if v > WORD_LIMIT else -WORD_LIMIT if v < -WORD_LIMIT else v
                k += 1
