"""Exact Shapley values of a network's features, by enumeration (qepa_uplink/shapley.py says of what)."""

import numpy as np

from qepa_uplink.shapley import MOST_PLAYERS, Attribution, shapley_of_values

from .network import Floats, Network, softmax

_IN_CACHE = 11  # bits of a block of coalitions


def exact_shapley(network: Network, row: Floats, background: Floats, *, of_probability: bool = False) -> Attribution:
    """Enumerate all 2^features coalitions of a beat's features; exact up to rounding.

    row: [features]. background: [rows, features]. of_probability: explain probabilities instead of logits.
    ValueError with more than MOST_PLAYERS features or no background.
    """
    n = len(row)
    if n > MOST_PLAYERS or not len(background):
        raise ValueError(f"{n} features and {len(background)} rows of background cannot be enumerated")
    layer = network.first
    low = min(n, _IN_CACHE)
    values = np.zeros((1 << (n - low), 1 << low, len(network.outer)))
    for other in background:
        steps = layer[:, :-1].T * (row - other)[:, None]
        near = subset_sums(layer[:, :-1] @ other + layer[:, -1], steps[:low])
        for k, far in enumerate(subset_sums(np.zeros(len(layer)), steps[low:])):
            logits = network.finish(near + far)
            values[k] += softmax(logits) if of_probability else logits
    flat = values.reshape(1 << n, -1) / len(background)
    return Attribution(shapley_of_values(flat).T, flat[0], flat[-1])


def subset_sums(start: Floats, steps: Floats) -> Floats:
    """Sums [2^steps, units] of start and every subset of steps [steps, units], numbered by bits.

    >>> subset_sums(np.array([1.0]), np.array([[10.0], [100.0]])).ravel().tolist()
    [1.0, 11.0, 101.0, 111.0]
    """
    sums = np.empty((1 << len(steps), len(start)))
    sums[0] = start
    for k, step in enumerate(steps):
        np.add(sums[: 1 << k], step, out=sums[1 << k : 2 << k])
    return sums
