"""The gateway's beat classifier: trained, judged by people it was not trained on, and exported."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.contract import load_model
from qepa_gateway.inference.runtime import Int8Model
from qepa_server.training.bedside.export import to_int8
from qepa_server.training.bedside.fitting import Epochs, TrainSettings, answers, fit_classes
from qepa_server.training.bedside.networks import Network, beats_network
from qepa_tools.evaluation.cohort import Cohort, read_cohort
from qepa_tools.evaluation.cross_validation import folds_of_persons
from qepa_tools.evaluation.figures import Tally, figures, flat, person_bootstrap, tally
from qepa_tools.evaluation.fitting import FitSettings, beat_weights, fit_softmax
from qepa_tools.evaluation.model import recording_digest
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.places import find_sets
from qepa_tools.recordings.recording import AAMI_CLASSES
from qepa_uplink.bedside_models import CONTRACTS, ECG_BEATS, NUMBERS

from .beat_set import BeatSet, beat_sets, stacked
from .made import Made, Steps, epochs_of, made, track_of

Real = NDArray[np.float32]

CACHE = Path.home() / ".cache" / "qepa" / "features"
WEIGHTS = FitSettings(class_power=0.5, person_power=1.0, fusion=0.0)
LIMITS = (
    "Not a medical device. Adults of one hospital, two-channel Holter tapes of the 1970s; no paced rhythm. Hardly "
    "anybody in the training set has fusion beats: F answers mean nothing. In atrial fibrillation it takes beats for "
    "supraventricular ones. The board's own classifier is right more often. It is meant for signals that ecg-quality "
    "calls usable."
)
_JITTER = 3  # samples at 125 Hz
_SECOND = NUMBERS.index("second_lead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Tallies by person of models that never saw that person: with both leads, and with the board's lead alone.

    agreement: share of beats in which int8 and float answer alike; quanta: largest difference of two probabilities, in
    steps of the int8 output.
    """

    both: dict[str, Tally]
    one: dict[str, Tally]
    agreement: float
    quanta: float


def make(data: Path | None, *, version: int, folds: int, epochs: int, steps: Steps) -> Made:
    """Cross-validate by person, then train on everybody. data: folder that holds mitdb; DataError without it."""
    directory = find_sets(data) / "mitdb"
    track = track_of(steps)
    cohort = read_cohort(directory, FeatureCache(CACHE), track)
    sets = beat_sets(cohort, directory, track)
    settings = TrainSettings(epochs=epochs)
    judged = cross_validate(sets, folds, settings, steps)
    network, representative = train(sets, settings, epochs_of(steps, "Everybody"))
    return made(ECG_BEATS, version, to_int8(network, representative), facts(cohort, sets, settings, judged, folds))


def train(sets: Sequence[BeatSet], settings: TrainSettings, epochs: Epochs) -> tuple[Network, list[Real]]:
    """Return a network trained on these people, and inputs of them to quantize it by."""
    leads, numbers, classes, persons = stacked(sets)
    weights = beat_weights(classes, persons, WEIGHTS)
    first, second = CONTRACTS[ECG_BEATS].inputs
    build = partial(
        beats_network, (first.shape[1], first.shape[2]), second.shape[1], linear_part(numbers, classes, weights)
    )
    network = fit_classes(build, [leads, numbers], classes, weights, settings, alter=altered, epochs=epochs)
    rng = np.random.default_rng(settings.seed)
    drawn = rng.choice(len(classes), min(len(classes), 400), replace=False, p=weights / weights.sum(dtype=np.float64))
    return network, altered([leads[drawn], numbers[drawn]], rng)


def linear_part(numbers: Real, classes: NDArray[np.int64], weights: Real) -> NDArray[np.float64]:
    """Coefficients of a softmax regression on the numbers, a row a class, the bias last; the second lead has none."""
    q8 = np.rint(256 * numbers).astype(np.int16)
    q8[:, _SECOND] = 0
    return fit_softmax(q8, classes, weights, WEIGHTS.penalty)


