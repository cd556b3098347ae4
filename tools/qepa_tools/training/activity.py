"""The gateway's activity model: trained, judged by people it was not trained on, beside simpler ways, and exported."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.contract import load_model
from qepa_gateway.inference.runtime import Int8Model
from qepa_server.training.bedside.export import to_int8
from qepa_server.training.bedside.fitting import Epochs, TrainSettings, answers, fit_classes
from qepa_server.training.bedside.networks import Network, motion_network
from qepa_tools.recordings.places import find_sets
from qepa_uplink.bedside_models import ACTIVITY
from qepa_uplink.readings import ACTIVITIES

from .activity_set import DEVICES, ActivitySet, activity_sets
from .made import Made, Steps, epochs_of, made, track_of

Tally = NDArray[np.int64]  # [5, 5]: what was done, what was answered
Answer = Callable[[ActivitySet], NDArray[np.int64]]

SETTINGS = TrainSettings(epochs=16, draw=10_000, batch=128)
NETWORK, MAJORITY, MEASURE, LINEAR = WAYS = ("network, int8", "most frequent", "board's activity", "linear model")
LIMITS = (
    "Not a medical device. Fifteen healthy people who stood up, walked, turned and sat down on request, 11 s at a "
    "time; nobody lay, slept, fell, limped or used a walking aid, and nobody sat for long. It only ever answers one of "
    "five things: a device that lies on a table is called seated. Trained at the wrist and in the trouser pocket; at "
    "the chest it was never tried."
)

_CLASSES = len(ACTIVITIES)
_CLASS_POWER = 0.5  # classes weigh by the root of their rarity
_BINS = 24
_PENALTY = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Tallies by way, device and person, each of models that never saw that person.

    agreement: share of windows in which int8 and float answer alike.
    """

    tallies: Mapping[str, Mapping[str, Mapping[str, Tally]]]
    agreement: float


def make(data: Path | None, *, version: int, folds: int, epochs: int, steps: Steps) -> Made:
    """Cross-validate by person, then train on everybody. data: folder that holds motion; DataError without it."""
    sets = activity_sets(find_sets(data) / "motion", track_of(steps))
    settings = TrainSettings(epochs=epochs, draw=SETTINGS.draw, batch=SETTINGS.batch)
    judged = cross_validate(sets, folds, settings, steps)
    network = train(sets, settings, epochs_of(steps, "Everybody"))
    return made(ACTIVITY, version, export(network, sets), _facts(sets, judged, settings, folds))


def cross_validate(sets: Sequence[ActivitySet], folds: int, settings: TrainSettings, steps: Steps) -> Judged:
    """Judge each person, both devices together, by an int8 model and baselines that other people taught."""
    subjects = sorted({each.subject for each in sets})
    tallies: dict[str, dict[str, dict[str, Tally]]] = {way: {device: {} for device in DEVICES} for way in WAYS}
    alike = total = 0
    for fold in range(min(folds, len(subjects))):
        out = subjects[fold::folds]
        known = [each for each in sets if each.subject not in out]
        network = train(known, settings, epochs_of(steps, f"Activity, fold {fold + 1} of {folds}"))
        model = load_model(ACTIVITY, export(network, known))
        ways: dict[str, Answer] = {NETWORK: partial(answer, model), **_baselines(known)}
        for each in sets:
            if each.subject not in out:
                continue
            for way, told in ways.items():
                tallies[way][each.device][each.subject] = _tally(each.classes, told(each))
            exact = answers(network, [each.windows]).argmax(axis=1)
            alike += int((exact == answer(model, each)).sum())
            total += len(exact)
    return Judged(tallies=tallies, agreement=alike / max(1, total))


def train(sets: Sequence[ActivitySet], settings: TrainSettings, epochs: Epochs) -> Network:
    """Return a network trained on these people."""
    windows = np.concatenate([each.windows for each in sets])
    classes = np.concatenate([each.classes for each in sets])
    return fit_classes(
        partial(motion_network, windows.shape[1:], _CLASSES),
        [windows],
        classes,
        _weights(classes),
        settings,
        epochs=epochs,
    )


def export(network: Network, sets: Sequence[ActivitySet]) -> bytes:
    """The int8 file, its scales from these people, who have to be those of the training."""
    return to_int8(network, [np.concatenate([each.windows for each in sets])])


def answer(model: Int8Model, each: ActivitySet) -> NDArray[np.int64]:
    """What a gateway would say of each window."""
    return np.array([int(model.run(window[None])[0].argmax()) for window in each.windows], np.int64)


