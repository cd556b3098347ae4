"""Membership inference by likelihood ratio (LiRA): Carlini et al., Membership Inference Attacks From First Principles,
IEEE S&P 2022 (arXiv:2112.03570), Algorithm 1 and its offline variant.

The attacker has shadow worlds: the same training, with and without each patient, as he chose. A statistic x of a world
and a patient is normal, given whether the patient is in, so that

    online score = log N(x; mu_in, s_in) - log N(x; mu_out, s_out)
    offline score = (x - mu_out) / s_out                            of worlds without the patient alone

Each world is judged by what the other worlds say: none is both shadow and target.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FEW = 64  # shadow worlds below which Carlini et al. (section VI.C) take one variance of all patients


def online_scores(statistics: Floats, members: Flags) -> Floats:
    """Return the scores (worlds, patients) of ``statistics``, as large, where ``members`` says who is in which world.

    Raises ValueError where a patient has fewer than three worlds on one side: there is no variance to judge by.
    """
    mean_in, variance_in = _others(statistics, members, members)
    mean_out, variance_out = _others(statistics, ~members, ~members)
    return _log_normal(statistics, mean_in, variance_in) - _log_normal(statistics, mean_out, variance_out)


def offline_scores(statistics: Floats, members: Flags) -> Floats:
    """Return the one-sided scores (worlds, patients); ValueError as of online_scores."""
    mean, variance = _others(statistics, ~members, ~members)
    scores: Floats = (statistics - mean) / np.sqrt(variance)
    return scores


def _others(values: Floats, chosen: Flags, own: Flags) -> tuple[Floats, Floats]:
    """Mean and variance over the chosen worlds, without the very world where it is one of them (``own``)."""
    counts = chosen.sum(axis=0) - own
    if counts.min() < 2:
        raise ValueError("a patient has fewer than three shadow worlds on one side: take more of them")
    centre = values.mean(axis=0)  # sums of squares lose nothing to a large mean
    shifted = values - centre
    total = (shifted * chosen).sum(axis=0) - shifted * own
    squares = (shifted**2 * chosen).sum(axis=0) - shifted**2 * own
    mean = total / counts
    variance = np.maximum(squares / counts - mean**2, 0) * counts / (counts - 1)
    if len(values) < _FEW:
        variance = np.broadcast_to(variance.mean(axis=1, keepdims=True), variance.shape)
    scale = max(float(np.abs(shifted).max()), 1e-12)
    floor = (1e-6 * scale) ** 2  # a statistic without noise still has a likelihood
    return centre + mean, np.maximum(variance, floor)


def _log_normal(x: Floats, mean: Floats, variance: Floats) -> Floats:
    density: Floats = -((x - mean) ** 2) / (2 * variance) - np.log(variance) / 2
    return density
