"""The gateway's glucose model: trained, judged by people and sets it was not trained on, beside simpler ways."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.contract import load_model
from qepa_server.training.bedside.fitting import TrainSettings
from qepa_tools.recordings.places import find_sets
from qepa_uplink.bedside_models import CHANGE_MG_DL, GLUCOSE_30

from .clarke import zones
from .forecasts import SETTINGS, Forecasts, baselines, by_forecast, fit_glucose, run_int8
from .glucose_set import HORIZONS_S, GlucoseSet, glucose_sets
from .hypoglycaemia import Warnings, threshold_for, warnings
from .made import Made, Steps, epochs_of, made, track_of

NETWORK, BY_FORECAST = "network, int8", "network, its forecast alone"
FALSE_A_DAY = 1.0  # what thresholds are chosen for, on training people
HALF_HOUR = HORIZONS_S.index(1800)
LIMITS = (
    "Not a medical device, and no ground to treat on. It sees glucose alone: no meals, insulin or exercise. Recorded "
    "in daily life, not on a ward; most lows are of people with type 1 diabetes. At one false warning a day and person "
    "it misses about a fifth of the episodes, and half of the others it foretells by a quarter of an hour or less. "
    "Readings are those of a monitor, which lag behind blood."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One model's people: ``test`` with the forecasts of each way, and the thresholds that training people gave."""

    test: list[GlucoseSet]
    forecasts: Mapping[str, Forecasts]
    thresholds: Mapping[str, float]

    def at(self, chosen: Sequence[int]) -> "Split":
        """Some of these people."""
        some = {
            way: replace(each, changes=[each.changes[k] for k in chosen], risks=[each.risks[k] for k in chosen])
            for way, each in self.forecasts.items()
        }
        return Split(test=[self.test[k] for k in chosen], forecasts=some, thresholds=self.thresholds)


def make(data: Path | None, *, version: int, folds: int, epochs: int, steps: Steps) -> Made:
    """Cross-validate by person, then train on everybody. data: folder that holds cgm; DataError without it."""
    sets = glucose_sets(find_sets(data) / "cgm", track_of(steps))
    settings = TrainSettings(epochs=epochs, draw=SETTINGS.draw, batch=SETTINGS.batch, rate=SETTINGS.rate)
    splits = by_person(sets, folds, settings, steps)
    _, blob = fit_glucose(sets, HALF_HOUR, settings, epochs=epochs_of(steps, "Everybody"))
    # The shipped model has no people left to choose on: those of the cross-validation, forecast by models without them.
    unseen = Forecasts(
        changes=[change for split in splits for change in split.forecasts[NETWORK].changes],
        risks=[risk for split in splits for risk in split.forecasts[NETWORK].risks],
        hysteresis=splits[0].forecasts[NETWORK].hysteresis,
    )
    people = [each for split in splits for each in split.test]
    begins = threshold_for(people, unseen.risks, FALSE_A_DAY, unseen.hysteresis)
    warning = {"begins_log_odds": begins, "ends_log_odds": begins - unseen.hysteresis}
    return made(GLUCOSE_30, version, blob, {"warning": warning, **_facts(sets, splits, settings, folds)})


def by_person(sets: Sequence[GlucoseSet], folds: int, settings: TrainSettings, steps: Steps) -> list[Split]:
    """Cross-validation: each person is in one split, and no split's model saw its people."""
    return [
        split([sets[k] for k in range(len(sets)) if k % folds != fold], list(sets[fold::folds]), settings, steps,
              f"Glucose, fold {fold + 1} of {folds}")
        for fold in range(folds)
    ]  # fmt: skip


def by_source(sets: Sequence[GlucoseSet], settings: TrainSettings, steps: Steps) -> dict[str, Split]:
    """For each set of recordings a model that was trained on the others: other monitors, clinics and diagnoses."""
    return {
        source: split(
            [each for each in sets if each.source != source],
            [each for each in sets if each.source == source],
            settings,
            steps,
            f"Glucose without {source}",
        )
        for source in dict.fromkeys(each.source for each in sets)
    }


