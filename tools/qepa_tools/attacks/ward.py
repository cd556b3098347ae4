"""The simulated ward: patients with beats to learn, held-out persons, and cells drawn as the gateways draw them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import N_FEATURES
from qepa_board.learning.learn import Rehearsal
from qepa_uplink.cells import assign_patients, draw_cells, round_seed

from ..recordings.board_beats import BoardBeats, FeatureCache
from ..recordings.evaluation import predict
from ..recordings.learning_tables import Patient
from ..recordings.recording import AAMI_CLASSES, Recording
from ..recordings.ward_split import ward_split
from .batch_learning import Ints


@dataclass(frozen=True, slots=True)
class HeldOutBeats:
    """Beats of persons who are not in the ward: features (n, N_FEATURES) and classes (n,)."""

    features: NDArray[np.int16]
    classes: NDArray[np.int64]

    def accuracy(self, words: Sequence[int]) -> tuple[float, float]:
        """Return (share of right answers, macro F1 over the classes that occur) of a softmax regression."""
        predicted = predict(words, self.features)
        confusion = np.zeros((len(AAMI_CLASSES), len(AAMI_CLASSES)))
        np.add.at(confusion, (self.classes, predicted), 1)
        right, annotated, answered = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        present = annotated > 0
        f1 = 2 * right[present] / (annotated + answered)[present]
        return float(right.sum() / confusion.sum()), float(f1.mean())


@dataclass(frozen=True, slots=True)
class SimulatedWard:
    """Patients and the beats of every round: ``beats`` (rounds, patients, n, N_FEATURES), label -1: no beat."""

    source: str
    persons: int
    names: tuple[str, ...]
    gateways: tuple[str, ...]  # of each patient
    beats: Ints
    labels: Ints
    held_out: HeldOutBeats

    def cells(self, round_: int, seed: int, cell_target: int, min_group: int, left_out: set[int]) -> list[list[int]]:
        """Return the cells of a round, patients by index, drawn by the rule of qepa_uplink.cells."""
        homes: dict[str, list[int]] = {name: [] for name in sorted(set(self.gateways))}
        for i, gateway in enumerate(self.gateways):
            if i not in left_out:
                homes[gateway].append(i)
        drawn = round_seed(round_, seed.to_bytes(32, "little"), dict.fromkeys(homes, bytes(32)))
        counts = {gateway: len(patients) for gateway, patients in homes.items()}
        cells = draw_cells(drawn, counts, min_group=min_group, target=cell_target)
        members: dict[int, list[int]] = {cell.id: [] for cell in cells}
        index = {name: i for i, name in enumerate(self.names)}
        for gateway, patients in homes.items():
            for name, cell in assign_patients(drawn, gateway, [self.names[i] for i in patients], cells).items():
                members[cell].append(index[name])
        return [sorted(found) for found in members.values()]


def recorded_ward(
    recordings: Sequence[Recording],
    cache: FeatureCache,
    *,
    persons: int,
    patients: int,
    gateways: int,
    rounds: int,
    minutes: float,
    seed: int,
) -> SimulatedWard:
    """Return a ward of real beats. A person's recording is cut into as many stretches as there are patients of it.

    No person of the ward is among the held-out ones. Raises DataError where there are too few persons.
    """
    ward, others = ward_split(recordings, seed, persons)
    stretches = -(-patients // persons)
    made: list[Patient] = []
    for recording in ward:
        beats = cache.beats(recording, 60 * minutes)
        length = min(len(recording.samples), round(60 * minutes * recording.fs_hz)) // stretches
        for k in range(stretches):
            inside = (beats.samples >= k * length) & (beats.samples < (k + 1) * length)
            stretch = replace(
                beats,
                samples=beats.samples[inside] - k * length,
                features=beats.features[inside],
                classes=beats.classes[inside],
            )
            made.append(Patient(stretch, recording.fs_hz, length, Rehearsal()))
    made = made[:patients]
    held = [cache.beats(recording, 60 * minutes) for recording in others]
    held_out = HeldOutBeats(
        np.concatenate([b.features[b.labelled] for b in held]),
        np.concatenate([b.classes[b.labelled] for b in held]).astype(np.int64),
    )
    return ward_of(f"MIT-BIH, {persons} persons", persons, made, gateways, rounds, held_out)


def synthetic_ward(*, patients: int, gateways: int, rounds: int, seed: int) -> SimulatedWard:
    """Return a ward of invented beats: four Gaussian classes, each patient's features shifted by its own offset."""
    rng = np.random.default_rng(seed)
    means = rng.normal(0, 150, (len(AAMI_CLASSES), N_FEATURES))
    shares = np.array([0.7, 0.1, 0.15, 0.05])

    def person(beats: int, fs_hz: int, seconds: float) -> BoardBeats:
        classes = rng.choice(len(AAMI_CLASSES), beats, p=rng.dirichlet(20 * shares))
        features = means[classes] + rng.normal(0, 60, N_FEATURES) + rng.normal(0, 200, (beats, N_FEATURES))
        return BoardBeats(
            recording="synthetic",
            samples=np.sort(rng.integers(0, round(seconds * fs_hz), beats)),
            features=np.clip(features, -1024, 1024).astype(np.int16),
            classes=classes.astype(np.int8),
            missed=np.zeros(0, np.int8),
        )

    made = [Patient(person(240, 250, 240), 250, 240 * 250, Rehearsal()) for _ in range(patients)]
    held = [person(200, 250, 200) for _ in range(20)]
    held_out = HeldOutBeats(
        np.concatenate([b.features for b in held]), np.concatenate([b.classes for b in held]).astype(np.int32)
    )
    return ward_of("synthetic beats", patients, made, gateways, rounds, held_out)


def default_cache() -> FeatureCache:
    """Return the cache that the studies of recordings share."""
    return FeatureCache(Path.home() / ".cache" / "qepa" / "features")


def ward_of(
    source: str, persons: int, made: Sequence[Patient], gateways: int, rounds: int, held_out: HeldOutBeats
) -> SimulatedWard:
    """Return the ward of patients ``made``, dealt out to gateways by turns, with the beats of every round."""
    sets = [[patient.training_set(number) for patient in made] for number in range(rounds)]
    most = max(len(labels) for row in sets for _, labels in row)
    beats = np.zeros((rounds, len(made), most, N_FEATURES), np.int32)
    labels = np.full((rounds, len(made), most), -1, np.int32)
    for t, row in enumerate(sets):
        for p, (features, classes) in enumerate(row):
            if classes:
                beats[t, p, : len(classes)] = features
                labels[t, p, : len(classes)] = classes
    names = tuple(f"p-{i}" for i in range(len(made)))
    homes = tuple(f"gw-{i % gateways}" for i in range(len(made)))
    return SimulatedWard(source, persons, names, homes, beats, labels, held_out)
