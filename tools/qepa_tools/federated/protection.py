"""What protection and budgets cost beside federated averaging in the clear."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from qepa_board.learning.learn import DELTA_NORM_LIMIT
from qepa_server.config import LearningConfig
from qepa_server.robust.choice import Rule

from ..benchmarks.learning import Chapter
from ..evaluation.cohort import Cohort
from ..recordings.table import Table
from .budget import under_budget
from .curves import Curve, curves
from .figures import protection_figure
from .people import Split
from .plan import CLIP, EPSILONS, JUDGED, PEOPLE, PLAN, SIMULATED, Plan, gain_cells, read_people, score_cells
from .starts import rule
from .training import Course, Way, Words


def chapter(data: Path, say: Callable[[str], None], plan: Plan = PLAN) -> Chapter:
    """Make the table and its figure from a directory of WFDB records."""
    cohort, chosen = read_people(data, plan)
    table, found = protection_table(cohort, chosen, plan, lambda what: say(f"federated protection: {what}"))
    return Chapter(
        tables={"federated-protection": table}, figures={"federated-protection.png": protection_figure(found)}
    )


def protection_table(
    cohort: Cohort, chosen: Sequence[Split], plan: Plan, say: Callable[[str], None]
) -> tuple[Table, list[Curve]]:
    """Return each protection from zeros and from a model of other people; the first of each start is FedAvg."""

    def courses(start: Words, _split: int) -> list[Course]:
        return [*_from((), rule(4, 64), plan), *_from(start, LearningConfig(), plan)]

    found = curves(cohort, chosen, courses, say, plan.size)
    half = len(found) // 2
    rows = []
    for begin, own in (("zeros", found[:half]), ("a model of others", found[half:])):
        for curve in own:
            for round_ in [curve.course.rounds] if curve.course.epsilon else plan.shown:
                spent = f"{curve.spent:.2f}" if curve.course.epsilon else ""
                gains = ["", ""] if curve is own[0] else gain_cells(curve, round_, own[0], round_)
                rows.append([begin, curve.course.name, str(round_), spent, *score_cells(curve, round_), *gains])
    notes = [
        PEOPLE,
        SIMULATED,
        f"LightHE as marked; budgets with the trimmed mean and clip_norm {CLIP}. epsilon: for all rounds together at "
        "delta 1e-6, cells of 12 patients, 10 at least; spent: by the server's account. From zeros: rate 4, decay 64.",
    ]
    columns = ["start", "protection", "rounds", "spent", *JUDGED, "accuracy, less FedAvg", "macro F1, less it"]
    return Table(title="Protection, in the true protocol", columns=columns, rows=rows, notes=notes), found


def _from(start: Words, learning: LearningConfig, plan: Plan) -> list[Course]:
    plain = Course(
        name="FedAvg", rounds=plan.rounds, learning=learning, start=start, towards_start=True, way=Way.FEDAVG
    )
    sealed = replace(plain, way=Way.SEALED)
    # The same updates as FedAvg: no bound but the one that boards keep unasked.
    free = {"clip_norm": 0, "norm_bound": DELTA_NORM_LIMIT}
    made = [
        plain,
        replace(sealed, name="LightHE, mean", learning=learning.model_copy(update={**free, "aggregator": Rule.MEAN})),
        replace(sealed, name="LightHE, trimmed mean", learning=learning.model_copy(update=free)),
        replace(sealed, name="LightHE, bounds (default)"),
    ]
    for epsilon in EPSILONS:
        for rounds in plan.budget_rounds:
            made.append(under_budget(replace(sealed, name=f"epsilon {epsilon:g}", rounds=rounds), epsilon, CLIP))
    return made
