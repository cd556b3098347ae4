"""The gateway's judge of signal quality: trained, judged by people and noise it was not trained on, and exported."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.contract import load_model
from qepa_server.training.bedside.export import to_int8
from qepa_server.training.bedside.fitting import Epochs, TrainSettings, answers, fit_classes
from qepa_server.training.bedside.networks import Network, quality_network
from qepa_tools.evaluation.cohort import Case, read_cohort
from qepa_tools.evaluation.figures import share
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.places import find_sets
from qepa_uplink.bedside_models import CONTRACTS, ECG_QUALITY

from .ecg_beats import CACHE, outputs
from .made import Made, Steps, epochs_of, made, track_of
from .quality_set import (
    BETWEEN,
    ELECTRODE_MOTION,
    POOR,
    USABLE,
    QualitySet,
    electrode_motion,
    load_noises,
    made_noise,
    quality_set,
)

Real = NDArray[np.float32]

RECORDED, MADE = "wander, muscle", "made"
SHIPPED_KINDS, OTHER_KINDS = (RECORDED, MADE, ELECTRODE_MOTION), (RECORDED, MADE)
DRAW = 6000
DRAWS, SEED = 1000, 1
LIMITS = (
    "Not a medical device. Noise was added to Holter tapes by a computer; what an electrode does on other skin it has "
    "not seen. It judges four seconds, not single beats, and knows nothing of wrong leads."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows of one person that were judged by a model trained on others. poor: what it answers."""

    of: QualitySet
    poor: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """windows: by kind of noise. agreement: share of windows in which int8 and float answer alike."""

    windows: dict[str, list[Windows]]
    agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """Windows to train on and to judge by, by kind of noise; no piece of noise is in both."""

    training: dict[str, list[QualitySet]]
    judging: dict[str, list[QualitySet]]

    def of(self, *kinds: str) -> list[QualitySet]:
        """To train on, of these kinds."""
        return [each for kind in kinds for each in self.training[kind]]


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityFigures:
    """Shares, None of nothing. Wrong: beats that the board missed or made up, per annotated beat.

    poor_found: of windows with too much noise left, called poor. usable_kept: of windows with little, called usable.
    """

    windows: int
    poor_found: float | None
    usable_kept: float | None
    wrong_before: float | None
    wrong_in_usable: float | None
    wrong_in_poor: float | None
    called_poor: float | None


def make(data: Path | None, *, version: int, folds: int, epochs: int, steps: Steps) -> Made:
    """Cross-validate by person and by piece of noise, then train on all people. data: folder with mitdb and nstdb."""
    folder = find_sets(data)
    settings = TrainSettings(epochs=epochs, draw=DRAW)
    sets = noisy_sets(cases_of(folder / "mitdb", steps), folder, steps)
    judged = judge(sets, folds, settings, steps)
    network, representative = train(sets.of(*SHIPPED_KINDS), settings, epochs_of(steps, "Everybody"))
    card = {
        "data": "MIT-BIH Arrhythmia Database with noise added: of the MIT-BIH Noise Stress Test Database, and made",
        "persons": sorted({each.person for each in sets.of(RECORDED)}),
        "split": f"{folds} folds by person; noise of the Noise Stress Test Database: first half for training, "
        "the second for judging",
        "settings": asdict(settings),
        "metrics": {
            "shipped kinds": _metrics(judged[SHIPPED_KINDS]),
            "never trained on electrode motion": _metrics(judged[OTHER_KINDS]),
            "int8_answers_as_float": judged[SHIPPED_KINDS].agreement,
        },
        "limits": LIMITS,
    }
    return made(ECG_QUALITY, version, to_int8(network, representative), card)


def judge(sets: Sets, folds: int, settings: TrainSettings, steps: Steps) -> dict[tuple[str, ...], Judged]:
    """Cross-validate as shipped, and without electrode motion among what is trained on."""
    return {
        kinds: cross_validate(sets.of(*kinds), sets.judging, folds, settings, steps)
        for kinds in (SHIPPED_KINDS, OTHER_KINDS)
    }


def _metrics(judged: Judged) -> dict[str, object]:
    return {
        f"noise: {kind}": {
            "model": asdict(figures(windows, [each.poor for each in windows])),
            "intervals_95": intervals(windows),
            "board's own verdict": asdict(figures(windows, [~each.of.board_good for each in windows])),
        }
        for kind, windows in judged.windows.items()
    }


def cases_of(mitdb: Path, steps: Steps) -> tuple[Case, ...]:
    """Everybody of MIT-BIH that is evaluated."""
    return read_cohort(mitdb, FeatureCache(CACHE), track_of(steps)).cases


