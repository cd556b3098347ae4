"""Ways to foretell glucose: the int8 network, a ridge regression, a straight line, and the last reading itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from qepa_gateway.inference.glucose_windows import DIFFERENCE, LEVEL, PRESENT, STEP_S, UNIT_MG_DL
from qepa_gateway.inference.runtime import Int8Model
from qepa_server.training.bedside.export import to_int8
from qepa_server.training.bedside.fitting import Epochs, TrainSettings
from qepa_server.training.bedside.forecasting import fit_forecast
from qepa_server.training.bedside.networks import Network, forecast_network
from qepa_uplink.bedside_models import CHANGE_MG_DL, CONTRACTS, GLUCOSE_30, LOG_ODDS

from .glucose_set import HORIZONS_S, GlucoseSet, person_weights

Real = NDArray[np.float64]
SETTINGS = TrainSettings(epochs=10, draw=120_000, batch=512, rate=3e-3)
HYSTERESIS_MG_DL = 5.0
HYSTERESIS_LOG_ODDS = 0.5

_CONTRACT = CONTRACTS[GLUCOSE_30]
_LINE_STEPS = 7  # half an hour
_PENALTY = 1e-5  # of the ridge, for each example


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """By person: change in mg/dL, and a risk of falling low in any rising unit, with the hysteresis that fits it."""

    changes: list[Real]
    risks: list[Real]
    hysteresis: float = HYSTERESIS_MG_DL


def baselines(train: Sequence[GlucoseSet], test: Sequence[GlucoseSet], horizon: int) -> dict[str, Forecasts]:
    """Forecasts without a network for HORIZONS_S[horizon], those who learn from ``train`` alone."""
    weights = _ridge_weights(train, horizon)
    ways: Mapping[str, Callable[[GlucoseSet], Real]] = {
        "last reading": lambda each: np.zeros(len(each.at)),
        "straight line": partial(_line, ahead_s=HORIZONS_S[horizon]),
        "ridge": lambda each: _design(each.windows) @ weights,
    }
    return {name: by_forecast(test, [way(each) for each in test]) for name, way in ways.items()}


def by_forecast(sets: Sequence[GlucoseSet], changes: list[Real]) -> Forecasts:
    """Let the risk be the lower, the higher the forecast."""
    risks = [-(each.record.mg_dl[each.at] + change) for each, change in zip(sets, changes, strict=True)]
    return Forecasts(changes=changes, risks=risks)


def fit_glucose(
    train: Sequence[GlucoseSet], horizon: int, settings: TrainSettings = SETTINGS, *, epochs: Epochs = range
) -> tuple[Network, bytes]:
    """Return the network and its int8 file, for HORIZONS_S[horizon]."""
    windows = np.concatenate([each.windows for each in train])
    changes = np.concatenate([each.changes[:, horizon] for each in train])
    low = np.concatenate([each.low[:, horizon] for each in train])
    known = np.isfinite(changes)
    network = fit_forecast(
        lambda: forecast_network((windows.shape[1], windows.shape[2]), len(_CONTRACT.outputs)),
        windows[known],
        changes[known],
        low[known],
        person_weights(train)[known],
        settings,
        epochs=epochs,
    )
    return network, to_int8(network, [windows])


def run_int8(blob: bytes, sets: Sequence[GlucoseSet]) -> Forecasts:
    """What the file answers, as a gateway runs it."""
    model = Int8Model(blob)
    answers = [np.array([model.run(window[None])[0] for window in each.windows], np.float64) for each in sets]
    return Forecasts(
        changes=[CHANGE_MG_DL * each[:, 0] for each in answers],
        risks=[LOG_ODDS * each[:, 1] for each in answers],
        hysteresis=HYSTERESIS_LOG_ODDS,
    )


def _line(each: GlucoseSet, ahead_s: int) -> Real:
    part = each.windows[:, -_LINE_STEPS:].astype(np.float64)
    present, value = part[:, :, PRESENT] > 0, part[:, :, DIFFERENCE] * UNIT_MG_DL
    t = np.arange(1 - _LINE_STEPS, 1) * STEP_S
    n, st, stt = present.sum(axis=1), present @ t, present @ t**2
    sv, stv = (present * value).sum(axis=1), (present * value) @ t
    change: Real = (ahead_s * (n * stv - st * sv) / (n * stt - st**2)).astype(np.float64)
    return change


def _design(windows: NDArray[np.float32]) -> Real:
    past = windows[:, :-1].astype(np.float64)
    level = windows[:, -1:, LEVEL].astype(np.float64)
    return np.concatenate(
        [past[:, :, DIFFERENCE], past[:, :, PRESENT], level, level**2, np.ones((len(windows), 1))], axis=1
    )


def _ridge_weights(train: Sequence[GlucoseSet], horizon: int) -> Real:
    """Solve the normal equations, persons added one after the other."""
    size = _design(train[0].windows[:1]).shape[1]
    square, right, n = np.zeros((size, size)), np.zeros(size), 0
    for each in train:
        known = np.isfinite(each.changes[:, horizon])
        design, weight = _design(each.windows[known]), len(each.at) ** -0.5
        square += weight * design.T @ design
        right += weight * design.T @ each.changes[known, horizon]
        n += len(design)
    return np.asarray(np.linalg.solve(square + _PENALTY * n * np.eye(size), right), np.float64)