def split(train: list[GlucoseSet], test: list[GlucoseSet], settings: TrainSettings, steps: Steps, what: str) -> Split:
    """Train on some people, forecast for others, in all ways."""
    _, blob = fit_glucose(train, HALF_HOUR, settings, epochs=epochs_of(steps, what))
    load_model(GLUCOSE_30, blob)
    told, known = _ways(blob, train, test), _ways(blob, train, train)
    thresholds = {way: threshold_for(train, each.risks, FALSE_A_DAY, each.hysteresis) for way, each in known.items()}
    return Split(test=test, forecasts=told, thresholds=thresholds)


def judged(splits: Sequence[Split], way: str) -> Warnings:
    """Warnings for people whom neither the model nor its threshold knew."""
    parts = [
        warnings(each.test, each.forecasts[way].risks, each.thresholds[way], each.forecasts[way].hysteresis)
        for each in splits
    ]
    return Warnings.sum(parts)


def errors(splits: Sequence[Split], way: str, horizon: int = HALF_HOUR) -> list[NDArray[np.float64]]:
    """Forecast less truth in mg/dL, by person, where there is a truth."""
    found = []
    for part in splits:
        for each, change in zip(part.test, part.forecasts[way].changes, strict=True):
            error = change - each.changes[:, horizon]
            found.append(error[np.isfinite(error)])
    return found


def rmse(of: Sequence[NDArray[np.float64]]) -> float:
    """Of all persons' errors together."""
    return float(np.sqrt(sum(float(e @ e) for e in of) / max(1, sum(len(e) for e in of))))


def rmse_interval(of: Sequence[NDArray[np.float64]], draws: int = 1000, seed: int = 1) -> tuple[float, float]:
    """95 % percentile interval when persons are drawn with replacement."""
    squares, counts = np.array([e @ e for e in of]), np.array([len(e) for e in of])
    drawn = np.random.default_rng(seed).integers(0, len(of), (draws, len(of)))
    low, high = np.quantile(
        np.sqrt(squares[drawn].sum(axis=1) / np.maximum(counts[drawn].sum(axis=1), 1)), [0.025, 0.975]
    )
    return float(low), float(high)


def grid(splits: Sequence[Split], way: str) -> NDArray[np.int64]:
    """How many forecasts fall into each of Clarke's zones."""
    counts = np.zeros(5, np.int64)
    for part in splits:
        for each, change in zip(part.test, part.forecasts[way].changes, strict=True):
            now, truth = each.record.mg_dl[each.at].astype(np.float64), each.changes[:, HALF_HOUR]
            known = np.isfinite(truth)
            counts += np.bincount(zones((now + truth)[known], (now + change)[known]), minlength=5)
    return counts


def _ways(blob: bytes, train: Sequence[GlucoseSet], test: Sequence[GlucoseSet]) -> dict[str, Forecasts]:
    network = run_int8(blob, test)
    return {
        NETWORK: network,
        BY_FORECAST: by_forecast(test, network.changes),
        **baselines(train, test, HALF_HOUR),
    }


def _facts(
    sets: Sequence[GlucoseSet], splits: Sequence[Split], settings: TrainSettings, folds: int
) -> dict[str, object]:
    found = judged(splits, NETWORK)
    of = errors(splits, NETWORK)
    return {
        "data": "Glucose-ML's BIG IDEAs, Hall 2018, HUPA-UCM and PhysioCGM; of HUPA-UCM only what was not interpolated",
        "persons": [each.person for each in sets],
        "forecasts": sum(len(each.at) for each in sets),
        "split": f"{folds}-fold cross-validation over {len(sets)} persons, each judged by a model and a threshold of "
        "other people; the shipped model is trained on all",
        "settings": asdict(settings),
        "metrics": {
            "rmse_mg_dl": rmse(of),
            "rmse_interval_95": list(rmse_interval(of)),
            "rmse_of_last_reading_mg_dl": rmse(errors(splits, "last reading")),
            "clarke_a_b_share": float(grid(splits, NETWORK)[:2].sum() / grid(splits, NETWORK).sum()),
            "episodes": found.episodes,
            "episodes_foretold_share": found.sensitivity,
            "false_warnings_a_day": found.false_a_day,
            "lead_time_median_min": float(np.median(found.lead_s)) / 60 if len(found.lead_s) else None,
        },
        "output_units": {"change": f"{CHANGE_MG_DL:g} mg/dL"},
        "limits": LIMITS,
    }
