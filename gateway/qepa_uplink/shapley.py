"""Shapley values by enumeration of all coalitions of players, each a set of inputs of a model.

The value of a coalition S is the model's output where the inputs of S are the beat's and the others are a background
row's, averaged over the background (interventional). A player's Shapley value is

    phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S))              (Shapley, 1953)

Coalitions are numbered by their bits: bit i is player i.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Output = Callable[[Floats], Floats]  # rows [n, inputs] to outputs [n, classes]

MOST_PLAYERS = 20


@dataclass(frozen=True, slots=True)
class Attribution:
    """values: [classes, players]. base: mean output over the background. output: the beat's. values sum to the rest."""

    values: Floats
    base: Floats
    output: Floats


@dataclass(frozen=True, slots=True)
class PlayersAttribution(Attribution):
    """by_row: [rows of background, classes, players], each against that row alone; values are their mean."""

    by_row: Floats


def players_shapley(
    output: Output, row: Floats, background: Floats, players: Sequence[NDArray[np.int64]]
) -> PlayersAttribution:
    """Exact values of few players, each a set of inputs that come and go together (segments of a waveform).

    row: [inputs]. background: [rows, inputs]. players: indices of inputs; those of no player are always the beat's.
    2^players times as many rows as the background has are computed at once.
    """
    n = len(players)
    if n > MOST_PLAYERS or not len(background):
        raise ValueError(f"{n} players and {len(background)} rows of background cannot be enumerated")
    rows = np.repeat(background[None], 1 << n, axis=0)
    free = np.setdiff1d(np.arange(len(row)), np.concatenate(players))
    rows[:, :, free] = row[free]
    for i, inputs in enumerate(players):
        joined = np.flatnonzero(np.arange(1 << n) >> i & 1)
        rows[np.ix_(joined, np.arange(len(background)), inputs)] = row[inputs]
    outputs = output(rows.reshape(-1, len(row)))
    by_row = shapley_of_values(outputs.reshape(1 << n, -1)).reshape(n, len(background), -1).transpose(1, 2, 0)
    ends = outputs.reshape(1 << n, len(background), -1)[[0, -1]].mean(axis=1)
    return PlayersAttribution(by_row.mean(axis=0), ends[0], ends[1], by_row)


def shapley_of_values(values: Floats) -> Floats:
    """Shapley values [players, outputs] of a game given by the values [2^players, outputs] of its coalitions.

    >>> shapley_of_values(np.array([[0.0], [1.0], [2.0], [7.0]])).ravel().tolist()
    [3.0, 4.0]
    """
    n = len(values).bit_length() - 1
    sizes = _sizes(n)
    # joins[s]: weight of i joining s others. v(S) counts by joins[s - 1] for i in S and by -joins[s] for i outside.
    joins = np.array([1 / (n * comb(n - 1, s)) for s in range(n)] + [0.0])
    outside = (values * joins[sizes][:, None]).sum(axis=0)
    both = values * (joins[sizes] + np.r_[0.0, joins][sizes])[:, None]
    result = np.empty((n, values.shape[1]))
    for i in range(n):  # fold bit 0 away after it was read, so that each step has half the work
        pairs = both.reshape(-1, 2, values.shape[1])
        result[i] = pairs[:, 1].sum(axis=0) - outside
        both = pairs.sum(axis=1)
    return result


def _sizes(n: int) -> NDArray[np.int64]:
    sizes = np.zeros(1 << n, np.int64)
    for k in range(n):
        sizes[1 << k : 2 << k] = sizes[: 1 << k] + 1
    return sizes
