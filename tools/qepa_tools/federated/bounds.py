"""What bound of one patient's update to choose: norms of what boards send, and bounds judged by training people."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.learn import DELTA_NORM_LIMIT
from qepa_server.config import LearningConfig

from ..benchmarks.learning import Chapter
from ..evaluation.cohort import Cohort
from ..recordings.table import Table
from .budget import under_budget
from .choice import choose
from .curves import curves
from .people import Split, cases_of, ward_of_boards
from .plan import CLIP, EPSILONS, JUDGED, PLAN, SIMULATED, Plan, read_people
from .timing import timing_table
from .training import Course, Way, Words

_CLIPS = (512, 1024, 2048, 3072, 4096)
_FREE = LearningConfig(clip_norm=0)


def chapter(data: Path, say: Callable[[str], None], plan: Plan = PLAN) -> Chapter:
    """Make the table of bounds, and beside it what a round costs, from a directory of WFDB records."""
    cohort, chosen = read_people(data, plan)
    bounds = bounds_table(cohort, chosen, plan, lambda what: say(f"federated bounds: {what}"))
    say("federated: the cost of a round")
    first = chosen[0]
    ward = ward_of_boards(cases_of(cohort, first.ward), boards=plan.size.boards, gateways=plan.size.gateways, rounds=1)
    course = Course(name="", rounds=min(plan.budget_rounds), start=first.start, towards_start=True)
    timing = timing_table(ward, under_budget(course, EPSILONS[0], CLIP))
    return Chapter(tables={"federated-bounds": bounds, "federated-bounds-round": timing})


def bounds_table(cohort: Cohort, chosen: Sequence[Split], plan: Plan, say: Callable[[str], None]) -> Table:
    """Return a row for each clip_norm. The people who judge it judge no other table of the same split."""
    course = Course(name="", rounds=plan.hostile_rounds, way=Way.QUICK, learning=_FREE, towards_start=True)
    short = replace(course, rounds=min(plan.budget_rounds))

    def candidates(start: Words) -> list[Course]:
        plain = [replace(course, start=start, learning=LearningConfig(clip_norm=clip)) for clip in _CLIPS]
        return plain + [under_budget(replace(short, start=start), EPSILONS[0], clip) for clip in _CLIPS]

    plain, noisy = choose(cohort, chosen, candidates, say, plan.size, [len(_CLIPS)] * 2)
    lengths = _lengths(cohort, chosen, course, plan, say)
    rows = []
    for place, clip in enumerate(_CLIPS):
        scores = [f"{100 * score:.2f}" for score in (*plain.scores[place], *noisy.scores[place])]
        rows.append([str(clip), f"{(lengths > clip).mean():.0%}", *scores])
    low, half, high, most = np.percentile(lengths, [10, 50, 90, 99])
    return Table(
        title="Bounds of one patient's update (clip_norm), judged by people who judge no other table",
        columns=["clip_norm", "updates it shortens", *JUDGED, *(f"epsilon {EPSILONS[0]:g}: {each}" for each in JUDGED)],
        rows=rows,
        notes=[
            f"{course.rounds} rounds, with the budget {short.rounds}. Norms of updates (Q12; boards keep within "
            f"{DELTA_NORM_LIMIT} unasked): 10 % are below {low:.0f}, half below {half:.0f}, 90 % below {high:.0f}, "
            f"99 % below {most:.0f}.",
            SIMULATED,
        ],
    )


def _lengths(
    cohort: Cohort, chosen: Sequence[Split], course: Course, plan: Plan, say: Callable[[str], None]
) -> NDArray[np.float64]:
    found: list[NDArray[np.float64]] = []

    def courses(start: Words, _split: int) -> list[Course]:
        return [replace(course, start=start)]

    def seen(_round: int, updates: NDArray[np.int32]) -> None:
        found.append(np.linalg.norm(updates[0].astype(np.float64), axis=1))

    curves(cohort, chosen, courses, say, plan.size, seen)
    return np.concatenate(found)
