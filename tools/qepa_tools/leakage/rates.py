"""How well scores tell members from others: AUC, advantage and rates at few false alarms, with what chance allows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, rankdata

from .membership import Flags, Floats

CONFIDENCE = 0.95
_DRAWS = 400
_MIN_TRIALS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure and its limits at ``CONFIDENCE``."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What an attack achieves.

    advantage: TPR - FPR at thresholds that other patients set; above 0 by chance alone as often as below.
    advantage_best: the largest TPR - FPR of all thresholds, found after the fact: above 0 by chance as well.
    tpr_at_1_percent, tpr_at_1_permille: TPR where at most that share of others is called a member; limits of Clopper
    and Pearson, as if trials were independent. auc and advantage: limits by drawing persons (bootstrap).
    """

    auc: Interval
    advantage: Interval
    advantage_best: float
    tpr_at_1_percent: Interval
    tpr_at_1_permille: Interval
    member_trials: int
    other_trials: int


def clopper_pearson(hits: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact two-sided limits of a binomial share (Clopper and Pearson, Biometrika 1934).

    >>> low, high = clopper_pearson(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return low, high


def auc(scores: Floats, members: Flags) -> float:
    """Return the probability that a member scores above another; ties count half (Mann and Whitney)."""
    ranks = rankdata(scores)
    n = int(members.sum())
    return float((ranks[members].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def roc(scores: Floats, members: Flags) -> tuple[Floats, Floats]:
    """Return (FPR, TPR) from the strictest threshold on, both from 0 to 1, one point for each score that occurs."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    hits, alarms = np.cumsum(members[order])[ends], np.cumsum(~members[order])[ends]
    return (
        np.concatenate([[0.0], alarms / max(1, alarms[-1])]),
        np.concatenate([[0.0], hits / max(1, hits[-1])]),
    )


def rates(scores: Floats, members: Flags, persons: Sequence[int] | NDArray[np.int64], seed: int) -> Rates:
    """Judge scores (worlds, patients) against who was a member; ``persons``: a number for each patient.

    Thresholds for the advantage come from half of the persons and are tried on the other half, both ways, over several
    divisions of them. Raises ValueError with fewer than 2 persons or 20 trials a side.
    """
    owners = np.asarray(persons)
    names = np.unique(owners)
    if len(names) < 2 or min(members.sum(), (~members).sum()) < _MIN_TRIALS:
        raise ValueError(f"an attack is judged on at least 2 persons and {_MIN_TRIALS} trials of members and of others")
    rng = np.random.default_rng(seed)
    flat, truth = scores.ravel(), members.ravel()
    fpr, tpr = roc(flat, truth)
    others = int((~truth).sum())
    return Rates(
        auc=_drawn_auc(scores, members, owners, rng),
        advantage=_crossed_advantage(scores, members, owners, rng),
        advantage_best=float((tpr - fpr).max()),
        tpr_at_1_percent=_tpr_at(flat, truth, 0.01),
        tpr_at_1_permille=_tpr_at(flat, truth, 0.001),
        member_trials=int(truth.sum()),
        other_trials=others,
    )


def _tpr_at(scores: Floats, members: Flags, limit: float) -> Interval:
    fpr, tpr = roc(scores, members)
    value = float(tpr[fpr <= limit].max())
    n = int(members.sum())
    low, high = clopper_pearson(round(value * n), n)
    return Interval(value=value, low=low, high=high)


def _best_threshold(scores: Floats, members: Flags) -> float:
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    gain = np.cumsum(members[order]) / max(1, members.sum()) - np.cumsum(~members[order]) / max(1, (~members).sum())
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    best = ends[np.argmax(gain[ends])]
    after = ordered[min(best + 1, len(ordered) - 1)]
    return float((ordered[best] + after) / 2)


def _crossed_advantage(scores: Floats, members: Flags, owners: NDArray[np.int64], rng: np.random.Generator) -> Interval:
    names = np.unique(owners)
    hits, alarms = np.zeros(len(names)), np.zeros(len(names))
    divisions = 8
    for _ in range(divisions):
        half = rng.permutation(names)[: len(names) // 2]
        inside = np.isin(owners, half)
        for known in (inside, ~inside):
            threshold = _best_threshold(scores[:, known].ravel(), members[:, known].ravel())
            for k in np.flatnonzero(np.isin(names, np.unique(owners[~known]))):
                own = owners == names[k]
                called = scores[:, own] > threshold
                hits[k] += (called & members[:, own]).sum() / divisions
                alarms[k] += (called & ~members[:, own]).sum() / divisions
    n_in = np.array([members[:, owners == name].sum() for name in names])
    n_out = np.array([(~members[:, owners == name]).sum() for name in names])

    def advantage(weights: Floats) -> float:
        return float(weights @ hits / max(1.0, weights @ n_in) - weights @ alarms / max(1.0, weights @ n_out))

    return _bootstrap(advantage, len(names), rng)


def _drawn_auc(scores: Floats, members: Flags, owners: NDArray[np.int64], rng: np.random.Generator) -> Interval:
    """AUC of all trials; a person drawn k times counts k times."""
    _, whose = np.unique(owners, return_inverse=True)
    order = np.argsort(scores.ravel(), kind="stable")
    flat, truth = scores.ravel()[order], members.ravel()[order]
    person = np.broadcast_to(whose, scores.shape).ravel()[order]
    _, tie = np.unique(flat, return_inverse=True)

    def weighted(weights: Floats) -> float:
        weight = weights[person]
        low = np.bincount(tie, weight * ~truth)
        high = np.bincount(tie, weight * truth)
        below = np.cumsum(low) - low / 2
        return float((high * below).sum() / max(1e-12, low.sum() * high.sum()))

    return _bootstrap(weighted, int(whose.max()) + 1, rng)


def _bootstrap(figure: Callable[[Floats], float], persons: int, rng: np.random.Generator) -> Interval:
    drawn = [figure(rng.multinomial(persons, np.full(persons, 1 / persons)).astype(np.float64)) for _ in range(_DRAWS)]
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value=figure(np.ones(persons)), low=float(low), high=float(high))