def noisy_sets(cases: Sequence[Case], folder: Path, steps: Steps) -> Sets:
    """Windows with noise of each kind. folder: holds mitdb and nstdb."""
    nstdb, mitdb = folder / "nstdb", folder / "mitdb"
    training = {
        RECORDED: load_noises(nstdb, first_half=True),
        MADE: [made_noise(SEED)],
        ELECTRODE_MOTION: [electrode_motion(nstdb, mitdb, first_half=True)],
    }
    judging = {
        RECORDED: load_noises(nstdb, first_half=False),
        ELECTRODE_MOTION: [electrode_motion(nstdb, mitdb, first_half=False)],
    }
    sets = Sets(training={kind: [] for kind in training}, judging={kind: [] for kind in judging})
    for k in steps(len(cases), "Noise"):
        for to, noises in ((sets.training, training), (sets.judging, judging)):
            for number, (kind, noise) in enumerate(noises.items()):
                to[kind].append(quality_set(cases[k], noise, number if noises is training else 10 + number))
    return sets


def train(sets: Sequence[QualitySet], settings: TrainSettings, epochs: Epochs) -> tuple[Network, list[Real]]:
    """Return a network trained on these people, both classes alike in number, and inputs of them to quantize it by."""
    chosen = [each.classes != BETWEEN for each in sets]
    windows = np.concatenate([each.windows[c] for each, c in zip(sets, chosen, strict=True)]).astype(np.float32)
    classes = np.concatenate([each.classes[c] for each, c in zip(sets, chosen, strict=True)])
    weights = (1 / np.bincount(classes, minlength=2))[classes].astype(np.float32)
    contract = CONTRACTS[ECG_QUALITY]
    build = partial(quality_network, contract.inputs[0].shape[1], len(contract.outputs))
    network = fit_classes(build, [windows], classes, weights, settings, alter=_altered, epochs=epochs)
    rng = np.random.default_rng(settings.seed)
    drawn = rng.choice(len(classes), min(len(classes), 400), replace=False, p=weights / weights.sum(dtype=np.float64))
    return network, [windows[drawn]]


def cross_validate(
    training: Sequence[QualitySet],
    judging: dict[str, list[QualitySet]],
    folds: int,
    settings: TrainSettings,
    steps: Steps,
) -> Judged:
    """Judge each person by an int8 model that was trained on other people, with noise that it was not trained on."""
    persons = sorted({each.person for each in training})
    windows: dict[str, list[Windows]] = {kind: [] for kind in judging}
    alike = total = 0
    for k in range(folds):
        out = set(persons[k::folds])
        known = [each for each in training if each.person not in out]
        network, representative = train(known, settings, epochs_of(steps, f"Quality, fold {k + 1} of {folds}"))
        model = load_model(ECG_QUALITY, to_int8(network, representative))
        for kind, sets in judging.items():
            for each in sets:
                if each.person in out:
                    inputs = [each.windows.astype(np.float32)]
                    answer, exact = outputs(model, inputs), answers(network, inputs)
                    alike += int((answer.argmax(axis=1) == exact.argmax(axis=1)).sum())
                    total += len(answer)
                    windows[kind].append(Windows(of=each, poor=answer.argmax(axis=1) == POOR))
    return Judged(windows=windows, agreement=alike / max(1, total))


def figures(windows: Sequence[Windows], poor: Sequence[NDArray[np.bool_]]) -> QualityFigures:
    """Figures of verdicts on windows, the model's or others."""
    classes = np.concatenate([each.of.classes for each in windows])
    wrong = np.concatenate([each.of.errors for each in windows])
    beats = np.concatenate([each.of.beats for each in windows])
    called = np.concatenate(list(poor))
    return QualityFigures(
        windows=len(classes),
        poor_found=share(called[classes == POOR].sum(), (classes == POOR).sum()),
        usable_kept=share((~called[classes == USABLE]).sum(), (classes == USABLE).sum()),
        wrong_before=share(wrong.sum(), beats.sum()),
        wrong_in_usable=share(wrong[~called].sum(), beats[~called].sum()),
        wrong_in_poor=share(wrong[called].sum(), beats[called].sum()),
        called_poor=share(called.sum(), len(called)),
    )


def intervals(windows: Sequence[Windows]) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals when persons are drawn with replacement."""
    persons = sorted({each.of.person for each in windows})
    of = {person: [each for each in windows if each.of.person == person] for person in persons}
    rng = np.random.default_rng(SEED)
    values: dict[str, list[float]] = {"poor_found": [], "usable_kept": [], "wrong_in_usable": []}
    for _ in range(DRAWS):
        drawn = [each for k in rng.integers(0, len(persons), len(persons)) for each in of[persons[k]]]
        result = figures(drawn, [each.poor for each in drawn])
        for name, kept in values.items():
            value = getattr(result, name)
            if value is not None:
                kept.append(value)
    quantiles = {name: np.quantile(kept, [0.025, 0.975]) for name, kept in values.items() if kept}
    return {name: (float(low), float(high)) for name, (low, high) in quantiles.items()}


def _altered(inputs: list[Real], rng: np.random.Generator) -> list[Real]:
    """Other electrodes: turned over, and a little louder or softer."""
    windows = inputs[0].copy()
    windows *= np.where(rng.random((len(windows), 1, 1)) < 0.3, -1, 1).astype(np.float32)
    windows *= 1 + 0.05 * rng.standard_normal((len(windows), 1, 1), np.float32)
    return [windows]
