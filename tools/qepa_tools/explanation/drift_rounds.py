"""What of drift shows in sums alone: rounds of learning, SIMULATED in one cell, with the board's own learning code.

The server sees the mean of the boards' updates, and knows how much noise is in it.
"""

from array import array
from collections.abc import Mapping, Sequence

import numpy as np

from qepa_board.learning.learn import DELTA_NORM_LIMIT, Learner, Rehearsal
from qepa_server.config import LearningConfig
from qepa_server.explain.drift import DriftMonitor, Reference
from qepa_tools.evaluation.cohort import Case, Track
from qepa_tools.evaluation.cross_validation import train
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.explanation.drift_study import OTHER_PEOPLE, SAME, Noticed, noticed
from qepa_tools.explanation.people import Floats
from qepa_tools.recordings.learning_tables import Patient

_ROUNDS = 60  # half an hour
_FITTED, _KNOWN = 15, 40  # rounds of the reference; rounds whose scores later ones are ranked among


def rounds_study(
    cases: Sequence[Case],
    worlds: Mapping[str, Mapping[str, Case]],
    runs: int,
    limit: float,
    noise: Sequence[float],
    track: Track,
) -> dict[tuple[str, float], Noticed]:
    """Watch mean updates of a third of the people; the model was trained on a third, as many others as in the ward.

    noise: standard deviations of differential privacy's noise in the sum, over the bound of one patient.
    """
    first: dict[tuple[str, float], list[int | None]] = {}
    for run in track([f"run {k}" for k in range(runs)], "Drift in sums (simulated)"):
        rng = np.random.default_rng(int(run.split()[1]))
        persons = list(rng.permutation(sorted({case.person for case in cases})))
        third = len(persons) // 3
        learnt, inside, beside = (set(persons[k * third : (k + 1) * third]) for k in range(3))
        model, _ = train([case for case in cases if case.person in learnt], FitSettings())
        ward = [case for case in cases if case.person in inside]
        tests = {SAME: ward, OTHER_PEOPLE: [case for case in cases if case.person in beside]}
        for name, replaced in worlds.items():
            tests[name] = [replaced.get(case.recording.id, case) for case in ward]
        usual, words = _means(model.words, ward, range(_KNOWN))
        for name, changed in tests.items():
            later, _ = _means(words, changed, range(_KNOWN, _ROUNDS))
            boards = np.repeat([len(ward), len(changed)], [_KNOWN, _ROUNDS - _KNOWN])[:, None]
            for multiple in noise:
                sigma = multiple * DELTA_NORM_LIMIT / boards
                means = np.concatenate([usual, later]) + sigma * rng.normal(size=(_ROUNDS, usual.shape[1]))
                reference = Reference(list(means[:_FITTED]))
                scores = [reference.score(mean) for mean in means[_FITTED:]]
                monitor = DriftMonitor("board", 1, scores[: _KNOWN - _FITTED], rng.random, limit)
                raised = [monitor.add(k, score).raised for k, score in enumerate(scores[_KNOWN - _FITTED :])]
                first.setdefault((name, multiple), []).append(raised.index(True) + 1 if True in raised else None)
    return {key: noticed(found) for key, found in first.items()}


def _means(words: Sequence[int], cases: Sequence[Case], rounds: Sequence[int]) -> tuple[Floats, Sequence[int]]:
    """Mean update of each round, and the model after them; it moves as the server moves it."""
    rule = LearningConfig().rule
    learner = Learner()
    patients = [Patient(case.beats, case.recording.fs_hz, len(case.recording.samples), Rehearsal()) for case in cases]
    means = []
    for number in rounds:
        model, delta, total = array("i", words), array("i", bytes(4 * len(words))), np.zeros(len(words))
        for patient in patients:
            features, labels = patient.training_set(number)
            learner.local_update(model, features, labels, delta)
            total += np.array(delta)
        means.append(total / len(patients))
        words = rule.apply(words, means[-1])
    return np.array(means), words
