"""How much of the comparison is run, and what is said beside all of its tables."""

from dataclasses import dataclass, replace
from pathlib import Path

from ..attacks.attackers import Attack
from ..attacks.ward import default_cache
from ..evaluation.cohort import Cohort, read_cohort
from ..privacy.plan import LEARNING_CLIP
from ..recordings.table import number
from .curves import Curve, Ints, Score, WardSize, interval, taught_by
from .people import Split, accuracy, macro_f1, splits

CLIP = LEARNING_CLIP
EPSILONS = (8.0, 3.0, 1.0)
JUDGED = ("accuracy %", "macro F1 %")
SIMULATED = (
    "Stand-in: 200 boards play the recordings of the ward's 8 or 9 people, each from another place, and every beat has "
    "a label."
)
PEOPLE = "On people of whom neither the ward nor the start knows anything; in brackets 95 % intervals over people."

_WARD, _INNER = WardSize(), WardSize(boards=60, gateways=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``repeats``: of four splits, in which everybody judges once; ``inner``: the ward in which settings are chosen."""

    size: WardSize = _WARD
    inner: WardSize = _INNER
    repeats: int = 1
    rounds: int = 60
    budget_rounds: tuple[int, ...] = (10, 30)
    hostile_rounds: int = 20
    attacks: tuple[Attack, ...] = tuple(attack for attack in Attack if attack is not Attack.NONE)
    shares: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)

    @property
    def shown(self) -> list[int]:
        """Rounds after which tables show a curve."""
        return sorted({min(self.rounds, look) for look in (10, 30, self.rounds)})


PLAN = Plan()


def read_people(data: Path, plan: Plan) -> tuple[Cohort, list[Split]]:
    """Read a directory of WFDB records and deal out its people; DataError for fewer than twelve."""
    cohort = read_cohort(data, default_cache(), lambda names, _what: names)
    chosen = splits(cohort, plan.repeats)
    return cohort, [replace(split, start=taught_by(cohort, split.others)) for split in chosen]


def score_cells(curve: Curve, round_: int) -> list[str]:
    """Return accuracy and macro F1 after a round, in percent, with intervals."""
    return [_cell(curve.confusions[round_], None, score) for score in (accuracy, macro_f1)]


def gain_cells(curve: Curve, round_: int, other: Curve, other_round: int) -> list[str]:
    """Return the differences to another curve, in points, with intervals over the same people."""
    one, two = curve.confusions[round_], other.confusions[other_round]
    return [_cell(one, two, score) for score in (accuracy, macro_f1)]


def _cell(confusions: Ints, minus: Ints | None, score: Score) -> str:
    value = float(score(confusions.sum(axis=0)))
    digits = 1 if minus is None else 2
    if minus is not None:
        value -= float(score(minus.sum(axis=0)))
    low, high = interval(confusions, score, minus)
    return f"{number(100 * value, digits)} ({number(100 * low, digits)} to {number(100 * high, digits)})"
