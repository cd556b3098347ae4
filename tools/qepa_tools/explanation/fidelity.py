"""Whether explanations tell what the model does, measured on people whom model and background do not know.

- exact: the closed form against the enumeration of all coalitions, and contributions to logits, scaled to a change of
  probability, against exact Shapley values of the probability.
- deletion and insertion (Petsiuk, Das and Saenko, BMVC 2018): features become those of other people's beats, or the
  other way round, strongest first; the area under the answer's probability, against random orders.
- stability: rank correlation of one beat's contributions when the background, or the model too, is made of one half of
  the other people or of the other half.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_server.explain.background import Background
from qepa_server.explain.beat import attributions
from qepa_server.explain.linear import against
from qepa_server.explain.network import Network, softmax
from qepa_server.explain.shapley import exact_shapley
from qepa_tools.evaluation.cohort import Track
from qepa_tools.evaluation.cross_validation import train
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.explanation.people import Floats, Fold, background_of, drawn_beats, network_of

_ROWS = 16  # of background, where each costs
_RANDOM_ORDERS = 8


@dataclass(frozen=True, slots=True)
class Exactness:
    """closed: largest difference of the closed form from the enumeration, in logits. residual: of sums from the scores.

    Of probabilities: largest and mean difference of scaled contributions from exact ones; rank correlation, median over
    beats; share of beats with the same strongest feature.
    """

    beats: int
    closed: float
    residual: float
    probability_largest: float
    probability_mean: float
    rank_correlation: float
    same_strongest: float


@dataclass(frozen=True, slots=True)
class Curves:
    """Mean probability of the answer after 0, 1, ... features were deleted or inserted; areas below, and of random."""

    beats: int
    deletion: Floats
    insertion: Floats
    deletion_random: Floats
    insertion_random: Floats

    def areas(self) -> tuple[float, float, float, float]:
        """Of deletion, of random deletion, of insertion, of random insertion; each between 0 and 1."""
        curves = (self.deletion, self.deletion_random, self.insertion, self.insertion_random)
        deletion, random_deletion, insertion, random_insertion = (
            float((curve[:-1] + curve[1:]).mean() / 2) for curve in curves
        )
        return deletion, random_deletion, insertion, random_insertion


@dataclass(frozen=True, slots=True)
class Stability:
    """Rank correlation of contributions between two halves of people: median and fifth percentile; same strongest."""

    beats: int
    median: float
    low: float
    same_strongest: float


def exactness(folds: Sequence[Fold], per_fold: int, track: Track, seed: int = 1) -> Exactness:
    """Enumerate all coalitions of some beats of each fold: about a second a beat."""
    rng = np.random.default_rng(seed)
    closed, residual, apart, ranks, strongest = [], [], [], [], []
    by_name = {f"{k + 1} of {len(folds)}": fold for k, fold in enumerate(folds)}
    for name in track(list(by_name), "All coalitions of features"):
        fold = by_name[name]
        rows, classes = drawn_beats(fold.cases, 4, rng)
        few = _few(fold.background)
        for k in _mixed(rng, classes, per_fold):
            answer, rival = _answer(fold.network, rows[k])
            found, base = attributions(fold.network, rows[k], few)
            enumerated = exact_shapley(fold.network, rows[k], few.rows)
            closed.append(np.abs(found - enumerated.values).max())
            residual.append(np.abs(found.sum(axis=1) + base - fold.network.logits(rows[k][None])[0]).max())
            exact = exact_shapley(fold.network, rows[k], few.rows, of_probability=True)
            margin = against(found, answer, rival)
            change = exact.output[answer] - exact.base[answer]
            apart.append(margin * change / margin.sum() - exact.values[answer])
            ranks.append(rank_correlation(margin, exact.values[answer]))
            strongest.append(np.abs(margin).argmax() == np.abs(exact.values[answer]).argmax())
    return Exactness(
        beats=len(closed),
        closed=float(max(closed)),
        residual=float(max(residual)),
        probability_largest=float(np.abs(apart).max()),
        probability_mean=float(np.abs(apart).mean()),
        rank_correlation=float(np.median(ranks)),
        same_strongest=float(np.mean(strongest)),
    )


def curves(folds: Sequence[Fold], per_person: int, classes: int = 3, seed: int = 1) -> dict[int, Curves]:
    """Deletion and insertion for the beats called each of the first `classes` classes."""
    rng = np.random.default_rng(seed)
    kept: dict[int, list[list[Floats]]] = {c: [] for c in range(classes)}
    for fold in folds:
        rows, _ = drawn_beats(fold.cases, per_person, rng)
        few = _few(fold.background).rows
        for row in rows:
            answer, rival = _answer(fold.network, row)
            if answer >= classes:
                continue
            found, _ = attributions(fold.network, row, fold.background)
            order = np.argsort(-against(found, answer, rival))
            randoms = [rng.permutation(len(row)) for _ in range(_RANDOM_ORDERS)]
            kept[answer].append(
                [
                    _curve(fold.network, row, few, order, answer, delete=True),
                    _curve(fold.network, row, few, order, answer, delete=False),
                    _mean([_curve(fold.network, row, few, way, answer, delete=True) for way in randoms]),
                    _mean([_curve(fold.network, row, few, way, answer, delete=False) for way in randoms]),
                ]
            )
    return {c: Curves(len(found), *np.mean(found, axis=0)) for c, found in kept.items() if found}


def stability(folds: Sequence[Fold], per_person: int, *, other_model: bool, seed: int = 1) -> Stability:
    """Explain beats with two disjoint halves of the other people; other_model: each half with a model of its own."""
    rng = np.random.default_rng(seed)
    ranks, strongest = [], []
    for fold in folds:
        rows, _ = drawn_beats(fold.cases, per_person, rng)
        names = rng.permutation(sorted({case.person for case in fold.others}))
        halves = []
        for chosen in (set(names[::2]), set(names[1::2])):
            cases = [case for case in fold.others if case.person in chosen]
            network = network_of(train(cases, FitSettings())[0]) if other_model else fold.network
            halves.append((network, background_of(cases)))
        for row in rows:
            answer, rival = _answer(fold.network, row)
            one, two = (against(attributions(network, row, of)[0], answer, rival) for network, of in halves)
            ranks.append(rank_correlation(one, two))
            strongest.append(one.argmax() == two.argmax())
    return Stability(
        len(ranks), float(np.median(ranks)), float(np.quantile(ranks, 0.05)), float(np.mean(strongest))
    )  # fmt: skip


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's; ties in the order that they come.

    >>> rank_correlation(np.array([1.0, 2.0, 9.0]), np.array([3.0, 1.0, 0.0]))
    -1.0
    """
    ranks = [np.argsort(np.argsort(v, kind="stable")) - (len(v) - 1) / 2 for v in (a, b)]
    return float(ranks[0] @ ranks[1] / (ranks[0] @ ranks[0]))