def f1(tally: Tally) -> list[float]:
    """By class; not a number for a class that neither happened nor was answered."""
    both = tally.sum(axis=1) + tally.sum(axis=0)
    return [2 * float(tally[c, c]) / float(both[c]) if both[c] else float("nan") for c in range(_CLASSES)]


def accuracy(tally: Tally) -> float:
    """Share of windows that were answered rightly."""
    return float(np.trace(tally)) / max(1, int(tally.sum()))


def macro_f1_interval(tallies: Mapping[str, Tally], draws: int = 1000, seed: int = 1) -> tuple[float, float]:
    """95 % percentile interval of the mean F1 when persons are drawn with replacement."""
    stack = np.array([tallies[name] for name in sorted(tallies)])
    rng = np.random.default_rng(seed)
    values = [np.nanmean(f1(stack[rng.integers(0, len(stack), len(stack))].sum(axis=0))) for _ in range(draws)]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def total(tallies: Mapping[str, Tally]) -> Tally:
    """All people together."""
    return np.asarray(np.sum(list(tallies.values()), axis=0), np.int64)


def _tally(classes: NDArray[np.int64], told: NDArray[np.int64]) -> Tally:
    counts = np.zeros((_CLASSES, _CLASSES), np.int64)
    np.add.at(counts, (classes, told), 1)
    return counts


def _weights(classes: NDArray[np.int64]) -> NDArray[np.float32]:
    counts = np.maximum(np.bincount(classes, minlength=_CLASSES), 1)
    weights: NDArray[np.float32] = ((1 / counts) ** _CLASS_POWER)[classes].astype(np.float32)
    return weights


def _baselines(sets: Sequence[ActivitySet]) -> dict[str, Answer]:
    classes = np.concatenate([each.classes for each in sets])
    weights = _weights(classes)
    most = int(np.bincount(classes).argmax())

    activity = np.concatenate([each.activity_mg for each in sets])
    edges = np.quantile(activity, np.linspace(0, 1, _BINS + 1)[1:-1])
    votes = np.zeros((_BINS, _CLASSES))
    np.add.at(votes, (np.searchsorted(edges, activity), classes), weights)
    by_bin = votes.argmax(axis=1)

    features = np.concatenate([_simple(each.windows) for each in sets])
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    design = _with_one((features - mean) / spread)
    square = design.T @ (weights[:, None] * design)
    square += _PENALTY * weights.sum() * np.eye(len(square))
    matrix = np.linalg.solve(square, design.T @ (weights[:, None] * np.eye(_CLASSES)[classes]))
    return {
        MAJORITY: lambda each: np.full(len(each.classes), most),
        MEASURE: lambda each: by_bin[np.searchsorted(edges, each.activity_mg)],
        LINEAR: lambda each: (_with_one((_simple(each.windows) - mean) / spread) @ matrix).argmax(axis=1),
    }


def _simple(windows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean, spread, least and most of each column, and how each goes from the first to the last third."""
    third = windows.shape[1] // 3
    change = windows[:, -third:].mean(axis=1) - windows[:, :third].mean(axis=1)
    parts = [windows.mean(axis=1), windows.std(axis=1), windows.min(axis=1), windows.max(axis=1), change]
    return np.concatenate(parts, axis=1).astype(np.float64)


def _with_one(features: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def _facts(sets: Sequence[ActivitySet], judged: Judged, settings: TrainSettings, folds: int) -> dict[str, object]:
    subjects = sorted({each.subject for each in sets})
    counts = np.bincount(np.concatenate([each.classes for each in sets]), minlength=_CLASSES)
    metrics: dict[str, object] = {"int8_answers_as_float": judged.agreement}
    for device, where in DEVICES.items():
        of = judged.tallies[NETWORK][device]
        told = f1(total(of))
        metrics[where] = {
            "accuracy": accuracy(total(of)),
            "macro_f1": float(np.nanmean(told)),
            "macro_f1_interval_95": list(macro_f1_interval(of)),
            "f1": dict(zip(ACTIVITIES, told, strict=True)),
        }
    return {
        "data": "Smartphone and smartwatch inertial measurements (Matey-Sanz et al., Data in Brief 2023, 109809)",
        "persons": subjects,
        "windows": dict(zip(ACTIVITIES, map(int, counts), strict=True)),
        "split": f"{folds}-fold cross-validation over {len(subjects)} persons, each judged by a model trained on other "
        "people; the shipped model is trained on all",
        "settings": asdict(settings),
        "metrics": metrics,
        "limits": LIMITS,
    }
