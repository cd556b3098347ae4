"""The model before the first round. It is public: whoever knows the shape and the seed computes the same words."""

import hashlib
import struct
from math import isqrt

from qepa_wire.model import HIDDEN, SOFTMAX, Model, model_words

_LABEL = b"qepa/1/model/initial"


def initial_model(*, features: int, hidden: int, classes: int, fraction_bits: int, seed: int = 0) -> Model:
    """Return version 1: zeros for softmax regression, random weights for a hidden layer, whose units must differ.

    Biases are 0. Weights are uniform within +-sqrt(6 / f) for the f inputs of a rectifier (He et al., ICCV 2015,
    section 2.2) and within +-sqrt(6 / (h + c)) between h units and c classes (Glorot and Bengio, AISTATS 2010, equation
    16), in units of 2^-fraction_bits: for 17 features, 10 units and 4 classes within L = 2433 and L = 2681. Word k is
    floor(r_k (2 L + 1) / 2^32) - L with r_k the k-th u32 of SHAKE-256("qepa/1/model/initial" | seed u32 | f u8 | h u8 |
    c u8), all little endian.
    Raises ValueError for a shape that no kind has.
    """
    kind = HIDDEN if hidden else SOFTMAX
    n_words = model_words(kind, features, hidden, classes)
    if not n_words:
        raise ValueError(f"no model has {features} features, {hidden} hidden units and {classes} classes")
    words = [0] * n_words
    if hidden:
        draws = hashlib.shake_256(_LABEL + struct.pack("<IBBB", seed, features, hidden, classes)).digest(4 * n_words)
        layers = ((0, hidden, features, features), (hidden * (features + 1), classes, hidden, hidden + classes))
        for first, units, inputs, fan in layers:
            limit = isqrt((6 << (2 * fraction_bits)) // fan)
            for k in range(first, first + units * (inputs + 1)):
                if (k - first) % (inputs + 1) < inputs:
                    (draw,) = struct.unpack_from("<I", draws, 4 * k)
                    words[k] = (draw * (2 * limit + 1) >> 32) - limit
    return Model(1, kind, features, hidden, classes, fraction_bits, tuple(words))
