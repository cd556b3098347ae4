"""How much of a patient's beats comes back from what an attacker sees: their update, or a sum that holds it.

Each view of a patient's first round (the model is all zeros, when updates tell most) is attacked as well as known:

- a few beats alone in an update, and the mean beat of a whole half minute, by optimisation (single_beat.py), with their
  labels given;
- how many beats of each class there were, by regression (label_counts.py).

Whoever is attacked, the attacker learnt from other people, and others in the sum are other people. Errors are in shares
of that of the best guess without any update, the mean over people: 0 is exact, 1 is nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from threadpoolctl import threadpool_limits

from qepa_board.learning.learn import DELTA_NORM_LIMIT
from qepa_server.config import LearningConfig

from ..attacks.batch_learning import N_CLASSES, WORDS, Ints, local_updates
from ..attacks.ward import SimulatedWard
from .label_counts import best_guess
from .membership import Flags, Floats
from .protection import Protection
from .single_beat import Puzzle, read_beats, read_one_beat

BATCHES = (1, 2, 4, 8)
_FOLDS = 3
_ZERO = np.zeros((1, WORDS), np.int32)
_NOBODY = np.array([-1])
_UNLIKE = 20.0  # deviation of a word, as beats of a class are not alike


class View(StrEnum):
    """What the attacker has."""

    UPDATE = "one update"
    UPDATE_NOISE = "one update with its share of noise"
    SUM = "sum of a cell"
    SUM_NOISE = "sum of a cell with noise"

    @property
    def noisy(self) -> bool:
        """Whether boards clipped and added their shares."""
        return self in (View.UPDATE_NOISE, View.SUM_NOISE)

    @property
    def summed(self) -> bool:
        """Whether it is of a cell."""
        return self in (View.SUM, View.SUM_NOISE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """Errors, and the correlation of what makes a patient's mean beat differ from others'.

    ``beats``: error by number of beats in the update. ``mean_beat``, ``label_counts`` (log(1 + n)): of half a minute.
    """

    view: View
    epsilon: float
    targets: int
    beats: dict[int, float]
    mean_beat: float
    mean_beat_correlation: float
    label_counts: float


@dataclass(frozen=True, slots=True)
class _Windows:
    """Half minutes of patients: updates (n, words), log(1 + beats of each class) (n, classes), and whose."""

    updates: Ints
    counts: Floats
    persons: NDArray[np.int64]

    def of(self, rows: Flags) -> "_Windows":
        return _Windows(self.updates[rows], self.counts[rows], self.persons[rows])


@dataclass(frozen=True, slots=True)
class _Scene:
    """A view, and the people whom the attacker knows: what of them fills sums, and what is usual."""

    view: View
    protection: Protection
    cell: int
    known: _Windows
    usual_beats: tuple[Floats, Floats]
    rng: np.random.Generator

    @property
    def _unit(self) -> float:
        return LearningConfig().bound / self.protection.q_max if self.view.noisy else 1.0

    def sealed(self, updates: Ints) -> Floats:
        """What boards seal, in units of the model."""
        return self.protection.words(updates) * self._unit if self.view.noisy else updates.astype(np.float64)

    def noise(self, rows: int) -> Floats:
        if not self.view.noisy:
            return np.zeros((rows, WORDS))
        return self.protection.noise(self.cell if self.view.summed else 1, (rows, WORDS), self.rng) * self._unit

    def shows(self, updates: Ints, persons: NDArray[np.int64]) -> Floats:
        """What is seen of each update; the others of a sum are known people, never the same person."""
        seen = self.sealed(updates) + self.noise(len(updates))
        if self.view.summed:
            others = self.sealed(self.known.updates)
            for row, person in enumerate(persons):
                strangers = np.flatnonzero(self.known.persons != person)
                seen[row] += others[self.rng.choice(strangers, self.cell - 1)].sum(axis=0)
        return seen

    def puzzle(self, labels: Ints, groups: NDArray[np.int64], mean: Floats, deviation: Floats) -> Puzzle:
        clip = self.protection.clip_norm if self.view.noisy else 0
        limit = min(DELTA_NORM_LIMIT, clip or DELTA_NORM_LIMIT)
        return Puzzle(words=_ZERO[0], labels=labels, groups=groups, mean=mean, deviation=deviation, norm_limit=limit)

    def usual_others(self) -> tuple[Floats, Floats]:
        """Mean and covariance of all in it but the target's own words."""
        covariance = (1.0 + self.noise(200).var()) * np.eye(WORDS)
        if not self.view.summed:
            return np.zeros(WORDS), covariance
        others = self.sealed(self.known.updates)
        return (self.cell - 1) * others.mean(axis=0), covariance + (self.cell - 1) * np.cov(others.T)


