"""Shadow worlds: the same ward trained many times over, each time with another half of its patients, and watched.

Learning is the boards' (local_updates, the same integers), rules and step are the server's; no encryption, no radio.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from qepa_server.config import LearningConfig
from qepa_server.training.initial import initial_model

from ..attacks.batch_learning import N_CLASSES, Ints, local_updates
from ..attacks.ward import SimulatedWard
from .membership import Flags, Floats
from .protection import Protection

_AT_ONCE = 24  # worlds that learn in one batch: what fits a cache
_RIDGE = 0.1  # of the mean variance of a word: what keeps a covariance of few worlds invertible


class Observer(StrEnum):
    """Who attacks: what they see of the training. All know the target's beats and labels and can compute updates."""

    LAST_MODEL = "last model"
    EVERY_MODEL = "every round's model"
    CELL_SUMS = "sums of the patient's cell"
    ONE_UPDATE = "one board's update, as if nothing were encrypted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worlds:
    """``statistics`` of each observer and ``members``: (worlds, patients). ``models``: (worlds, words) at the end."""

    protection: Protection
    cell: int
    statistics: dict[Observer, Floats]
    members: Flags
    models: Ints


def half_of(patients: int, worlds: int, rng: np.random.Generator) -> Flags:
    """Return who is in which world (worlds, patients): a half of the patients in each, drawn anew."""
    order = np.argsort(rng.random((worlds, patients)), axis=1)
    chosen: Flags = order < patients // 2
    return chosen


def train_worlds(
    ward: SimulatedWard,
    protection: Protection,
    *,
    worlds: int,
    cell: int,
    seed: int,
    advanced: Callable[[int], None] = lambda _rounds: None,
) -> Worlds:
    """Train ``worlds`` models over the rounds of ``protection``, in cells of ``cell`` members or a few more.

    A patient who is not in a world is looked for in a cell drawn at random, and where updates are open in that of a
    member drawn at random. ``advanced(1)`` is called after each round.
    """
    rng = np.random.default_rng([seed, round(1000 * protection.epsilon), worlds])
    patients = len(ward.names)
    members = half_of(patients, worlds, rng)
    learning = protection.learning
    join = learning.join(rng)
    first = initial_model(features=learning.features, hidden=0, classes=learning.classes, fraction_bits=12).words
    models = np.tile(np.array(first, np.int32), (worlds, 1))
    marks = {
        observer: np.zeros((worlds, patients))
        for observer in (Observer.EVERY_MODEL, Observer.CELL_SUMS, Observer.ONE_UPDATE)
    }
    for t in range(protection.rounds):
        sealed = protection.words(updates_of(models, ward.beats[t], ward.labels[t]))
        means, seen_sums, seen_updates, sizes = [], np.zeros_like(sealed), np.empty_like(sealed), []
        for s in range(worlds):
            cells = np.array_split(rng.permutation(np.flatnonzero(members[s])), max(1, members[s].sum() // cell))
            sums = np.array([sealed[s, own].sum(axis=0) for own in cells])
            sums += np.array([protection.noise(len(own), (sums.shape[1],), rng) for own in cells])
            place = rng.integers(0, len(cells), patients)
            for number, own in enumerate(cells):
                place[own] = number
            seen_sums[s] = sums[place]
            sender = np.where(members[s], np.arange(patients), rng.choice(np.flatnonzero(members[s]), patients))
            seen_updates[s] = sealed[s, sender] + protection.noise(1, sealed[s].shape, rng)
            means.append(join(sums / np.array([len(own) for own in cells])[:, None]))
            sizes.append(len(cells))
        moved = np.array([learning.rule.apply(w.tolist(), mean) for w, mean in zip(models, means, strict=True)])
        seen_means = _steps_between(models, moved, learning)
        marks[Observer.EVERY_MODEL] += _matched(np.repeat(seen_means[:, None], patients, axis=1), sealed)
        marks[Observer.CELL_SUMS] += _matched(seen_sums, sealed)
        if protection.noise_q8:
            marks[Observer.ONE_UPDATE] += _matched(seen_updates, sealed)
        else:  # the very update is recognised
            marks[Observer.ONE_UPDATE] -= ((seen_updates - sealed) ** 2).sum(axis=2)
        models = moved.astype(np.int32)
        advanced(1)
    marks[Observer.LAST_MODEL] = confidences(models, ward)
    return Worlds(protection=protection, cell=cell, statistics=marks, members=members, models=models)


def updates_of(models: Ints, beats: Ints, labels: Ints) -> Ints:
    """Return the updates (models, patients, words) of every patient from every model."""
    made = [
        local_updates(batch, beats, np.broadcast_to(labels, (len(batch), *labels.shape)))
        for batch in (models[k : k + _AT_ONCE] for k in range(0, len(models), _AT_ONCE))
    ]
    return np.concatenate(made)


def _steps_between(models: Ints, moved: NDArray[np.int64], learning: LearningConfig) -> Floats:
    """What an observer of two successive models computes of the mean update, to the rounding of words."""
    rule = learning.rule
    gone = (models + rule.decay // 2) // rule.decay if rule.decay else 0
    steps: Floats = (moved - (models - gone)) / (rule.rate * rule.units_per_step)
    return steps


def _matched(seen: Floats, updates: Floats) -> Floats:
    """How much of each patient's update is in what was seen (worlds, patients, words): Fisher's linear discriminant.

    The direction is S^-1 u with S the covariance of what is seen over worlds: the best for a normal crowd around u.
    """
    centred = seen - seen.mean(axis=(0, 1))
    flat = centred[:, :: max(1, centred.shape[1] // 8)].reshape(-1, centred.shape[2])
    covariance = flat.T @ flat / len(flat)
    mean_variance = max(float(np.trace(covariance)) / len(covariance), 1e-9)
    directions = np.linalg.solve(covariance + _RIDGE * mean_variance * np.eye(len(covariance)), updates.mean(axis=0).T)
    product: Floats = np.einsum("spw,wp->sp", centred, directions)
    return product


def confidences(models: Ints, ward: SimulatedWard) -> Floats:
    """Return the mean of log(p / (1 - p)), p the probability of the true class, over each patient's beats.

    (worlds, patients); the statistic of Carlini et al. (section VI.A), for as many beats as a patient has.
    """
    found = np.zeros((len(models), len(ward.names)))
    weights = models.reshape(len(models), N_CLASSES, -1).astype(np.float64) / (1 << 20)
    for p in range(len(ward.names)):
        labels = ward.labels[:, p]
        known = labels >= 0
        rows = ward.beats[:, p][known].astype(np.float64)
        if not len(rows):
            continue
        scores = np.einsum("scf,nf->snc", weights[:, :, :-1], rows) + 256 * weights[:, None, :, -1]
        true = np.take_along_axis(scores, np.broadcast_to(labels[known], scores.shape[:2])[..., None], axis=2)
        other = scores.copy()
        np.put_along_axis(other, np.broadcast_to(labels[known], scores.shape[:2])[..., None], -np.inf, axis=2)
        top = other.max(axis=2, keepdims=True)
        rest = top + np.log(np.exp(other - top).sum(axis=2, keepdims=True))
        found[:, p] = (true - rest)[..., 0].mean(axis=1)
    return found
