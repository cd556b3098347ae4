"""Whether a bad version of the boards' model shows in how far it disagrees with the gateway's, and what else does.

People are halved. A gateway's model learns from one half, and so do two models of boards, each from eight persons of it
drawn by chance; the other half, or eight of it, is the ward. One of the two models is before, the other or what should
be noticed comes after. Recordings last half an hour: the first 20 minutes are played again and again, each person's
from another place each time, until the reference is full, and the last 10 likewise after the change: a stand-in. How
minutes are compared was chosen on other draws of the same people (runs 100 to 111).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.contract import load_model
from qepa_server.care.beat_minutes import LEAST_BEATS
from qepa_server.config import LearningConfig, ModelsConfig
from qepa_server.explain.beat import all_attributions
from qepa_server.explain.disagreement import WATCHED_MINUTES, Difference, Disagreement
from qepa_server.explain.drift import DriftMonitor, Reference, profile
from qepa_server.robust.choice import Rule
from qepa_server.training.bedside.export import to_int8
from qepa_server.training.bedside.fitting import TrainSettings
from qepa_tools.attacks.attackers import Attack
from qepa_tools.evaluation.cohort import Case, Cohort, Track
from qepa_tools.evaluation.cross_validation import folds_of_persons
from qepa_tools.evaluation.cross_validation import train as fit
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.evaluation.model import BoardModel
from qepa_tools.explanation.drift_study import NOISE, OTHER_LEAD, PROFILES, SAME, Noticed, noticed
from qepa_tools.explanation.people import Floats, background_of, network_of, rows_of
from qepa_tools.federated.people import ward_of_boards
from qepa_tools.federated.training import Course, Way
from qepa_tools.federated.training import train as rounds_of
from qepa_tools.recordings.recording import AAMI_CLASSES
from qepa_tools.training import ecg_beats
from qepa_tools.training.beat_set import beat_set, beat_sets
from qepa_tools.training.cleaned_leads import cleaned
from qepa_uplink.bedside_models import ECG_BEATS

DISAGREEMENT = "disagreement with the gateway's model"
SAME_MODEL, AS_GOOD, HONEST = "the same model", "a model of other people", "the model after 20 honest rounds"
BAD = {
    "zeros": "zeros",
    "swapped": "S and V exchanged",
    "random": "random weights",
    Attack.SCALING.value: "after 20 rounds, 30 % hostile, plain mean: scaling",
    Attack.INNER_PRODUCT.value: "after 20 rounds, 30 % hostile, plain mean: inner product",
}
WORLDS = (OTHER_LEAD, NOISE)

_REFERENCE, _LATER, _LENGTH = 20, 30, 100  # minutes: of a recording before the change, in all; of the reference
_TAUGHT_BY = 8
_ROUNDS, _HOSTILE, _UNBOUNDED = 20, 0.3, 1 << 20
_WINDOW_S = 20  # of profiles
_S, _V = AAMI_CLASSES.index("S"), AAMI_CLASSES.index("V")

Answers = NDArray[np.int64]
Found = tuple[NDArray[np.int64], Answers]  # beats that the gateway saw, and what it took them for


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """found: by world and record, of people whom the gateway's model does not know; learnt: cases of those it knows."""

    learnt: Sequence[Case]
    worlds: Mapping[str, Mapping[str, Case]]
    found: Mapping[tuple[str, str], Found]


def halves(
    cohort: Cohort, worlds: Mapping[str, Mapping[str, Case]], directory: Path, track: Track, epochs: int = 12
) -> list[Half]:
    """Train a gateway's model on each half of the people, and have it look at the board's lead of the others."""
    sets = beat_sets(cohort, directory, track)
    result = []
    for out in folds_of_persons(cohort.cases, 2):
        known = [each for each in sets if each.case.person not in out]
        network, representative = ecg_beats.train(known, TrainSettings(epochs=epochs), range)
        model = load_model(ECG_BEATS, to_int8(network, representative))
        ward = {case.recording.id: case for case in cohort.cases if case.person in out}
        seen = {SAME: ward, **{name: {**ward, **_of(worlds[name], ward)} for name in WORLDS}}
        found: dict[tuple[str, str], Found] = {}
        for name in track(list(ward), "What the gateway makes of others"):
            for world, cases in seen.items():
                case = cases[name]
                if world != SAME and case is ward[name]:
                    found[world, name] = found[SAME, name]
                    continue
                of = beat_set(case, cleaned(case.recording.samples, case.recording.fs_hz)[:, None])
                outputs = ecg_beats.outputs(model, [of.leads.astype(np.float32), of.numbers])
                found[world, name] = of.index, np.asarray(outputs.argmax(axis=1), np.int64)
        learnt = [case for case in cohort.cases if case.person not in out]
        result.append(Half(learnt=learnt, worlds=seen, found=found))
    return result


