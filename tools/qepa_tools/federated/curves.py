"""Courses of learning over several splits of the people, each judged round by round by people outside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_server.privacy.accountant import epsilon

from ..evaluation.cohort import Cohort
from ..evaluation.cross_validation import train as fit
from ..evaluation.fitting import FitSettings
from .people import Judges, Split, accuracy, cases_of, macro_f1, ward_of_boards
from .training import Course, State, Words, train

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Score = Callable[[Ints], Floats]
CoursesOf = Callable[[Words, int], Sequence[Course]]  # the model that the split's other people taught, its number

_DRAWS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class WardSize:
    """Boards, one a patient, and gateways: four patients at a gateway, so that cells are of several."""

    boards: int = 200
    gateways: int = 50


@dataclass(slots=True)
class Curve:
    """What became of a course. ``confusions``: (rounds + 1, persons, annotated, answered), over all splits.

    ``spent``: the largest epsilon that the server's account shows for a patient, 0 without noise; ``refused``: share of
    cells that did not open.
    """

    course: Course
    confusions: Ints
    spent: float = 0.0
    cells: int = 0
    refused: int = 0

    def accuracy(self, round_: int = -1) -> float:
        """Share of the beats of all judges that are answered rightly after a round (0: at the start)."""
        return float(accuracy(self.confusions[round_].sum(axis=0)))

    def macro_f1(self, round_: int = -1) -> float:
        """The same of macro F1 over N, S, V."""
        return float(macro_f1(self.confusions[round_].sum(axis=0)))


def taught_by(cohort: Cohort, persons: frozenset[str]) -> Words:
    """Return the model that ``persons`` teach in the way that the shipped one is taught."""
    return fit(cases_of(cohort, persons), FitSettings())[0].words


def curves(
    cohort: Cohort,
    chosen: Sequence[Split],
    courses_of: CoursesOf,
    say: Callable[[str], None],
    size: WardSize,
    seen: Callable[[int, NDArray[np.int32]], None] = lambda _round, _updates: None,
) -> list[Curve]:
    """Run the courses in each split; curves of courses that stand at the same place are one."""
    found: list[Curve] = []
    for number, split in enumerate(chosen):
        courses = courses_of(split.start, number)
        rounds = max(course.rounds for course in courses)
        ward = ward_of_boards(cases_of(cohort, split.ward), boards=size.boards, gateways=size.gateways, rounds=rounds)
        judges = Judges(cases_of(cohort, split.judged))
        places = [cohort.persons.index(person) for person in judges.persons]
        if not found:
            n = len(cohort.persons)
            found = [Curve(course, np.zeros((course.rounds + 1, n, 4, 4), np.int64)) for course in courses]
        for curve, course in zip(found, courses, strict=True):
            curve.confusions[0, places] += judges.confusions(course.start or (0,) * 72)
        at = {id(course): curve for curve, course in zip(found, courses, strict=True)}
        for round_, states in train(ward, courses, number, seen):
            say(f"split {number + 1} of {len(chosen)}, round {round_} of {rounds}")
            for state in states:
                curve = at[id(state.course)]
                curve.confusions[round_, places] += judges.confusions(state.words)
                if round_ == state.course.rounds:
                    _close(curve, state)
    return found


def _close(curve: Curve, state: State) -> None:
    curve.cells += state.cells
    curve.refused += state.refused
    if state.spec.noise_q8:
        curve.spent = max(curve.spent, epsilon(float(state.rho.max()), state.course.delta))


def interval(confusions: Ints, score: Score, minus: Ints | None = None) -> tuple[float, float]:
    """Return the 95 % interval of a score over people, or of its difference to the same people's ``minus``.

    confusions: (persons, annotated, answered). Persons are drawn with replacement, all their beats together.
    """
    rng = np.random.default_rng(0)
    n = len(confusions)
    weights = rng.multinomial(n, np.full(n, 1 / n), _DRAWS)
    scores = score(np.einsum("dp,pij->dij", weights, confusions))
    if minus is not None:
        scores = scores - score(np.einsum("dp,pij->dij", weights, minus))
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)
