"""Exact Shapley values of a linear model's logits, in closed form.

With features that are set, one by one, from a row of the background to the beat's own (interventional value function),
feature j contributes to the logit of class c, whatever the order,

    phi_cj = w_cj (x_j - E[x_j])

with the expectation over the background (Lundberg and Lee, "A unified approach to interpreting model predictions",
NeurIPS 2017, corollary 1). They sum to the logit minus its mean over the background. A class's logit means nothing by
itself, for softmax sees differences only: why V and not N is phi_V - phi_N.
"""

import numpy as np

from .network import Floats


def linear_shapley(coefficients: Floats, rows: Floats, mean: Floats) -> Floats:
    """Contributions [beats, classes, features].

    coefficients: classes x (features + 1), bias last. rows: [beats, features]. mean: of the background, [features].

    >>> linear_shapley(np.array([[2.0, -1.0, 5.0]]), np.array([[3.0, 1.0]]), np.array([1.0, 1.0])).tolist()
    [[[4.0, -0.0]]]
    """
    contributions: Floats = (rows - mean)[:, None, :] * coefficients[None, :, :-1]
    return contributions


def base_logits(coefficients: Floats, mean: Floats) -> Floats:
    """Logits [classes] that the contributions are added to: the mean over the background."""
    base: Floats = coefficients[:, :-1] @ mean + coefficients[:, -1]
    return base


def against(contributions: Floats, wanted: int, other: int) -> Floats:
    """Contributions [.., features] to class `wanted` rather than `other`, of contributions [.., classes, features]."""
    difference: Floats = contributions[..., wanted, :] - contributions[..., other, :]
    return difference


def against_rest(contributions: Floats, wanted: int) -> Floats:
    """Contributions [.., features] to class `wanted` rather than the mean of the others."""
    classes = contributions.shape[-2]
    others = np.arange(classes) != wanted
    difference: Floats = contributions[..., wanted, :] - contributions[..., others, :].mean(axis=-2)
    return difference
