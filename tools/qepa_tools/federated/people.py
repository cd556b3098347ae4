"""Who lies in the ward, who taught the model it starts from, and who judges: no person is two of these."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import ONE
from qepa_board.learning.learn import Rehearsal

from ..attacks.ward import HeldOutBeats, SimulatedWard, ward_of
from ..evaluation.cohort import Case, Cohort
from ..evaluation.cross_validation import folds_of_persons
from ..recordings.learning_tables import ROUND_S, Patient
from ..recordings.recording import AAMI_CLASSES, DataError

JUDGED_CLASSES = 3  # N, S, V: nine F beats in ten are of one person
_LEAST = 12


@dataclass(frozen=True, slots=True)
class Split:
    """Persons by what they are used for; ``start``: words of the model that the others taught, () until it is made."""

    judged: frozenset[str]
    ward: frozenset[str]
    others: frozenset[str]
    start: tuple[int, ...] = ()


def splits(cohort: Cohort, repeats: int, folds: int = 4) -> list[Split]:
    """Return ``repeats * folds`` splits; in each repeat everybody is judged once.

    Persons are dealt out in order of their rare beats, so that parts are as alike as people allow; who of neighbours in
    that order goes where is drawn. Raises DataError for too few people.
    """
    if len(cohort.persons) < _LEAST:
        raise DataError(f"Ward, teachers and judges need {_LEAST} persons, there are {len(cohort.persons)}.")
    order = [person for (person,) in folds_of_persons(cohort.cases, len(cohort.persons))]
    found = []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        dealt = _deal(order, folds, rng)
        for judged in dealt:
            ward, others = _deal([person for person in order if person not in judged], 2, rng)
            found.append(Split(judged, ward, others))
    return found


def halves(persons: frozenset[str], cohort: Cohort, seed: int) -> list[frozenset[str]]:
    """Deal ``persons`` into two halves alike."""
    order = [person for (person,) in folds_of_persons(cohort.cases, len(cohort.persons)) if person in persons]
    return _deal(order, 2, np.random.default_rng(seed))


def _deal(order: Sequence[str], hands: int, rng: np.random.Generator) -> list[frozenset[str]]:
    dealt: list[set[str]] = [set() for _ in range(hands)]
    for first in range(0, len(order), hands):
        for hand, person in zip(rng.permutation(hands), order[first : first + hands], strict=False):
            dealt[hand].add(person)
    return [frozenset(hand) for hand in dealt]


def cases_of(cohort: Cohort, persons: frozenset[str]) -> list[Case]:
    """Return the recordings of ``persons``, in the cohort's order."""
    return [case for case in cohort.cases if case.person in persons]


def ward_of_boards(cases: Sequence[Case], *, boards: int, gateways: int, rounds: int) -> SimulatedWard:
    """Return a ward of ``boards`` patients with one board each, who play these recordings.

    Boards of one recording begin at other places of it, evenly spaced, and go round: a stand-in for as many people. The
    ward's own held-out beats are none: whom it is judged on is not its affair.
    """
    made = []
    for i in range(boards):
        case, turn = cases[i % len(cases)], i // len(cases)
        of_case = len(range(i % len(cases), boards, len(cases)))
        made.append(_begins_at(case, turn / of_case))
    nobody = HeldOutBeats(np.zeros((0, 1), np.int16), np.zeros(0, np.int64))
    persons = len({case.person for case in cases})
    return ward_of(f"MIT-BIH, {persons} persons", persons, made, gateways, rounds, nobody)


def _begins_at(case: Case, share: float) -> Patient:
    length, beats = len(case.recording.samples), case.beats
    # Whole windows, so that boards of one recording learn the same windows in another order.
    window = round(ROUND_S * case.recording.fs_hz)
    moved = (beats.samples - int(share * (length // window)) * window) % length
    order = np.argsort(moved, kind="stable")
    turned = replace(beats, samples=moved[order], features=beats.features[order], classes=beats.classes[order])
    return Patient(turned, case.recording.fs_hz, length, Rehearsal())


class Judges:
    """People who judge models: their beats, as the board finds them."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.persons = sorted({case.person for case in cases})
        labelled = [case.beats.labelled for case in cases]
        features = np.concatenate([case.beats.features[chosen] for case, chosen in zip(cases, labelled, strict=True)])
        self._inputs = np.column_stack([features, np.full(len(features), ONE)]).astype(np.float64)
        self._classes = np.concatenate(
            [case.beats.classes[chosen].astype(np.int64) for case, chosen in zip(cases, labelled, strict=True)]
        )
        numbers = [self.persons.index(case.person) for case in cases]
        self._persons = np.concatenate(
            [np.full(int(chosen.sum()), k) for k, chosen in zip(numbers, labelled, strict=True)]
        )

    def confusions(self, words: Sequence[int]) -> NDArray[np.int64]:
        """Return (persons, annotated, answered) counts for a softmax regression; the board's own answers."""
        n = len(AAMI_CLASSES)
        # Products of words and features are whole numbers below 2^53, so this is exact.
        answers = (self._inputs @ np.array(words, np.float64).reshape(n, -1).T).argmax(axis=1)
        places = (self._persons * n + self._classes) * n + answers
        return np.bincount(places, minlength=len(self.persons) * n * n).reshape(-1, n, n)


def accuracy(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of right answers; confusions (..., annotated, answered)."""
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return np.asarray(right / np.maximum(1, confusion.sum(axis=(-2, -1))), np.float64)


def macro_f1(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean F1 over N, S and V; 0 for a class that is neither annotated nor answered."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    both = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return np.asarray((2 * right / np.maximum(1, both))[..., :JUDGED_CLASSES].mean(axis=-1), np.float64)
