"""Hostile boards in the true protocol, without and with a budget."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from qepa_server.config import LearningConfig
from qepa_server.robust.choice import Rule

from ..attacks.attackers import Attack
from ..benchmarks.learning import Chapter
from ..evaluation.cohort import Cohort
from ..recordings.table import Table
from .budget import under_budget
from .curves import Curve, curves
from .figures import PER_ATTACK, hostile_figure
from .people import Split
from .plan import CLIP, EPSILONS, PLAN, SIMULATED, Plan, read_people
from .training import Course, Way, Words

_RULES = ("trimmed mean", "plain mean")
_UNBOUNDED = 1 << 20  # of a cell's mean: what plain averaging would take


def chapter(data: Path, say: Callable[[str], None], plan: Plan = PLAN) -> Chapter:
    """Make the table and its figure from a directory of WFDB records."""
    cohort, chosen = read_people(data, plan)
    table, found = hostile_table(cohort, chosen, plan, lambda what: say(f"federated hostile: {what}"))
    return Chapter(tables={"federated-hostile": table}, figures={"federated-hostile.png": hostile_figure(found)})


def hostile_table(
    cohort: Cohort, chosen: Sequence[Split], plan: Plan, say: Callable[[str], None]
) -> tuple[Table, list[Curve]]:
    """Return a row for each attack and share; curves are PER_ATTACK a row, in the order of the columns."""
    attacked = [(Attack.NONE, 0.0), *((attack, share) for attack in plan.attacks for share in plan.shares)]

    def courses(start: Words, _split: int) -> list[Course]:
        return [course for attack, share in attacked for course in _under(attack, share, start, plan)]

    found = curves(cohort, chosen, courses, say, plan.size)
    rows = [["the start alone", "", *[_scores(found[0], 0)] * PER_ATTACK, ""]]
    for at, (attack, share) in enumerate(attacked):
        own = found[PER_ATTACK * at : PER_ATTACK * (at + 1)]
        void = own[0].refused / max(1, own[0].cells)
        rows.append([attack.value, f"{share:.0%}", *(_scores(curve, -1) for curve in own), f"{void:.0%}"])
    notes = [
        f"{plan.hostile_rounds} rounds from a model of other people; with a budget {min(plan.budget_rounds)}. The "
        "plain mean bounds no cell. Void: cells beyond the range check, trimmed mean. Quarantine is off. With a budget "
        "sums are added in the clear, which gives the same (tests/unit/federated), with noise of a float generator.",
        SIMULATED,
    ]
    return (
        Table(
            title="Hostile boards, in the true protocol: accuracy % / macro F1 % on people outside the ward",
            columns=["attack", "hostile", *_RULES, *(f"epsilon {EPSILONS[0]:g}, {name}" for name in _RULES), "void"],
            rows=rows,
            notes=notes,
        ),
        found,
    )


def _under(attack: Attack, share: float, start: Words, plan: Plan) -> list[Course]:
    bounded = Course(
        name=attack.value, rounds=plan.hostile_rounds, start=start, towards_start=True, attack=attack, share=share
    )
    mean = LearningConfig(aggregator=Rule.MEAN, norm_bound=_UNBOUNDED)
    free = [bounded, replace(bounded, learning=mean)]
    short = [replace(course, rounds=min(plan.budget_rounds), way=Way.QUICK) for course in free]
    return free + [under_budget(course, EPSILONS[0], CLIP) for course in short]


def _scores(curve: Curve, round_: int) -> str:
    return f"{100 * curve.accuracy(round_):.1f} / {100 * curve.macro_f1(round_):.1f}"