def reconstruct(
    ward: SimulatedWard,
    persons: NDArray[np.int64],
    protection: Protection,
    *,
    cell: int,
    targets: int,
    seed: int,
    advanced: Callable[[int], None] = lambda _views: None,
) -> list[Reconstruction]:
    """Attack every view; noise and clipping of ``protection`` are in the noisy ones, which are left out if it has none.

    Everybody is attacked once, with what two thirds of the others show. ``targets``: sets of a few beats, of each
    size. ``advanced(1)`` is called after each view.
    """
    windows = _windows(ward, persons)
    folds = np.array_split(np.random.default_rng([seed, 2]).permutation(np.unique(persons)), _FOLDS)
    views = [view for view in View if protection.noise_q8 or not view.noisy]
    result = []
    with threadpool_limits(1):  # the matrices are small: threads would wait for one another
        for view in views:
            rng = np.random.default_rng([seed, 3])
            result.append(_attack(view, ward, persons, windows, folds, protection, cell, targets, rng))
            advanced(1)
    return result


def _attack(
    view: View,
    ward: SimulatedWard,
    persons: NDArray[np.int64],
    windows: "_Windows",
    folds: Sequence[NDArray[np.int64]],
    protection: Protection,
    cell: int,
    targets: int,
    rng: np.random.Generator,
) -> Reconstruction:
    beats = {n: np.zeros(2) for n in BATCHES}
    mean_beats, counts = _Guesses(), _Guesses()
    for fold in folds:
        known, strangers = ~np.isin(windows.persons, fold), ~np.isin(persons, fold)
        scene = _Scene(view, protection, cell, windows.of(known), _usual(ward, strangers), rng)
        able = np.flatnonzero(~strangers)
        for n in BATCHES:
            beats[n] += _read_few(ward, able, scene, n, -(-targets // _FOLDS))
        _read_mean_beats(ward, able, scene, -(-2 * targets // _FOLDS), mean_beats)
        _count_labels(scene, windows.of(~known), counts)
    return Reconstruction(
        view=view,
        epsilon=protection.epsilon if view.noisy else 0.0,
        targets=targets,
        beats={n: float(wrong / nothing) if nothing else 1.0 for n, (wrong, nothing) in beats.items()},
        mean_beat=mean_beats.error(),
        mean_beat_correlation=mean_beats.correlation(),
        label_counts=counts.error(),
    )


def _windows(ward: SimulatedWard, persons: NDArray[np.int64]) -> _Windows:
    updates, counts, whose = [], [], []
    for beats, labels in zip(ward.beats, ward.labels, strict=True):
        used = np.flatnonzero((labels >= 0).any(axis=1))
        updates.append(local_updates(_ZERO, beats[used], labels[None, used])[0])
        counts.append(np.log1p(np.stack([(labels[used] == c).sum(axis=1) for c in range(N_CLASSES)], axis=1)))
        whose.append(persons[used])
    return _Windows(np.concatenate(updates), np.concatenate(counts), np.concatenate(whose))


def _usual(ward: SimulatedWard, known: Flags) -> tuple[Floats, Floats]:
    """Mean and deviation of beats of each class (classes, features), of all beats where a class is rare."""
    labels, beats = ward.labels[:, known], ward.beats[:, known]
    every = beats[labels >= 0].astype(np.float64)
    mean = np.tile(every.mean(axis=0), (N_CLASSES, 1))
    deviation = np.tile(every.std(axis=0), (N_CLASSES, 1))
    for c in range(N_CLASSES):
        own = beats[labels == c].astype(np.float64)
        if len(own) >= 20:
            mean[c], deviation[c] = own.mean(axis=0), own.std(axis=0)
    return mean, np.maximum(deviation, 1.0)


def _read_few(ward: SimulatedWard, able: NDArray[np.int64], scene: _Scene, n: int, targets: int) -> NDArray[np.float64]:
    """Squared errors of reading ``n`` beats and of the classes' means, summed over ``targets``."""
    mean, deviation = scene.usual_beats
    offset, covariance = scene.usual_others()
    sums = np.zeros(2)
    able = able[(ward.labels[0, able] >= 0).sum(axis=1) >= n]
    for patient in scene.rng.choice(able, targets) if len(able) else ():
        rows = np.flatnonzero(ward.labels[0, patient] >= 0)
        rows = np.sort(scene.rng.choice(rows, n, replace=False))
        beats, classes = ward.beats[0, patient, rows], ward.labels[0, patient, rows]
        update = local_updates(_ZERO, beats[None], classes[None, None])[0]
        seen = scene.shows(update, _NOBODY)[0] - offset
        if n == 1 and scene.view is View.UPDATE:
            guess = read_one_beat(seen)[0][None]
        else:
            puzzle = scene.puzzle(classes, np.arange(n), mean[classes], deviation[classes])
            guess = read_beats(seen, covariance + n * np.eye(WORDS), puzzle)
        sums += (
            _matched_error(guess, beats, classes, deviation[classes]),
            _matched_error(mean[classes], beats, classes, deviation[classes]),
        )
    return sums


def _matched_error(guess: Floats, beats: Ints, classes: Ints, deviation: Floats) -> float:
    """Squared error in deviations of the classes, beats of one class in the order that fits best."""
    apart = (((guess[:, None] - beats[None]) / deviation[:, None]) ** 2).sum(axis=2)
    apart[classes[:, None] != classes[None]] = 1e12
    left, right = linear_sum_assignment(apart)
    return float(apart[left, right].sum())


def _read_mean_beats(
    ward: SimulatedWard, able: NDArray[np.int64], scene: _Scene, targets: int, found: "_Guesses"
) -> None:
    """Read the mean beat of half a minute as if beats of a class were alike; the labels are given, in order."""
    mean, deviation = scene.usual_beats
    offset, covariance = scene.usual_others()
    able = able[(ward.labels[0, able] >= 0).any(axis=1)]
    for patient in scene.rng.choice(able, targets) if len(able) else ():
        rows = np.flatnonzero(ward.labels[0, patient] >= 0)
        beats, classes = ward.beats[0, patient, rows], ward.labels[0, patient, rows]
        present, groups = np.unique(classes, return_inverse=True)
        update = local_updates(_ZERO, beats[None], classes[None, None])[0]
        seen = scene.shows(update, _NOBODY)[0] - offset
        puzzle = scene.puzzle(classes, groups, mean[present], deviation[present])
        read = read_beats(seen, covariance + _UNLIKE**2 * np.eye(WORDS), puzzle)
        scale = deviation.mean(axis=0)
        usual = mean[classes].mean(axis=0)
        found.add(((read[groups].mean(axis=0) - usual) / scale)[None], ((beats.mean(axis=0) - usual) / scale)[None])


def _count_labels(scene: _Scene, found: _Windows, counts: "_Guesses") -> None:
    known = scene.known
    train, test = scene.shows(known.updates, known.persons), scene.shows(found.updates, found.persons)
    usual = known.counts.mean(axis=0)
    counts.add(best_guess(train, known.counts, known.persons, test) - usual, found.counts - usual)


class _Guesses:
    """Guesses beside the truth, both less the best guess without an update."""

    def __init__(self) -> None:
        self._guesses: list[Floats] = []
        self._truths: list[Floats] = []

    def add(self, guesses: Floats, truths: Floats) -> None:
        self._guesses.append(guesses)
        self._truths.append(truths)

    def error(self) -> float:
        guess, truth = np.concatenate(self._guesses), np.concatenate(self._truths)
        return float(((guess - truth) ** 2).sum() / max(1e-12, (truth**2).sum()))

    def correlation(self) -> float:
        """Of all entries together, around 0."""
        guess, truth = np.concatenate(self._guesses), np.concatenate(self._truths)
        return float((guess * truth).sum() / max(1e-12, np.sqrt((guess**2).sum() * (truth**2).sum())))