def altered(inputs: list[Real], rng: np.random.Generator) -> list[Real]:
    """Beats as another patient or board might have them: no second lead, shifted, other heights, a little noise."""
    leads, numbers = (each.copy() for each in inputs)
    n = len(leads)
    gone = rng.random(n) < 0.5
    leads[gone, :, 2:] = 0
    shift = rng.integers(-_JITTER, _JITTER + 1, n)
    for s in np.unique(shift[shift != 0]):
        leads[shift == s] = np.roll(leads[shift == s], s, axis=1)
    leads *= 1 + 0.15 * rng.standard_normal((n, 1, 1), np.float32)
    leads += 0.03 * rng.standard_normal(leads.shape, np.float32) * (leads != 0)
    numbers += 0.06 * rng.standard_normal(numbers.shape, np.float32) * (numbers != 0)
    numbers[:, _SECOND] = (numbers[:, _SECOND] > 0.5) & ~gone
    return [leads, numbers]


def cross_validate(sets: Sequence[BeatSet], folds: int, settings: TrainSettings, steps: Steps) -> Judged:
    """Judge each person by an int8 model, exported as the shipped one is, that was trained on other people."""
    dealt = folds_of_persons([each.case for each in sets], folds)
    both: dict[str, Tally] = {}
    one: dict[str, Tally] = {}
    alike = total = 0
    quanta = 0.0
    for number, out in enumerate(dealt, start=1):
        known = [each for each in sets if each.case.person not in out]
        network, representative = train(known, settings, epochs_of(steps, f"Beats, fold {number} of {len(dealt)}"))
        model = load_model(ECG_BEATS, to_int8(network, representative))
        for each in sets:
            if each.case.person not in out:
                continue
            inputs = [each.leads.astype(np.float32), each.numbers]
            whole, exact = outputs(model, inputs), answers(network, inputs)
            alike += int((whole.argmax(axis=1) == exact.argmax(axis=1)).sum())
            total += len(whole)
            quanta = max(quanta, float(np.abs(whole - exact).max(initial=0)) / model.output_step)
            _add(both, each, whole)
            _add(one, each, outputs(model, _first_lead(inputs)))
    return Judged(both=both, one=one, agreement=alike / max(1, total), quanta=quanta)


def outputs(model: Int8Model, inputs: Sequence[Real]) -> Real:
    """The int8 model's answers, a row an example."""
    return np.array([model.run(*(each[k : k + 1] for each in inputs))[0] for k in range(len(inputs[0]))], np.float32)


def facts(
    cohort: Cohort, sets: Sequence[BeatSet], settings: TrainSettings, judged: Judged, folds: int
) -> dict[str, object]:
    """What the card says."""
    classes = np.concatenate([each.classes[each.classes >= 0] for each in sets])
    counts = np.bincount(classes, minlength=len(AAMI_CLASSES))
    return {
        "data": "MIT-BIH Arrhythmia Database (Moody and Mark 2001), leads and beats as the board makes them",
        "persons": list(cohort.persons),
        "trained_on": sorted(recording_digest(case.recording) for case in cohort.cases),
        "beats": dict(zip(AAMI_CLASSES, map(int, counts), strict=True)),
        "split": f"{folds}-fold cross-validation over {len(cohort.persons)} persons, each judged by a model trained on "
        "other people; the shipped model is trained on all",
        "settings": asdict(settings) | {"weights": asdict(WEIGHTS)},
        "metrics": {
            "two_leads": _metrics(judged.both),
            "one_lead": _metrics(judged.one),
            "int8_answers_as_float": judged.agreement,
            "int8_largest_difference_quanta": judged.quanta,
        },
        "limits": LIMITS,
    }


def _metrics(tallies: dict[str, Tally]) -> dict[str, object]:
    intervals = person_bootstrap(tallies)
    return {
        **flat(figures(sum_of(tallies))),
        "intervals_95": {name: i and [i.low, i.high] for name, i in intervals.items()},
    }


def sum_of(tallies: dict[str, Tally]) -> Tally:
    """All people together."""
    return np.asarray(np.sum(list(tallies.values()), axis=0), np.int64)


def _add(tallies: dict[str, Tally], each: BeatSet, answer: Real) -> None:
    beats = each.case.beats
    whole = np.zeros(len(beats.samples), np.int64)  # a beat without a window counts as called N
    whole[each.index] = answer.argmax(axis=1)
    counts = tally(beats, whole)
    tallies[each.case.person] = tallies.get(each.case.person, np.zeros_like(counts)) + counts


def _first_lead(inputs: Sequence[Real]) -> list[Real]:
    leads, numbers = (each.copy() for each in inputs)
    leads[:, :, 2:] = 0
    numbers[:, _SECOND] = 0
    return [leads, numbers]
