"""Each attack against each aggregator: the server's own rules, watch and cells on simulated boards, no encryption.

All scenarios learn side by side on the same beats. Nothing here chooses a setting by its result.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.learn import DELTA_NORM_LIMIT
from qepa_server.config import LearningConfig
from qepa_server.robust.aggregate import Aggregator
from qepa_server.robust.choice import Rule
from qepa_server.robust.failures import Outcome
from qepa_server.robust.suspicion import OpenedCell
from qepa_server.robust.watch import Watch, WatchSettings
from qepa_server.training.initial import initial_model

from .attackers import FLIPS_LABELS, SENDS, Attack
from .batch_learning import N_CLASSES, Ints, local_updates
from .ward import SimulatedWard

_AT_ONCE = 24  # scenarios that learn in one batch: what fits a cache


class Watched(StrEnum):
    """Whether the watch looks on, and whether a person follows what it leaves to a person, each time."""

    NOT = ""
    ALONE = ", watch"
    PERSON = ", watch and person"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table. ``share``: of the patients, hostile. ``watch``: what quarantines beside the rule."""

    attack: Attack
    share: float
    rule: Rule
    bucket: int = 1
    watch: Watched = Watched.NOT

    @property
    def defence(self) -> str:
        """Name of the rule with what is beside it."""
        name = self.rule.value.replace("_", " ")
        return name + (f", buckets of {self.bucket}" if self.bucket > 1 else "") + self.watch.value


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySettings:
    """Cells of ``cell_target`` patients, at least ``min_group``. Models begin at zeros, at their own pace.

    Boards clip to nothing but what they keep unasked, so the bound of cells is wide as well.
    """

    seed: int = 1
    cell_target: int = 12
    min_group: int = 10
    learning: LearningConfig = field(
        default_factory=lambda: LearningConfig(rate_numerator=4, decay=16, norm_bound=3072, clip_norm=0)
    )
    watch: WatchSettings = field(default_factory=WatchSettings)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a scenario, on held-out persons; ``caught`` hostile, ``wronged`` honest patients quarantined."""

    scenario: Scenario
    accuracy: float
    macro_f1: float
    hostile: int
    hostile_cells: float
    voided_cells: float
    caught: int
    wronged: int
    first_round: int | None


@dataclass(slots=True)
class _Run:
    scenario: Scenario
    hostile: frozenset[int]
    join: Aggregator
    watch: Watch
    words: tuple[int, ...]
    quarantined: set[int] = field(default_factory=set)
    first_round: int | None = None
    cells: int = 0
    hostile_cells: int = 0
    voided: int = 0


def scenarios(attacks: Iterable[Attack], shares: Sequence[float], rules: Sequence[Rule]) -> list[Scenario]:
    """Return every attack and share against every rule, the trimmed mean also behind buckets and with the watch."""
    defences = [(rule, 1, Watched.NOT) for rule in rules]
    if Rule.TRIMMED_MEAN in rules:
        defences.append((Rule.TRIMMED_MEAN, 2, Watched.NOT))
        defences += [(Rule.TRIMMED_MEAN, 1, Watched.ALONE), (Rule.TRIMMED_MEAN, 1, Watched.PERSON)]
    attacked = [(attack, share) for attack in attacks if attack is not Attack.NONE for share in shares if share > 0]
    return [
        Scenario(attack, share, rule, bucket, watch)
        for attack, share in [(Attack.NONE, 0.0), *attacked]
        for rule, bucket, watch in defences
    ]


def run_study(
    ward: SimulatedWard,
    wanted: Sequence[Scenario],
    settings: StudySettings,
    advanced: Callable[[int], None] = lambda _rounds: None,
) -> list[Result]:
    """Simulate all scenarios; ``advanced(1)`` is called after each round."""
    order = np.random.default_rng(settings.seed).permutation(len(ward.names))
    runs = [_begin(scenario, order, settings) for scenario in wanted]
    for number in range(len(ward.beats)):
        for first in range(0, len(runs), _AT_ONCE):
            batch = runs[first : first + _AT_ONCE]
            labels = np.stack([_labels(run, ward.labels[number]) for run in batch])
            words = np.array([run.words for run in batch], np.int32)
            deltas = local_updates(words, ward.beats[number], labels)
            for run, delta in zip(batch, deltas, strict=True):
                _round(run, ward, number, delta.astype(np.float64), settings)
        advanced(1)
    return [_result(run, ward) for run in runs]


def _begin(scenario: Scenario, order: NDArray[np.int64], settings: StudySettings) -> _Run:
    learning = settings.learning.model_copy(update={"aggregator": scenario.rule, "bucket": scenario.bucket})
    first = initial_model(
        features=learning.features, hidden=0, classes=learning.classes, fraction_bits=learning.fraction_bits
    )
    hostile = frozenset(int(i) for i in order[: round(scenario.share * len(order))])
    join = learning.join(np.random.default_rng(settings.seed))
    return _Run(scenario, hostile, join, Watch(settings.watch), first.words)


def _labels(run: _Run, labels: Ints) -> Ints:
    if run.scenario.attack not in FLIPS_LABELS:
        return labels
    flipped = labels.copy()
    rows = sorted(run.hostile)
    flipped[rows] = np.where(labels[rows] < 0, -1, N_CLASSES - 1 - labels[rows])
    return flipped


def _round(run: _Run, ward: SimulatedWard, number: int, sent: NDArray[np.float64], settings: StudySettings) -> None:
    learning = settings.learning
    liars = sorted(run.hostile - run.quarantined)
    honest = sorted(set(range(len(sent))) - run.hostile - run.quarantined)
    if liars:
        # Larger words would fail the range check of a cell with the expected number of colluders.
        reach = learning.q_max * settings.cell_target / (1 + run.scenario.share * settings.cell_target)
        sent[liars] = np.clip(np.rint(SENDS[run.scenario.attack](sent[liars], sent[honest])), -reach, reach)
    cells = ward.cells(number + 1, settings.seed, settings.cell_target, settings.min_group, run.quarantined)
    opened: list[OpenedCell] = []
    outcomes: list[Outcome] = []
    for members in cells:
        total = sent[members].sum(axis=0)
        failed = bool(np.abs(total).max() > len(members) * learning.q_max)
        outcomes.append(
            Outcome(
                number + 1,
                tuple(sorted({ward.gateways[i] for i in members})),
                tuple((ward.names[i], ward.gateways[i]) for i in members),
                failed,
                out_of_range=failed,
            )
        )
        run.cells += 1
        run.hostile_cells += bool(run.hostile & set(members))
        run.voided += failed
        if not failed:
            names = tuple(ward.names[i] for i in members)
            opened.append(OpenedCell(names, (1,) * len(members), total.astype(np.int64)))
    if opened:
        means = np.array([cell.total / sum(cell.boards) for cell in opened])
        run.words = learning.rule.apply(run.words, run.join(means))
    if run.scenario.watch is not Watched.NOT:
        run.watch.add(number + 1, opened, outcomes, honest_norm=DELTA_NORM_LIMIT * learning.q_max / learning.bound)
        _quarantine(run, ward, number + 1)


def _quarantine(run: _Run, ward: SimulatedWard, round_: int) -> None:
    for finding in run.watch.findings():
        if not finding.may_quarantine and run.scenario.watch is not Watched.PERSON:
            continue
        found = {i for i, name in enumerate(ward.names) if name in finding.patients}
        found |= {i for i, gateway in enumerate(ward.gateways) if gateway == finding.gateway}
        if found - run.quarantined and run.first_round is None:
            run.first_round = round_
        run.quarantined |= found


def _result(run: _Run, ward: SimulatedWard) -> Result:
    accuracy, macro_f1 = ward.held_out.accuracy(run.words)
    return Result(
        run.scenario,
        accuracy,
        macro_f1,
        len(run.hostile),
        run.hostile_cells / max(1, run.cells),
        run.voided / max(1, run.cells),
        len(run.quarantined & run.hostile),
        len(run.quarantined - run.hostile),
        run.first_round,
    )