def _answer(network: Network, row: Floats) -> tuple[int, int]:
    """Class numbers of answer and rival, as explain_beat chooses them."""
    order = np.argsort(-network.logits(row[None])[0], kind="stable")
    return int(order[0]), int(order[1]) if order[0] == 0 else 0


def _curve(
    network: Network, row: Floats, background: Floats, order: NDArray[np.int64], answer: int, *, delete: bool
) -> Floats:
    """Probability of the answer after each step, averaged over the background's rows."""
    step = np.empty(len(row), np.int64)
    step[order] = np.arange(len(row))
    changed = step[None, :] < np.arange(len(row) + 1)[:, None]
    own = ~changed if delete else changed
    mixed = np.where(own[:, None, :], row, background[None])
    p = softmax(network.logits(mixed.reshape(-1, len(row))))[:, answer]
    mean: Floats = p.reshape(len(row) + 1, -1).mean(axis=1)
    return mean


def _few(background: Background) -> Background:
    spaced = np.linspace(0, len(background.rows) - 1, min(_ROWS, len(background.rows))).astype(np.int64)
    return Background(background.rows[spaced], background.reach, background.scale, background.limit)


def _mixed(rng: np.random.Generator, classes: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Places of n beats, all classes by turns."""
    order = rng.permutation(len(classes))
    turn = np.zeros(len(classes), np.int64)
    for c in np.unique(classes):
        members = order[classes[order] == c]
        turn[members] = np.arange(len(members))
    return order[np.argsort(turn[order], kind="stable")][:n]


def _mean(of: Sequence[Floats]) -> Floats:
    mean: Floats = np.mean(of, axis=0)
    return mean
