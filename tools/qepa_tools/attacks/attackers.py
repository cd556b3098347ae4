"""What hostile boards send in place of their update. All of them together know every honest update.

Vectors are in quantizer steps, one row for each patient. A hostile board is not bound by the clipping of honest ones;
it keeps below the range check of its cell, because a sum that does not open helps nobody.
"""

from collections.abc import Callable
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FLIP, SCALE, INNER = 4.0, 20.0, 5.0


class Attack(StrEnum):
    """Names of the attacks."""

    NONE = "none"
    SIGN_FLIP = "sign flip"
    SCALING = "scaling"
    LITTLE = "a little is enough"
    INNER_PRODUCT = "inner product"
    LABEL_FLIP = "label flip"


def sign_flip(own: Floats, _honest: Floats) -> Floats:
    """Return -4 times what each would have sent."""
    return -FLIP * own


def scaling(own: Floats, _honest: Floats) -> Floats:
    """Return 20 times what each learnt on flipped labels: model replacement (Bagdasaryan et al., AISTATS 2020)."""
    return SCALE * own


def a_little_is_enough(own: Floats, honest: Floats) -> Floats:
    """Return mean - z std of the honest, word by word (Baruch et al., NeurIPS 2019, algorithm 3).

    z is the largest at which the hostile and floor(n / 2 + 1) - f honest ones make a majority.
    """
    n, f = len(own) + len(honest), len(own)
    supporters = n // 2 + 1 - f
    share = (n - f - supporters) / (n - f)
    z = NormalDist().inv_cdf(min(max(share, 0.5), 1 - 1e-6))
    return np.tile(honest.mean(axis=0) - z * honest.std(axis=0), (f, 1))


def inner_product(own: Floats, honest: Floats) -> Floats:
    """Return -5 times the mean of the honest (Xie et al., UAI 2020, section 4): it turns the inner product over."""
    return np.tile(-INNER * honest.mean(axis=0), (len(own), 1))


def as_learnt(own: Floats, _honest: Floats) -> Floats:
    """Return what each learnt: on true labels an honest update, on flipped ones the label flip."""
    return own


SENDS: dict[Attack, Callable[[Floats, Floats], Floats]] = {
    Attack.NONE: as_learnt,
    Attack.SIGN_FLIP: sign_flip,
    Attack.SCALING: scaling,
    Attack.LITTLE: a_little_is_enough,
    Attack.INNER_PRODUCT: inner_product,
    Attack.LABEL_FLIP: as_learnt,
}
FLIPS_LABELS = frozenset({Attack.LABEL_FLIP, Attack.SCALING})
