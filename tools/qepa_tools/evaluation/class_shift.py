"""What to add to the scores of S and V, chosen by people inside the training set.

The weights of a fit settle how far its answers lean to rare classes, and settle it on people whom it knows. The shift
settles it anew on people who are left out of fits in turn, by what the fit itself does not minimise: the macro F1 of N,
S and V. In a model it is a change of two words, the biases of S and V.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qepa_tools.evaluation.figures import MACRO, accuracy_and_f1
from qepa_tools.evaluation.fitting import FitSettings, beat_weights, fit_softmax, scores_of
from qepa_tools.recordings.recording import AAMI_CLASSES

PERSONS_NEEDED = 12  # taught by eight or nine, models did worse on others with a shift than without (LEARNING.md)
_FOLDS = 4
_STEPS = np.arange(-1.5, 1.51, 0.25)
_SHIFTS = sorted(((s, v) for s in _STEPS for v in _STEPS), key=lambda shift: abs(shift[0]) + abs(shift[1]))


def inner_folds(persons: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Yield which beats are of the people left out, each person once. persons: the number of each beat's person."""
    people = np.unique(persons)
    for fold in range(_FOLDS):
        yield np.isin(persons, people[fold::_FOLDS])


def class_shift(
    features: NDArray[np.int16],
    classes: NDArray[np.int64],
    persons: NDArray[np.int64],
    settings: FitSettings,
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return what to add to the scores of each class; start: the fit to all these beats, where fits to parts begin.

    Zeros with fewer than PERSONS_NEEDED, or where some fold's people are all who have N, S or V. The smallest of
    shifts that do as well.
    """
    shift = np.zeros(len(AAMI_CLASSES))
    if len(np.unique(persons)) < PERSONS_NEEDED:
        return shift
    scores = np.zeros((len(classes), len(AAMI_CLASSES)))
    for out in inner_folds(persons):
        inside = classes[~out]
        if not np.isin(range(MACRO), inside).all():
            return shift
        weights = beat_weights(inside, persons[~out], settings)
        fitted = fit_softmax(features[~out], inside, weights, settings.penalty, start)
        scores[out] = scores_of(fitted, features[out])

    def worth(added: tuple[float, float]) -> float:
        return float(np.mean(accuracy_and_f1(classes, (scores + np.array([0, *added, 0])).argmax(axis=1))[1]))

    shift[1:3] = max(_SHIFTS, key=worth)
    return shift
