"""Many courses of learning side by side on one ward: each round, boards learn, sums are made, each model moves."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_server.config import BudgetConfig, LearningConfig, PrivacyConfig, RoundsConfig, ServerConfig
from qepa_server.planning import plan_rounds
from qepa_server.privacy.accountant import cost
from qepa_server.robust.aggregate import Aggregator
from qepa_server.training.averaging import LearningRule
from qepa_server.unmask.opening import OpenedSum
from qepa_uplink.messages import StreamSpec
from qepa_wire.discrete_gaussian import tail

from ..attacks.attackers import FLIPS_LABELS, SENDS, Attack
from ..attacks.batch_learning import N_CLASSES, WORDS, local_updates
from ..attacks.ward import SimulatedWard
from .boards import Ints, board_words, exact_noise, quick_noise, quick_words
from .sealed import SealedWard, Terms

_AT_ONCE = 24  # models that learn in one batch: what fits a cache
Words = tuple[int, ...]


class Way(Enum):
    """How updates come together."""

    FEDAVG = "FedAvg"  # the mean of all boards' updates in floats: no clip, no cells, no encryption, no noise
    SEALED = "LightHE"  # the true protocol
    QUICK = "quick"  # the same sums without sealing, noise by a float generator: to choose settings with


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One curve. ``learning``: as the server's configuration. ``start``: words; () for zeros.

    ``towards_start``: decay goes to the start instead of to zero. ``share`` of the patients are hostile.
    ``epsilon``: the budget that the noise in ``learning`` is for, 0 for none.
    """

    name: str
    rounds: int
    learning: LearningConfig = field(default_factory=LearningConfig)
    way: Way = Way.SEALED
    start: Words = ()
    towards_start: bool = False
    attack: Attack = Attack.NONE
    share: float = 0.0
    epsilon: float = 0.0
    delta: float = 1e-6
    cell_target: int = 12
    min_group: int = 10

    @property
    def config(self) -> ServerConfig:
        """The server's configuration, checked as a server checks it when it starts."""
        budget = BudgetConfig(epsilon=self.epsilon, delta=self.delta)
        return ServerConfig(
            state_dir=Path(),
            identity=Path(),
            root_key=Path(),
            learning=self.learning,
            rounds=RoundsConfig(min_group=self.min_group, cell_target=self.cell_target),
            privacy=PrivacyConfig(learning=budget),
        )

    @property
    def rule(self) -> LearningRule:
        """How its model moves."""
        return replace(self.learning.rule, towards=self.start if self.towards_start else ())


@dataclass(slots=True)
class State:
    """Where a course is. ``rho``: what the server's accountant charged each patient; ``refused``: cells not opened."""

    course: Course
    words: Words
    hostile: frozenset[int]
    join: Aggregator
    spec: StreamSpec
    n_max: int
    rho: NDArray[np.float64]
    cells: int = 0
    refused: int = 0
    last_sums: list[OpenedSum] = field(default_factory=list)


def train(
    ward: SimulatedWard,
    courses: Sequence[Course],
    seed: int,
    seen: Callable[[int, NDArray[np.int32]], None] = lambda _round, _updates: None,
) -> Iterator[tuple[int, list[State]]]:
    """Yield (round, states of the courses that go on so long) after each; ``seen(round, updates)``: as learnt.

    The seed draws who is hostile, cells, keys and noise.
    """
    order = np.random.default_rng(seed).permutation(len(ward.names))
    sealing = SealedWard(ward.names, ward.gateways, np.random.default_rng(seed))
    states = [_begin(course, order, seed, len(ward.names)) for course in courses]
    for number in range(max(course.rounds for course in courses)):
        going = [state for state in states if number < state.course.rounds]
        for first in range(0, len(going), _AT_ONCE):
            batch = going[first : first + _AT_ONCE]
            labels = np.stack([_labels(state, ward.labels[number]) for state in batch])
            words = np.array([state.words for state in batch], np.int32)
            updates = local_updates(words, ward.beats[number], labels)
            seen(number, updates)
            for place, state in enumerate(batch):
                _round(state, ward, sealing, number + 1, updates[place], (seed, first + place))
        yield number + 1, going


