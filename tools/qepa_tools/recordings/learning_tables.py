"""Rounds of learning simulated with recordings: the server's own step, but one cell, no encryption, no noise.

Every beat has a label.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qepa_board.learning.learn import Learner, Rehearsal
from qepa_board.learning.network import ModelShape
from qepa_server.config import LearningConfig
from qepa_server.robust.aggregate import ClippedTrimmedMean
from qepa_server.training.initial import initial_model
from qepa_tools.recordings.board_beats import BoardBeats, FeatureCache
from qepa_tools.recordings.evaluation import Evaluation, HeldOut
from qepa_tools.recordings.recording import AAMI_CLASSES, Recording
from qepa_tools.recordings.ward_split import WARD_PATIENTS, ward_split
from qepa_wire.quantizer import clip_l2

ROUND_S = 30.0
REPORTED_ROUNDS = (3, 10, 50, 100)


@dataclass(slots=True)
class Patient:
    """One simulated board: its beats, played round and round, and what it rehearses."""

    beats: BoardBeats
    fs_hz: int
    length: int
    rehearsal: Rehearsal

    def training_set(self, number: int) -> "tuple[list[array[int]], list[int]]":
        """Labelled beats of round `number`, counted from 0, after the rehearsed ones."""
        window = round(ROUND_S * self.fs_hz)
        start = number * window % (self.length - window + 1)
        chosen = self.beats.labelled & (self.beats.samples >= start) & (self.beats.samples < start + window)
        new = [array("h", row.tobytes()) for row in self.beats.features[chosen]]
        classes = self.beats.classes[chosen].tolist()
        features, labels = self.rehearsal.features + new, self.rehearsal.labels + classes
        for row, label in zip(new, classes, strict=True):
            self.rehearsal.add(row, label)
        return features, labels


def federated_rounds(
    ward: Sequence[Recording],
    cache: FeatureCache,
    rounds: int,
    learning: LearningConfig,
) -> Iterator[tuple[int, ...]]:
    """Simulate federated averaging over the ward's patients, one cell; yields the model's words after each round."""
    patients = [
        Patient(
            cache.beats(recording, recording.duration_s),
            recording.fs_hz,
            len(recording.samples),
            Rehearsal(),
        )
        for recording in ward
    ]
    learner = Learner(ModelShape(learning.classes, learning.features, learning.hidden))
    join = ClippedTrimmedMean(norm_bound=learning.norm_bound, trim_fraction=learning.trim_fraction)
    words = initial_model(
        features=learning.features,
        hidden=learning.hidden,
        classes=learning.classes,
        fraction_bits=learning.fraction_bits,
        seed=learning.seed,
    ).words
    for number in range(rounds):
        model, delta = array("i", words), array("i", bytes(4 * len(words)))
        total = np.zeros(len(words), np.int64)
        for patient in patients:
            features, labels = patient.training_set(number)
            learner.local_update(model, features, labels, delta)
            total += np.array(clip_l2(delta, learning.clip_norm) if learning.clip_norm else delta)
        words = learning.rule.apply(words, join(total[np.newaxis] / len(patients)))
        yield words


def learning_table(
    recordings: Sequence[Recording],
    cache: FeatureCache,
    seeds: int,
    minutes: float,
    kinds: Sequence[int],
    decay: int | None = None,
) -> None:
    """Print accuracy and F1 on held-out persons after some rounds, for several splits and numbers of hidden units.

    decay: as in LearningConfig, None for 16. All begin from the first model of a seed, so with a larger rate than the
    server's default, which is for a model that others taught, and without its bounds.
    """
    changes = {"rate_numerator": 4, "decay": 16 if decay is None else decay, "norm_bound": 3072, "clip_norm": 0}
    print(f"Simulated rounds of {ROUND_S:.0f} s, {WARD_PATIENTS} patients; others, up to {minutes:g} min each")
    print(
        f"{'hidden':>6} {'seed':>4} {'rounds':>6} {'accuracy':>8} {'all N':>6} {'macro F1':>8}"
        f"   F1 of {', '.join(AAMI_CLASSES)}"
    )
    results: dict[tuple[int, int], list[Evaluation]] = {}
    for seed in range(seeds):
        ward, others = ward_split(recordings, seed)
        held_out = HeldOut(others, cache, minutes * 60)
        for hidden in kinds:
            learning = LearningConfig(hidden=hidden, seed=seed, **changes)
            for number, words in enumerate(federated_rounds(ward, cache, max(REPORTED_ROUNDS), learning), start=1):
                if number not in REPORTED_ROUNDS:
                    continue
                result = held_out.evaluate(words, hidden)
                results.setdefault((hidden, number), []).append(result)
                f1 = "  ".join("   -" if value is None else f"{value:.2f}" for value in result.f1)
                print(
                    f"{hidden:6} {seed:4} {number:6} {result.accuracy:8.4f} {result.majority:6.3f}"
                    f" {result.macro_f1:8.3f}   {f1}",
                    flush=True,
                )
    for (hidden, number), row in results.items():
        mean = np.mean([(r.accuracy, r.majority, r.macro_f1) for r in row], axis=0)
        print(f"{hidden:6} mean {number:6} {mean[0]:8.4f} {mean[1]:6.3f} {mean[2]:8.3f}")
    _compare(results, kinds)


def _compare(results: dict[tuple[int, int], list[Evaluation]], kinds: Sequence[int]) -> None:
    """Print how each further kind differs from the first, split by split."""
    for (hidden, number), row in results.items():
        if hidden == kinds[0]:
            continue
        for name in ("accuracy", "macro_f1"):
            gains = np.array(
                [getattr(a, name) - getattr(b, name) for a, b in zip(row, results[kinds[0], number], strict=True)]
            )
            error = gains.std(ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
            print(
                f"{hidden} hidden minus {kinds[0]}, {number} rounds: {name} {gains.mean():+.4f}"
                f" (standard error {error:.4f} over splits), better in {int((gains > 0).sum())} of {len(gains)}"
            )
