"""From which probability on an answer S or V counts for an alarm, and what the probabilities are worth.

Both are settled inside the training people: their scores come from models that leave them out in turn. A temperature
divides the scores (Guo et al., ICML 2017); it moves no answer. A threshold is the lowest probability at which the
training people have at most so many false alarms an hour. Boards send answers, not probabilities: what is here is for
whoever alarms by a board's scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_tools.evaluation.cohort import Case, Track
from qepa_tools.evaluation.cross_validation import between_persons, folds_of_persons, train
from qepa_tools.evaluation.figures import Reliability, reliability
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.evaluation.model import probabilities
from qepa_tools.recordings.recording import AAMI_CLASSES, UNCLASSIFIED

INNER_FOLDS = 4
LIMITS_PER_HOUR = {"S": (20.0, 5.0), "V": (20.0, 5.0, 1.0)}

Numbers = Sequence[NDArray[np.float64]]  # scores (Q20) of cases

_TEMPERATURES = np.geomspace(0.25, 4, 81)
_F = AAMI_CLASSES.index("F")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """What came of answers of one class that count. sensitivity: of annotated beats of the class, found or not."""

    answer: str
    limit_per_hour: float
    sensitivity: float
    false_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Temperature of the scores, and thresholds by class and limit of false alarms an hour."""

    temperature: float
    thresholds: dict[tuple[str, float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoints:
    """Between people. curve: thresholds with the alarms they give, by class. before, after: the temperature."""

    settled: Settled
    alarms: tuple[Alarms, ...]
    curve: dict[str, tuple[tuple[float, Alarms], ...]]
    before: Reliability
    after: Reliability


def fit_temperature(cases: Sequence[Case], scores: Numbers) -> float:
    """Temperature of least log loss over beats of N, S and V; F is left out, as no model here answers it."""
    z, classes = _stacked(cases, scores, lambda case: case.beats.labelled & (case.beats.classes != _F))
    rows = np.arange(len(classes))
    losses = [-float(np.log(probabilities(z / t)[rows, classes] + 1e-12).mean()) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def fit_threshold(cases: Sequence[Case], scores: Numbers, answer: str, limit_per_hour: float) -> float:
    """Lowest probability with at most that many false alarms an hour over the cases; scores: the tempered ones."""
    _, false = _alarming(cases, scores, answer)
    allowed = int(limit_per_hour * _hours(cases))
    if len(false) <= allowed:
        return 0.0
    return float(np.nextafter(np.sort(false)[::-1][allowed], 2))


def alarms_at(cases: Sequence[Case], scores: Numbers, answer: str, threshold: float, limit_per_hour: float) -> Alarms:
    """What the threshold gives on these cases; an F beat called V is neither right nor false (EC57)."""
    true, false = _alarming(cases, scores, answer)
    c = AAMI_CLASSES.index(answer)
    annotated = sum(int((case.beats.classes == c).sum() + (case.beats.missed == c).sum()) for case in cases)
    return Alarms(
        answer=answer,
        limit_per_hour=limit_per_hour,
        sensitivity=float((true >= threshold).sum() / max(1, annotated)),
        false_per_hour=float((false >= threshold).sum() / _hours(cases)),
    )


def settle(cases: Sequence[Case], settings: FitSettings) -> Settled:
    """Settle temperature and thresholds on people whose scores are of models that leave them out."""
    scores = [np.asarray(s, float) for s in between_persons(cases, settings, INNER_FOLDS, lambda names, _: names)]
    temperature = fit_temperature(cases, scores)
    tempered = [score / temperature for score in scores]
    thresholds = {
        (answer, limit): fit_threshold(cases, tempered, answer, limit)
        for answer, limits in LIMITS_PER_HOUR.items()
        for limit in limits
    }
    return Settled(temperature=temperature, thresholds=thresholds)


def operating_points(cases: Sequence[Case], settings: FitSettings, folds: int, track: Track) -> OperatingPoints:
    """Settle inside each training set and judge on the people outside; `settled` is what all people together give."""
    plain = [np.zeros((0, len(AAMI_CLASSES))) for _ in cases]
    tempered = list(plain)
    counted: dict[tuple[str, float], list[tuple[Case, Alarms]]] = {}
    dealt = {", ".join(fold): frozenset(fold) for fold in folds_of_persons(cases, folds)}
    for name in track(list(dealt), "Thresholds for alarms"):
        inside = [case for case in cases if case.person not in dealt[name]]
        settled = settle(inside, settings)
        model, _ = train(inside, settings)
        for k, case in enumerate(cases):
            if case.person in dealt[name]:
                plain[k] = np.asarray(model.scores(case.beats.features), float)
                tempered[k] = plain[k] / settled.temperature
                for (answer, limit), threshold in settled.thresholds.items():
                    found = alarms_at([case], [tempered[k]], answer, threshold, limit)
                    counted.setdefault((answer, limit), []).append((case, found))
    return OperatingPoints(
        settled=settle(cases, settings),
        alarms=tuple(_together(each) for each in counted.values()),
        curve={answer: _curve(cases, tempered, answer) for answer in LIMITS_PER_HOUR},
        before=_of_answers(cases, plain),
        after=_of_answers(cases, tempered),
    )


def _alarming(cases: Sequence[Case], scores: Numbers, answer: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities of the answers of a class: where they are right, and where false."""
    c = AAMI_CLASSES.index(answer)
    z, classes = _stacked(cases, scores, lambda case: case.beats.classes != UNCLASSIFIED)
    p = probabilities(z)
    given = p.argmax(axis=1) == c
    false = given & (classes != c) & (classes != _F)
    return p[given & (classes == c), c], p[false, c]


def _curve(cases: Sequence[Case], scores: Numbers, answer: str) -> tuple[tuple[float, Alarms], ...]:
    steps = [0.0, *np.arange(0.4, 0.99, 0.05), 0.98, 0.99, 0.995, 0.999]
    return tuple((float(t), alarms_at(cases, scores, answer, float(t), np.inf)) for t in steps)


def _together(parts: Sequence[tuple[Case, Alarms]]) -> Alarms:
    """Join the alarms of cases that were judged one by one."""
    first = parts[0][1]
    c = AAMI_CLASSES.index(first.answer)
    annotated = [int((case.beats.classes == c).sum() + (case.beats.missed == c).sum()) for case, _ in parts]
    hours = [_hours([case]) for case, _ in parts]
    return Alarms(
        answer=first.answer,
        limit_per_hour=first.limit_per_hour,
        sensitivity=sum(n * found.sensitivity for n, (_, found) in zip(annotated, parts, strict=True))
        / max(1, sum(annotated)),
        false_per_hour=sum(h * found.false_per_hour for h, (_, found) in zip(hours, parts, strict=True)) / sum(hours),
    )


def _of_answers(cases: Sequence[Case], scores: Numbers) -> Reliability:
    z, classes = _stacked(cases, scores, lambda case: case.beats.labelled)
    p = probabilities(z)
    return reliability(p.max(axis=1), p.argmax(axis=1) == classes)


def _stacked(
    cases: Sequence[Case], scores: Numbers, chosen: Callable[[Case], NDArray[np.bool_]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    kept = [chosen(case) for case in cases]
    z = np.concatenate([score[c] for score, c in zip(scores, kept, strict=True)])
    classes = np.concatenate([case.beats.classes[c] for case, c in zip(cases, kept, strict=True)])
    return z, classes.astype(np.int64)


def _hours(cases: Sequence[Case]) -> float:
    return sum(case.recording.duration_s for case in cases) / 3600