def disagreement_study(
    made: Sequence[Half], runs: Sequence[int], boards: Sequence[int], limit: float, track: Track
) -> tuple[dict[tuple[str, int, str], Noticed], dict[str, float]]:
    """Return what was noticed by (DISAGREEMENT or PROFILES, boards, what came), and the share of right answers then.

    An alarm: so many in a row as take a version back. Windows until it: of PROFILES a third of a minute, whose limit
    is `limit`. Wards of so many `boards`, profiles of the largest.
    """
    first: dict[tuple[str, int, str], list[int | None]] = {}
    right: dict[str, list[float]] = {}
    for run in track([f"run {k}" for k in runs], "Disagreement"):
        number = int(run.split()[1])
        rng = np.random.default_rng(number)
        half = made[number % len(made)]
        models = board_models(half.learnt, rng)
        before = models[SAME_MODEL]
        came = [(name, SAME, model) for name, model in models.items()] + [(name, name, before) for name in WORLDS]
        names = list(rng.permutation(sorted(half.worlds[SAME])))[: max(boards)]
        usual = {name: differences(half, SAME, name, before) for name in names}
        watch = _profiles_of(half, names, before)
        for what, world, model in came:
            later = {name: differences(half, world, name, model) for name in names}
            for n in boards:
                seen = minutes_until_back(usual, later, names[:n], rng)
                first.setdefault((DISAGREEMENT, n, what), []).append(seen)
            first.setdefault((PROFILES, max(boards), what), []).append(watch(world, model, rng, limit))
            right.setdefault(what, []).append(_accuracy([half.worlds[world][name] for name in names], model))
    return {key: noticed(each) for key, each in first.items()}, {name: float(np.mean(of)) for name, of in right.items()}


def board_models(learnt: Sequence[Case], rng: np.random.Generator) -> dict[str, BoardModel]:
    """What comes after: SAME_MODEL is the one before."""
    persons = list(rng.permutation(sorted({case.person for case in learnt})))
    before, other = (
        fit([case for case in learnt if case.person in chosen], FitSettings())[0]
        for chosen in (persons[:_TAUGHT_BY], persons[-_TAUGHT_BY:])
    )
    rows = np.array(before.words).reshape(len(AAMI_CLASSES), -1)
    order = list(range(len(AAMI_CLASSES)))
    order[_S], order[_V] = _V, _S
    models = {SAME_MODEL: before, AS_GOOD: other}
    mean = LearningConfig(aggregator=Rule.MEAN, norm_bound=_UNBOUNDED)
    courses = [
        Course(
            name=attack.value, rounds=_ROUNDS, start=before.words, towards_start=True, attack=attack, way=Way.QUICK,
            share=0.0 if attack is Attack.NONE else _HOSTILE, learning=mean,
        )
        for attack in (Attack.NONE, Attack.SCALING, Attack.INNER_PRODUCT)
    ]  # fmt: skip
    ward = ward_of_boards(learnt, boards=60, gateways=15, rounds=_ROUNDS)
    *_, (_, states) = rounds_of(ward, courses, 1)
    models[HONEST] = _model(states[0].words)
    models[BAD["zeros"]] = _model([0] * rows.size)
    models[BAD["swapped"]] = _model(rows[order].ravel())
    models[BAD["random"]] = _model(np.rint(rng.normal(0, rows.std(), rows.size)))
    return models | {BAD[state.course.name]: _model(state.words) for state in states[1:]}


