"""One evaluation: scores of beats, by people whom the model never saw, made into every figure of the report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qepa_tools.evaluation.cohort import Case, Cohort, Track
from qepa_tools.evaluation.cross_validation import FOLDS, Scores, between_persons, train, within_persons
from qepa_tools.evaluation.figures import (
    Figures,
    Interval,
    Reliability,
    Tally,
    figures,
    person_bootstrap,
    reliability,
    tally,
)
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.evaluation.model import BoardModel, probabilities, recording_digest
from qepa_tools.evaluation.ventricular_runs import RunAlarms, run_alarms
from qepa_tools.recordings.noise_stress import RECORDS, is_noisy
from qepa_tools.recordings.recording import AAMI_CLASSES, DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseRow:
    """A noisy record in the stretches with noise and in those between. decibel: signal to noise ratio."""

    record: str
    decibel: int
    noisy: Figures
    between: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the report shows. inflated: a split by beat, the same people on both sides; None with a model given.

    calibration: "answer" is about the answer given, the others about that class.
    """

    how: str
    cohort: Cohort
    counts: Tally
    overall: Figures
    intervals: Mapping[str, Interval | None]
    records: Mapping[str, Tally]
    calibration: Mapping[str, Reliability]
    alarms: Mapping[str, RunAlarms]
    inflated: Figures | None
    noise: Sequence[NoiseRow] = ()


def cross_validated(cohort: Cohort, settings: FitSettings, folds: int, track: Track) -> Result:
    """Evaluate models of the board's shape, each on people who are not among those that it was trained on."""
    scores = between_persons(cohort.cases, settings, folds, track)
    beside = within_persons(cohort.cases, settings, FOLDS)
    n = len({case.person for case in cohort.cases})
    how = f"{min(folds, n)}-fold cross-validation over {n} persons: each is judged by a model trained on other people."
    return _result(cohort, scores, how, figures(_sum(_tallies(cohort, beside).values())))


def of_model(cohort: Cohort, model: BoardModel, name: str) -> Result:
    """Evaluate one model on those of its cohort whom it was not trained on; DataError if that is nobody."""
    known = {case.person for case in cohort.cases if _is_known(case, model)}
    cohort = cohort.without(
        {
            case.recording.id: f"The model {name} was trained on this person."
            for case in cohort.cases
            if case.person in known
        }
    )
    if not cohort.cases:
        raise DataError(f"The model {name} was trained on everybody here; --model cross-validate trains others.")
    scores = [model.scores(case.beats.features) for case in cohort.cases]
    if model.trained_on:
        how = f"The model {name}, on people who were not in its training."
    else:
        how = f"The model {name}, which does not tell whom it was trained on: if on these people, this is INFLATED."
    return _result(cohort, scores, how, None)


def _is_known(case: Case, model: BoardModel) -> bool:
    """Whether a model saw this recording, or the one that noise was added to."""
    noisy = case.recording.id in RECORDS and case.person in model.card.get("persons", ())
    return noisy or recording_digest(case.recording) in model.trained_on


def noise_rows(cohort: Cohort, noisy: Sequence[tuple[Case, int]], settings: FitSettings) -> list[NoiseRow]:
    """Figures on noisy records, each with its signal to noise ratio, by a model that leaves their persons out."""
    if not noisy:
        return []
    persons = {case.person for case, _ in noisy}
    others = [case for case in cohort.cases if case.person not in persons]
    model, _ = train(others, settings)
    return noise_rows_of(model, noisy)


def noise_rows_of(model: BoardModel, noisy: Sequence[tuple[Case, int]]) -> list[NoiseRow]:
    """Figures of one model on noisy records."""
    rows = []
    for case, decibel in noisy:
        answers = model.scores(case.beats.features).argmax(axis=1)
        fs_hz = case.recording.fs_hz
        during = np.array([is_noisy(int(sample), fs_hz) for sample in case.beats.samples], dtype=bool)
        parts = [figures(tally(case.beats, answers, chosen)) for chosen in (during, ~during)]
        rows.append(NoiseRow(record=case.recording.id, decibel=decibel, noisy=parts[0], between=parts[1]))
    return sorted(rows, key=lambda row: -row.decibel)


def _result(cohort: Cohort, scores: Scores, how: str, inflated: Figures | None) -> Result:
    records = _tallies(cohort, scores)
    persons: dict[str, Tally] = {}
    for case in cohort.cases:
        persons[case.person] = persons.get(case.person, 0) + records[case.recording.id]
    counts = _sum(persons.values())
    return Result(
        how=how,
        cohort=cohort,
        counts=counts,
        overall=figures(counts),
        intervals=person_bootstrap(persons),
        records=records,
        calibration=_calibration(cohort, scores),
        alarms={
            case.recording.id: run_alarms(case, answer.argmax(axis=1))
            for case, answer in zip(cohort.cases, scores, strict=True)
        },
        inflated=inflated,
    )


def _tallies(cohort: Cohort, scores: Scores) -> dict[str, Tally]:
    return {
        case.recording.id: tally(case.beats, score.argmax(axis=1))
        for case, score in zip(cohort.cases, scores, strict=True)
    }


def _sum(tallies: Iterable[Tally]) -> Tally:
    return np.asarray(np.sum(list(tallies), axis=0), dtype=np.int64)


def _calibration(cohort: Cohort, scores: Scores) -> dict[str, Reliability]:
    chosen = [case.beats.labelled for case in cohort.cases]
    p = probabilities(np.concatenate([score[c] for score, c in zip(scores, chosen, strict=True)]))
    classes = np.concatenate([case.beats.classes[c] for case, c in zip(cohort.cases, chosen, strict=True)])
    answers = p.argmax(axis=1)
    result = {"answer": reliability(p.max(axis=1), answers == classes)}
    for c, name in enumerate(AAMI_CLASSES[:3]):
        result[name] = reliability(p[:, c], classes == c)
    return result
