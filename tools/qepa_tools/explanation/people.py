"""Models and backgrounds made of other people than those whose beats are explained."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import N_FEATURES, ONE
from qepa_board.learning.network import FRACTION_BITS
from qepa_server.explain.background import Background
from qepa_server.explain.network import Network
from qepa_tools.evaluation.cohort import Case, Track
from qepa_tools.evaluation.cross_validation import folds_of_persons, train
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.evaluation.model import BoardModel
from qepa_tools.recordings.recording import AAMI_CLASSES

Floats = NDArray[np.float64]

_ROWS = 40  # beats of a person in a background
_REACH = 30  # beats of a class and person that others' beats are compared with


@dataclass(frozen=True, slots=True)
class Fold:
    """cases: of people whom `network` and `background` do not know. others: the cases these are made of."""

    cases: tuple[Case, ...]
    others: tuple[Case, ...]
    network: Network
    background: Background


def network_of(model: BoardModel) -> Network:
    """The board's model in numbers."""
    return Network.from_words(
        model.words,
        features=N_FEATURES,
        classes=len(AAMI_CLASSES),
        hidden=model.hidden,
        fraction_bits=FRACTION_BITS,
    )


def rows_of(features: NDArray[np.int16]) -> Floats:
    """Features as numbers."""
    return np.asarray(features / ONE, dtype=np.float64)


def background_of(cases: Sequence[Case], seed: int = 1) -> Background:
    """Draw from each person up to 40 beats as they come, and up to 30 of each class for what beats may look like."""
    rng = np.random.default_rng(seed)
    rows, reach, persons = [], [], []
    for case in cases:
        beats = case.beats
        labelled = np.flatnonzero(beats.labelled)
        if not len(labelled):
            continue
        rows.append(beats.features[_some(rng, labelled, _ROWS)])
        for c in np.unique(beats.classes[labelled]):
            chosen = _some(rng, np.flatnonzero(beats.classes == c), _REACH)
            reach.append(beats.features[chosen])
            persons += [case.person] * len(chosen)
    return Background.of(rows_of(np.concatenate(rows)), rows_of(np.concatenate(reach)), persons)


def folds(cases: Sequence[Case], n: int, track: Track) -> list[Fold]:
    """Cut the people into n parts, each with a softmax regression and a background made of the others."""
    dealt = {", ".join(persons): frozenset(persons) for persons in folds_of_persons(cases, n)}
    made: list[Fold] = []
    start: Floats | None = None
    for name in track(list(dealt), "Models that leave people out"):
        inside = tuple(case for case in cases if case.person in dealt[name])
        others = tuple(case for case in cases if case.person not in dealt[name])
        model, fitted = train(others, FitSettings(), start)
        start = fitted if start is None else start
        made.append(Fold(inside, others, network_of(model), background_of(others)))
    return made


def drawn_beats(cases: Sequence[Case], n: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
    """Features and classes of up to n labelled beats of each class and person, so that rare ones are seen."""
    features, classes = [], []
    for case in cases:
        for c in np.unique(case.beats.classes[case.beats.labelled]):
            chosen = _some(rng, np.flatnonzero(case.beats.classes == c), n)
            features.append(case.beats.features[chosen])
            classes.append(np.full(len(chosen), c, np.int64))
    return rows_of(np.concatenate(features)), np.concatenate(classes)


def _some(rng: np.random.Generator, places: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    return places if len(places) <= n else np.sort(rng.choice(places, n, replace=False))
