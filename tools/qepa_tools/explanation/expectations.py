"""Whether a model uses features as a table of expectations says, which the developers wrote from textbooks.

Agreement is with that table, and no more: where a model disagrees, either may be wrong, and features that go together
(a premature beat is also an early one) may share the work so that one of them gets the other sign.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_server.explain.beat import all_attributions
from qepa_server.explain.linear import against_rest
from qepa_server.explain.vocabulary import Vocabulary
from qepa_tools.explanation.people import Floats, Fold, drawn_beats

LEAST = 0.05  # logits that a standard deviation of a feature moves: below it the model hardly uses the feature
_ENUMERATED = 12  # beats, where each costs


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected of a feature for a class, +1 or -1, and what models do.

    effect: logits for the class against the others that one standard deviation more of the feature gives, mean of the
    models. models: how many have the expected sign, hardly use it, have the other sign.
    """

    class_: str
    feature: str
    expected: int
    effect: float
    models: tuple[int, int, int]

    @property
    def verdict(self) -> str:
        """agrees, disagrees, or weak, by the mean effect."""
        if abs(self.effect) < LEAST:
            return "weak"
        return "agrees" if self.effect * self.expected > 0 else "disagrees"


def effects(fold: Fold, classes: int, seed: int = 1) -> Floats:
    """Logits [classes, features] for a class against the mean of the other ones, for a standard deviation more.

    The slope of contributions over the feature's values, which of a linear model is its coefficient.
    """
    rng = np.random.default_rng(seed)
    rows, _ = drawn_beats(fold.cases, 30, rng)
    if fold.network.inner is not None:
        rows = rows[rng.permutation(len(rows))[:_ENUMERATED]]
    found = all_attributions(fold.network, rows, fold.background)[:, :classes]
    away = rows - rows.mean(axis=0)
    spread = fold.background.rows.std(axis=0)
    result = np.empty((classes, rows.shape[1]))
    for c in range(classes):
        contributions = against_rest(found, c)
        slopes = (contributions * away).sum(axis=0) / np.maximum((away**2).sum(axis=0), 1e-12)
        result[c] = slopes * spread
    return result


def compare(
    folds: Sequence[Fold], names: Sequence[str], classes: Sequence[str], words: Vocabulary
) -> list[Expectation]:
    """Every expectation of the table, with what the folds' models do."""
    measured: NDArray[np.float64] = np.array([effects(fold, len(classes)) for fold in folds])
    found = []
    for c, class_ in enumerate(classes):
        for k, name in enumerate(names):
            expected = words[name].expect.get(class_, 0)
            if not expected:
                continue
            signed = measured[:, c, k] * expected
            models = (int((signed >= LEAST).sum()), int((np.abs(signed) < LEAST).sum()), int((signed <= -LEAST).sum()))
            found.append(Expectation(class_, name, expected, float(measured[:, c, k].mean()), models))
    return found
