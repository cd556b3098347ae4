"""How often the drift monitor cries wolf, and how soon it notices: on recordings of people whom the model never saw.

People are split by chance into a third that the model learns from, a ward, and others. Half an hour of the ward is cut
into windows; the first quarter of them makes the reference, those up to two thirds the scores that later ones are
ranked among, and the last third is either left as it is, or replaced by what should be noticed. Length of a window and
parts were chosen on other splits of the same people (seeds 100 to 111), when the board measured other features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray

from qepa_board.learning.features import N_FEATURES
from qepa_server.explain.beat import all_attributions
from qepa_server.explain.drift import DriftMonitor, Reference, profile
from qepa_tools.evaluation.cohort import Case, Track
from qepa_tools.evaluation.cross_validation import train
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.explanation.people import Floats, Fold, background_of, network_of, rows_of
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.recording import AAMI_CLASSES, ADC_MID, ADC_UNITS_PER_MV, DataError, adc_from_millivolt

SAME, OTHER_LEAD, NOISE, OTHER_PEOPLE = "the same people", "their other lead", "muscle noise", "other people"

PROFILES, CLASSES = "profiles of beats", "shares of classes alone"
_VIEWS = {PROFILES: slice(None), CLASSES: slice(None, None, 1 + 2 * N_FEATURES)}

_LENGTH_S = 1800
_NOISE_SHARE = 0.12  # RMS of added muscle noise over the QRS height


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed:
    """Of `runs` splits: share with an alarm within the last third, and the median of windows until it, None of none."""

    runs: int
    alarms: float
    windows: float | None


def beats_study(
    cases: Sequence[Case],
    worlds: Mapping[str, Mapping[str, Case]],
    runs: int,
    limit: float,
    track: Track,
    windows_s: Sequence[int] = (20,),
) -> dict[tuple[int, str, str], Noticed]:
    """Watch PROFILES, and of them the shares of CLASSES alone, which the care stream carries today.

    For the same people, other people, and each of `worlds`: record to what replaces it. Keys: seconds of a window,
    what is watched, what came.
    """
    first: dict[tuple[int, str, str], list[int | None]] = {}
    for run in track([f"run {k}" for k in range(runs)], "Drift of beats"):
        rng = np.random.default_rng(int(run.split()[1]))
        fold, others = _split(cases, rng)
        came: dict[str, Sequence[Case]] = {SAME: fold.cases, OTHER_PEOPLE: others}
        for name, replaced in worlds.items():
            came[name] = [replaced.get(case.recording.id, case) for case in fold.cases]
        for window_s in windows_s:
            n = _LENGTH_S // window_s
            fitted, known = n // 4, 2 * n // 3
            usual = _profiles(fold, fold.cases, range(known), window_s)
            for name, changed in came.items():
                later = _profiles(fold, changed, range(known, n), window_s)
                for view, chosen in _VIEWS.items():
                    reference = Reference([one[chosen] for one in usual[:fitted]])
                    scores = [reference.score(one[chosen]) for one in usual[fitted:known]]
                    monitor = DriftMonitor("board", 1, scores, rng.random, limit)
                    raised = [monitor.add(k, reference.score(one[chosen])).raised for k, one in enumerate(later)]
                    alarm = raised.index(True) + 1 if True in raised else None
                    first.setdefault((window_s, view, name), []).append(alarm)
    return {key: noticed(first[key]) for key in sorted(first, key=lambda key: (key[1] != PROFILES, key[0]))}


def noticed(first: Sequence[int | None]) -> Noticed:
    """Of the window of the first alarm in each run."""
    told = [window for window in first if window is not None]
    return Noticed(runs=len(first), alarms=len(told) / len(first), windows=float(np.median(told)) if told else None)


def windows_until_alarm(
    limit: float, runs: int, most: int, *, reference: int = 60, shift: float = 0.0, seed: int = 1
) -> list[int | None]:
    """Windows until an alarm, None if none comes in `most`, where scores are independent normal draws: SIMULATED.

    reference: scores before. shift: in standard deviations, of all that come after; 0 for false alarms.
    """
    rng = np.random.default_rng(seed)
    found: list[int | None] = []
    for _ in range(runs):
        monitor = DriftMonitor("simulated", 1, list(rng.normal(size=reference)), rng.random, limit)
        alarms = (k for k in range(1, most + 1) if monitor.add(k, float(rng.normal(shift))).raised)
        found.append(next(alarms, None))
    return found


def other_worlds(
    cases: Sequence[Case], directory: Path, noise: Path, cache: FeatureCache, track: Track
) -> dict[str, dict[str, Case]]:
    """What the board makes of each record's other lead, and of its lead with muscle noise; records without are absent.

    noise: directory with the Noise Stress database's `ma`; DataError if it is not there.
    """
    try:
        muscle = wfdb.rdrecord(str(noise / "ma"), channels=[0]).p_signal[:, 0]
    except (OSError, ValueError) as error:
        raise DataError(f"{noise} holds no muscle noise (record ma of the Noise Stress database).") from error
    worlds: dict[str, dict[str, Case]] = {OTHER_LEAD: {}, NOISE: {}}
    by_name = {case.recording.id: case for case in cases}
    for name in track(list(by_name), "Other leads and noise"):
        case = by_name[name]
        millivolt = (case.recording.samples.astype(float) - ADC_MID) / ADC_UNITS_PER_MV
        added = _NOISE_SHARE * _qrs_height(millivolt, case) * np.resize(muscle / muscle.std(), len(millivolt))
        worlds[NOISE][name] = _seen(case, millivolt + added, cache)
        record = wfdb.rdrecord(str(directory / name))
        if record.n_sig > 1 and record.fs == case.recording.fs_hz:
            first = record.sig_name.index("MLII") if "MLII" in record.sig_name else 0
            worlds[OTHER_LEAD][name] = _seen(case, record.p_signal[:, 1 - first], cache)
    return worlds


def _seen(case: Case, millivolt: NDArray[np.float64], cache: FeatureCache) -> Case:
    recording = replace(case.recording, samples=adc_from_millivolt(millivolt))
    return Case(recording, cache.beats(recording, recording.duration_s))


def _qrs_height(millivolt: NDArray[np.float64], case: Case) -> float:
    reach = case.recording.fs_hz // 10
    marks = case.beats.samples[5:-5:20]
    return float(np.median([np.ptp(millivolt[mark - reach : mark + reach]) for mark in marks]))


def _split(cases: Sequence[Case], rng: np.random.Generator) -> tuple[Fold, list[Case]]:
    """A fold whose cases are the ward and whose others the model learnt from; and the people beside both."""
    persons = list(rng.permutation(sorted({case.person for case in cases})))
    third = len(persons) // 3
    learnt, ward = set(persons[:third]), set(persons[third : 2 * third])
    training = tuple(case for case in cases if case.person in learnt)
    network = network_of(train(training, FitSettings())[0])
    inside = tuple(case for case in cases if case.person in ward)
    beside = [case for case in cases if case.person in set(persons[2 * third : 3 * third])]
    return Fold(inside, training, network, background_of(training)), beside


def _profiles(fold: Fold, cases: Sequence[Case], windows: Sequence[int], window_s: int) -> list[Floats]:
    """Profiles of all beats of the cases, window by window."""
    rows, places = [], []
    for case in cases:
        place = case.beats.samples // (window_s * case.recording.fs_hz)
        chosen = (place >= windows[0]) & (place <= windows[-1])
        rows.append(case.beats.features[chosen])
        places.append(place[chosen])
    features, place = rows_of(np.concatenate(rows)), np.concatenate(places)
    contributions = all_attributions(fold.network, features, fold.background)
    answers = fold.network.logits(features).argmax(axis=1)
    result = []
    for window in windows:
        chosen = place == window
        result.append(profile(features[chosen], contributions[chosen], answers[chosen], len(AAMI_CLASSES)))
    return result
