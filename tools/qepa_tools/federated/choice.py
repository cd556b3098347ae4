"""Settings chosen by people who judge nothing that is shown: in each split the others teach and judge by halves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from ..evaluation.cohort import Cohort
from .curves import Ints, WardSize, taught_by
from .people import Judges, Split, accuracy, cases_of, halves, macro_f1, ward_of_boards
from .training import Course, Words, train

_LOOKS = (10, 30, 60)  # rounds after which a course is judged: it must be good early and stay so


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen candidate's place in each split; (accuracy, macro F1) of every candidate over all splits."""

    places: tuple[int, ...]
    scores: tuple[tuple[float, float], ...]

    @property
    def usual(self) -> int:
        """Which is chosen most often."""
        return max(sorted(set(self.places)), key=self.places.count)


def choose(
    cohort: Cohort,
    chosen: Sequence[Split],
    candidates: Callable[[Words], Sequence[Course]],
    say: Callable[[str], None],
    size: WardSize,
    groups: Sequence[int],
) -> list[Choice]:
    """Return which candidate of each group does best in each split: mean of accuracy and macro F1 over its looks.

    ``candidates(start)``: courses, group after group; ``groups``: how many are in each. A split's people who judge what
    is shown take no part.
    """
    found = []
    for number, split in enumerate(chosen):
        found.append(_inner(cohort, split, number, candidates, size))
        say(f"settings, split {number + 1} of {len(chosen)}")
    goods = np.array([[float(_good(confusions)) for confusions in row] for row in found])
    summed = [np.sum(rows, axis=0) for rows in zip(*found, strict=True)]
    scores = [(float(accuracy(each).mean()), float(macro_f1(each).mean())) for each in summed]
    edges = [0, *accumulate(groups)]
    return [Choice(tuple(goods[:, a:b].argmax(axis=1).tolist()), tuple(scores[a:b])) for a, b in pairwise(edges)]


def _good(confusions: Ints) -> float:
    return float(accuracy(confusions).mean() + macro_f1(confusions).mean()) / 2


def _inner(
    cohort: Cohort, split: Split, number: int, candidates: Callable[[Words], Sequence[Course]], size: WardSize
) -> list[Ints]:
    """Return (looks, annotated, answered) for each candidate: half of the others teach, half judge, and the reverse."""
    found: list[Ints] = []
    teachers = halves(split.others, cohort, number)
    for teaching, judging in (teachers, teachers[::-1]):
        courses = list(candidates(taught_by(cohort, teaching)))
        rounds = max(course.rounds for course in courses)
        ward = ward_of_boards(cases_of(cohort, split.ward), boards=size.boards, gateways=size.gateways, rounds=rounds)
        judges = Judges(cases_of(cohort, judging))
        looks = [[look for look in _LOOKS if look < course.rounds] + [course.rounds] for course in courses]
        found = found or [np.zeros((len(each), 4, 4), np.int64) for each in looks]
        at = {id(course): place for place, course in enumerate(courses)}
        for round_, states in train(ward, courses, number):
            for state in states:
                place = at[id(state.course)]
                if round_ in looks[place]:
                    found[place][looks[place].index(round_)] += judges.confusions(state.words).sum(axis=0)
    return found
