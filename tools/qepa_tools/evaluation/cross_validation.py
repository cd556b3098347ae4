"""Scores for every beat from models that never saw its person; and, to be shown beside them, from models that did."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qepa_tools.evaluation.class_shift import class_shift
from qepa_tools.evaluation.cohort import Case, Track
from qepa_tools.evaluation.fitting import FitSettings, beat_weights, fit_softmax, person_numbers, to_words
from qepa_tools.evaluation.model import BoardModel
from qepa_tools.recordings.board_beats import BoardBeats
from qepa_tools.recordings.recording import AAMI_CLASSES, DataError

PERSONS_NEEDED = 4
FOLDS = 10

Scores = list[NDArray[np.int64]]


def train(
    cases: Sequence[Case], settings: FitSettings, start: NDArray[np.float64] | None = None
) -> tuple[BoardModel, NDArray[np.float64]]:
    """Make a model of all labelled beats of the cases: fit it, then shift S and V (class_shift.py).

    Returns the model and the fit without the shift, with which a fit much like it may start. DataError if all beats are
    alike.
    """
    labelled = [case.beats.labelled for case in cases]
    features = np.concatenate([case.beats.features[chosen] for case, chosen in zip(cases, labelled, strict=True)])
    classes = np.concatenate([case.beats.classes[chosen] for case, chosen in zip(cases, labelled, strict=True)])
    persons = [case.person for case, chosen in zip(cases, labelled, strict=True) for _ in range(int(chosen.sum()))]
    classes = classes.astype(np.int64)
    if len(np.unique(classes)) < 2:
        raise DataError(f"A model can't be trained on {len(classes)} beats that are all of one class.")
    numbers = person_numbers(persons)
    fitted = fit_softmax(features, classes, beat_weights(classes, numbers, settings), settings.penalty, start)
    shifted = fitted.copy()
    shifted[:, -1] += class_shift(features, classes, numbers, settings, fitted)
    return BoardModel(words=tuple(to_words(shifted)), hidden=0, trained_on=frozenset(), card={}), fitted


def folds_of_persons(cases: Sequence[Case], folds: int) -> list[list[str]]:
    """Deal the persons out, those with most rare beats first, so that folds are as alike as people allow."""
    rare: dict[str, tuple[int, ...]] = {}
    for case in cases:
        counts = np.bincount(case.beats.classes[case.beats.labelled], minlength=len(AAMI_CLASSES))
        before = rare.get(case.person, (0, 0))
        rare[case.person] = (before[0] + int(counts[1]), before[1] + int(counts[2]))
    order = sorted(rare, key=lambda person: (*(-n for n in rare[person]), person))
    return [order[k::folds] for k in range(min(folds, len(order)))]


def between_persons(cases: Sequence[Case], settings: FitSettings, folds: int, track: Track) -> Scores:
    """Scores of each case's beats from a model trained on other people; DataError with fewer than PERSONS_NEEDED."""
    persons = {case.person for case in cases}
    if len(persons) < PERSONS_NEEDED:
        raise DataError(
            f"Cross-validation needs at least {PERSONS_NEEDED} persons, there are {len(persons)}; --model evaluates a "
            "model that was trained elsewhere."
        )
    dealt = folds_of_persons(cases, folds)
    by_name = {", ".join(fold): frozenset(fold) for fold in dealt}
    scores: Scores = [np.zeros((0, len(AAMI_CLASSES)), np.int64) for _ in cases]
    start: NDArray[np.float64] | None = None
    for name in track(list(by_name), "Models that leave people out"):
        out = by_name[name]
        model, fitted = train([case for case in cases if case.person not in out], settings, start)
        start = fitted if start is None else start
        for k, case in enumerate(cases):
            if case.person in out:
                scores[k] = model.scores(case.beats.features)
    return scores


def within_persons(cases: Sequence[Case], settings: FitSettings, folds: int, seed: int = 1) -> Scores:
    """Scores from models that saw other beats of the same people: what a split by beat makes of it, INFLATED."""
    rng = np.random.default_rng(seed)
    places = [rng.integers(0, folds, len(case.beats.samples)) for case in cases]
    scores: Scores = [np.zeros((len(case.beats.samples), len(AAMI_CLASSES)), np.int64) for case in cases]
    start: NDArray[np.float64] | None = None
    for fold in range(folds):
        part = [
            Case(case.recording, _only(case.beats, place != fold)) for case, place in zip(cases, places, strict=True)
        ]
        model, fitted = train(part, settings, start)
        start = fitted
        for k, case in enumerate(cases):
            chosen = places[k] == fold
            scores[k][chosen] = model.scores(case.beats.features[chosen])
    return scores


def _only(beats: BoardBeats, chosen: NDArray[np.bool_]) -> BoardBeats:
    return BoardBeats(
        recording=beats.recording,
        samples=beats.samples[chosen],
        features=beats.features[chosen],
        classes=beats.classes[chosen],
        missed=beats.missed,
    )