def _begin(course: Course, order: NDArray[np.int64], seed: int, patients: int) -> State:
    hostile = frozenset(int(i) for i in order[: round(course.share * patients)])
    plan = plan_rounds(course.config)
    join = course.learning.join(np.random.default_rng(seed))
    words = course.start or (0,) * WORDS
    return State(course, words, hostile, join, plan.streams[1], plan.n_max, np.zeros(patients))


def _labels(state: State, labels: NDArray[np.int32]) -> NDArray[np.int32]:
    if state.course.attack not in FLIPS_LABELS:
        return labels
    flipped = labels.copy()
    rows = sorted(state.hostile)
    flipped[rows] = np.where(labels[rows] < 0, -1, N_CLASSES - 1 - labels[rows])
    return flipped


def _round(
    state: State,
    ward: SimulatedWard,
    sealing: SealedWard,
    number: int,
    updates: NDArray[np.int32],
    seeds: tuple[int, ...],
) -> None:
    course, spec = state.course, state.spec
    if course.way is Way.FEDAVG:
        mean = updates.astype(np.float64).mean(axis=0) * spec.q_max / spec.bound
        state.words = course.rule.apply(state.words, mean)
        return
    sent = _sent(state, updates, number, seeds)
    cells = ward.cells(number, seeds[0], course.cell_target, course.min_group, set())
    if course.way is Way.SEALED:
        terms = Terms(round=number, model=number, spec=spec, n_max=state.n_max, min_group=course.min_group)
        opened = sealing.sums(sent, cells, terms)
        state.last_sums = [found for found in opened if isinstance(found, OpenedSum)]
    else:
        state.last_sums = list(plain_sums(sent, cells, ward.names, spec))
    state.cells += len(cells)
    state.refused += len(cells) - len(state.last_sums)
    if state.last_sums:
        means = np.array([np.asarray(found.total, np.float64) / len(found.boards) for found in state.last_sums])
        state.words = course.rule.apply(state.words, state.join(means))
    if spec.noise_q8:
        for found in state.last_sums:
            state.rho[np.array(found.boards) - 1] += cost(spec, [1], len(found.boards))


def _sent(state: State, updates: NDArray[np.int32], number: int, seeds: tuple[int, ...]) -> Ints:
    """Return the words that boards put into the round; hostile ones add no noise and clip nothing."""
    spec, course = state.spec, state.course
    quick = course.way is Way.QUICK
    sent = quick_words(updates, spec) if quick else board_words(updates, spec, state.n_max)
    liars = sorted(state.hostile)
    lies = np.zeros((0, sent.shape[1]))
    if liars:
        # Larger words would fail the range check of a cell with the expected number of colluders.
        reach = spec.q_max * course.cell_target / (1 + course.share * course.cell_target)
        honest = np.delete(sent, liars, axis=0).astype(np.float64)
        own = updates[liars].astype(np.float64) * spec.q_max / spec.bound
        lies = np.clip(np.rint(SENDS[course.attack](own, honest)), -reach, reach)
    if spec.noise_q8:
        if quick:
            sent = sent + quick_noise(sent.shape, spec.noise_q8, np.random.default_rng((*seeds, number)))
        else:
            drawn = random.Random(repr((*seeds, number)))  # noqa: S311  # figures that can be made again
            sent = sent + exact_noise(sent.shape, spec.noise_q8, drawn.getrandbits)
    sent[liars] = lies
    return sent


def plain_sums(
    sent: Ints, cells: Sequence[Sequence[int]], names: Sequence[str], spec: StreamSpec
) -> Iterator[OpenedSum]:
    """Yield the sums that the protocol opens, added up in the clear; those beyond the server's range are left out."""
    word_max = spec.q_max + tail(spec.noise_q8)
    for members in cells:
        total = sent[list(members)].sum(axis=0)
        if int(np.abs(total).max()) <= len(members) * word_max:
            patients = tuple(sorted(names[i] for i in members))
            yield OpenedSum(tuple(total.tolist()), tuple(sorted(i + 1 for i in members)), patients)
