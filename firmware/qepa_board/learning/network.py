"""The models that a board computes, in fixed point: softmax regression, or one hidden layer and then the same.

Words are Q12 (4096 = 1.0) within +-WORD_LIMIT, features and hidden units Q8, class scores Q20, probabilities Q15. With
features x_1 ... x_f and x_0 = ONE as the input of the bias, and for each unit its weights in order and then its bias,

    z_j = sum over i of v_ji x_i                    hidden unit j (Q20), units before classes in the array of words
    h_j = clip(floor((z_j + 2^11) / 2^12), 0, LIMIT)     a rectifier, clipped where a feature is; h_0 = ONE
    s_c = sum over j of w_cj h_j                    class c (Q20); without a hidden layer over i of w_ci x_i

As a layer has at most MAX_UNITS inputs, no sum reaches 2^30, beyond which MicroPython would put it on the heap. The
same numbers come out on CPython and MicroPython: integers only, in a fixed order.
"""

from array import array

from qepa_kernels import dot32
from qepa_wire.model import HIDDEN, MAX_WORDS, SOFTMAX, model_words

from .features import LIMIT, N_FEATURES, ONE

CLASSES = ("N", "S", "V", "F")  # AAMI; index = class number
FRACTION_BITS = 12
WORD_LIMIT = 32767  # +-8.0 in Q12
MAX_UNITS = 31  # (31 * LIMIT + ONE) * WORD_LIMIT < 2**30
PROBABILITY_ONE = 32768

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
    """Numbers of classes, features and hidden units (0: softmax regression), and the words that this takes.

    inputs, first: inputs of the classes' layer, and where it begins. units: room for the hidden layer's output.
    """

    def __init__(self, classes=4, features=N_FEATURES, hidden=0):
        self.classes = classes
        self.features = features
        self.hidden = hidden
        self.words = model_words(HIDDEN if hidden else SOFTMAX, features, hidden, classes)
        if not 0 < self.words <= MAX_WORDS or features > MAX_UNITS or hidden > MAX_UNITS:
            raise ValueError(
                "a model has at most %d words and %d inputs a layer: not %d, %d and %d units"
                % (MAX_WORDS, MAX_UNITS, features, hidden, classes)
            )
        self.inputs = hidden or features
        self.first = hidden * (features + 1)
        self.units = array("h", bytes(2 * hidden))


def scores(shape, words, x, out):
    """Write the classes' scores (Q20) for features x (array('h')) into out, and the hidden layer's into shape.units."""
    n = shape.features
    k = 0
    if shape.hidden:
        units = shape.units
        for j in range(shape.hidden):
            z = (dot32(words, k, x, n) + words[k + n] * ONE + 2048) >> 12
            units[j] = 0 if z < 0 else LIMIT if z > LIMIT else z
            k += n + 1
        n = shape.hidden
        x = units
    for c in range(shape.classes):
        out[c] = dot32(words, k, x, n) + words[k + n] * ONE
        k += n + 1


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
        below = ((top >> 1) - (out[c] >> 1)) >> 9
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