def differences(half: Half, world: str, name: str, model: BoardModel) -> Floats:
    """Board's share less gateway's of S and of V, a row a minute; NaN where either saw too few beats.

    A care record a second names the newest beat: of two within a second one is not told.
    """
    case = half.worlds[world][name]
    fs = case.recording.fs_hz
    answers = model.scores(case.beats.features).argmax(axis=1)
    second, minute = case.beats.samples // fs, case.beats.samples // (60 * fs)
    told = np.r_[np.diff(second) > 0, True]
    index, found = half.found[world, name]
    result = np.full((_LATER, 2), np.nan)
    for k in range(_LATER):
        mine, theirs = answers[(minute == k) & told], found[minute[index] == k]
        if min(len(mine), len(theirs)) >= LEAST_BEATS:
            result[k] = [(mine == c).mean() - (theirs == c).mean() for c in (_S, _V)]
    return result


def minutes_until_back(
    usual: Mapping[str, Floats], later: Mapping[str, Floats], names: Sequence[str], rng: np.random.Generator
) -> int | None:
    """Minutes until a version is taken back, None if it comes to hold."""
    watch = Disagreement("board", rng.random)
    before = [_played(usual[name][:_REFERENCE], _LENGTH, rng) for name in names]
    after = [_played(later[name][_REFERENCE:], WATCHED_MINUTES, rng) for name in names]
    for k in range(_LENGTH):
        watch.add(k, 1, b"before", _told(before, k), learned=False)
    signals = (watch.add(k, 2, b"after", _told(after, k), learned=False) for k in range(WATCHED_MINUTES))
    return _in_a_row([signal is not None and signal.raised for signal in signals])


def _profiles_of(
    half: Half, names: Sequence[str], before: BoardModel
) -> Callable[[str, BoardModel, np.random.Generator, float], int | None]:
    """The monitor that there was: distance of profiles of all beats; no board tells them."""
    background = background_of(half.learnt)
    edge, end = (60 * minutes // _WINDOW_S for minutes in (_REFERENCE, _LATER))

    def vectors(world: str, model: BoardModel, first: int, last: int) -> list[Floats]:
        cases = [half.worlds[world][name] for name in names]
        place = np.concatenate([case.beats.samples // (_WINDOW_S * case.recording.fs_hz) for case in cases])
        features = rows_of(np.concatenate([case.beats.features for case in cases]))
        inside = (place >= first) & (place < last)
        place, features, network = place[inside], features[inside], network_of(model)
        contributions = all_attributions(network, features, background)
        answers = network.logits(features).argmax(axis=1)
        return [
            profile(features[at], contributions[at], answers[at], len(AAMI_CLASSES))
            for at in (place == k for k in range(first, last))
        ]

    known = vectors(SAME, before, 0, edge)
    reference = Reference(known[: edge // 2])
    scores = [reference.score(one) for one in known[edge // 2 :]]

    def until(world: str, model: BoardModel, rng: np.random.Generator, limit: float) -> int | None:
        monitor = DriftMonitor("board", 1, scores, rng.random, limit)
        later = vectors(world, model, edge, end)
        return _in_a_row([monitor.add(k, reference.score(one)).raised for k, one in enumerate(later)])

    return until


def _accuracy(cases: Sequence[Case], model: BoardModel) -> float:
    beats = [case.beats for case in cases]
    right = [(model.scores(of.features).argmax(axis=1) == of.classes)[of.labelled] for of in beats]
    return float(np.concatenate(right).mean())


def _in_a_row(raised: Sequence[bool]) -> int | None:
    needed, row = ModelsConfig().drift_windows, 0
    for k, each in enumerate(raised, start=1):
        row = row + 1 if each else 0
        if row == needed:
            return k
    return None


def _played(minutes: Floats, n: int, rng: np.random.Generator) -> Floats:
    """These minutes for n minutes, from another place each time."""
    times = -(-n // len(minutes))
    return np.concatenate([np.roll(minutes, -int(rng.integers(len(minutes))), axis=0) for _ in range(times)])[:n]


def _told(played: Sequence[Floats], k: int) -> dict[int, tuple[int, Difference]]:
    rows = {board: minutes[k] for board, minutes in enumerate(played)}
    return {board: (1, (float(row[0]), float(row[1]))) for board, row in rows.items() if np.isfinite(row).all()}


def _model(words: Sequence[float] | NDArray[np.float64]) -> BoardModel:
    return BoardModel(words=tuple(int(word) for word in words), hidden=0, trained_on=frozenset(), card={})


def _of(replaced: Mapping[str, Case], ward: Mapping[str, Case]) -> dict[str, Case]:
    return {name: case for name, case in replaced.items() if name in ward}
