"""Where a ward starts, and what its decay goes to."""

from collections.abc import Callable, Sequence
from pathlib import Path

from qepa_server.config import LearningConfig

from ..benchmarks.learning import Chapter
from ..evaluation.cohort import Cohort
from ..recordings.table import Table
from .choice import Choice, choose
from .curves import Curve, curves
from .figures import start_figure
from .people import Split
from .plan import JUDGED, PEOPLE, PLAN, SIMULATED, Plan, gain_cells, read_people, score_cells
from .training import Course, Way, Words

_Rules = tuple[tuple[float, int], ...]
# name, whether it starts from a model and decays towards it, (rate, decay) to choose from
_KINDS: tuple[tuple[str, bool, bool, _Rules], ...] = (
    ("zeros", False, False, ((2, 0), (2, 64), (4, 16), (4, 64), (4, 128), (8, 32))),
    ("a model, decay to zero", True, False, ((0.5, 0), (0.5, 64), (1, 64), (2, 128))),
    ("a model, decay to it", True, True, ((0.5, 8), (1, 4), (1, 8), (1, 16), (2, 8), (2, 16))),
)


def rule(rate: float, decay: int) -> LearningConfig:
    """Return the server's defaults with another rate (a multiple of 1/8) and decay."""
    return LearningConfig(rate_numerator=round(8 * rate), rate_denominator=8, decay=decay)


def chapter(data: Path, say: Callable[[str], None], plan: Plan = PLAN) -> Chapter:
    """Make the table and its figure from a directory of WFDB records."""
    cohort, chosen = read_people(data, plan)
    table, found = start_table(cohort, chosen, plan, lambda what: say(f"federated start: {what}"))
    return Chapter(tables={"federated-start": table}, figures={"federated-start.png": start_figure(found)})


def start_table(
    cohort: Cohort, chosen: Sequence[Split], plan: Plan, say: Callable[[str], None]
) -> tuple[Table, list[Curve]]:
    """Return each start with rate and decay chosen for it, and the server's defaults, beside the model alone."""

    def candidates(start: Words) -> list[Course]:
        return [
            _course(name, plan, rate_decay, start if modelled else (), home=home, way=Way.QUICK)
            for name, modelled, home, rules in _KINDS
            for rate_decay in rules
        ]

    choices = choose(cohort, chosen, candidates, say, plan.inner, [len(rules) for *_, rules in _KINDS])

    def judged(start: Words, split: int) -> list[Course]:
        nested = [
            _course(name, plan, rules[choice.places[split]], start if modelled else (), home=home)
            for (name, modelled, home, rules), choice in zip(_KINDS, choices, strict=True)
        ]
        old = _course("zeros, rate 4, decay 16", plan, (4, 16), (), home=False)
        usual = Course(name="a model, the server's defaults", rounds=plan.rounds, start=start, towards_start=True)
        return [old, *nested, usual]

    found = curves(cohort, chosen, judged, say, plan.size)
    usual = found[-1]
    rows = [["the model of other people alone", "", "0", *score_cells(usual, 0), "", ""]]
    picked = ["", *(_picked(choice, rules) for choice, (*_, rules) in zip(choices, _KINDS, strict=True)), ""]
    for curve, settings in zip(found, picked, strict=True):
        for round_ in plan.shown:
            gains = gain_cells(curve, round_, usual, 0)
            rows.append([curve.course.name, settings, str(round_), *score_cells(curve, round_), *gains])
    columns = ["start", "chosen most often", "rounds", *JUDGED, "accuracy, less the model alone", "macro F1, less it"]
    notes = [PEOPLE, SIMULATED, "Rate and decay are chosen inside each split, by its other people."]
    return Table(
        title="Where a ward starts, and what its decay goes to", columns=columns, rows=rows, notes=notes
    ), found


def _course(
    name: str, plan: Plan, rate_decay: tuple[float, int], start: Words, *, home: bool, way: Way = Way.SEALED
) -> Course:
    return Course(name=name, rounds=plan.rounds, learning=rule(*rate_decay), start=start, towards_start=home, way=way)


def _picked(choice: Choice, rules: _Rules) -> str:
    rate, decay = rules[choice.usual]
    return f"rate {rate:g}, decay {decay} ({choice.places.count(choice.usual)} of {len(choice.places)})"
