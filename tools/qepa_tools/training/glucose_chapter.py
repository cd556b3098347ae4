"""The chapter on glucose of ``qepa bench learning``: errors, error grid, other sets, and warnings before a low."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from qepa_tools.benchmarks.learning import Chapter, Say
from qepa_tools.recordings.table import Table, number, percent

from .clarke import ZONES
from .forecasts import SETTINGS, baselines
from .glucose import (
    BY_FORECAST,
    FALSE_A_DAY,
    NETWORK,
    Split,
    by_person,
    by_source,
    errors,
    grid,
    judged,
    rmse,
    rmse_interval,
)
from .glucose_set import HORIZONS_S, LOW_MG_DL, GlucoseSet, glucose_sets
from .hypoglycaemia import Warnings, warnings
from .made import Steps, track_of
from .pictures import png

FOLDS = 5
FORECASTS = ("last reading", "straight line", "ridge", NETWORK)
WARNERS = ("last reading", "straight line", "ridge", BY_FORECAST, NETWORK)

_COLOURS = dict(zip(WARNERS, ("#999999", "#e69f00", "#0072b2", "#56b4e9", "#d55e00"), strict=True))
_CURVE = 1 - np.geomspace(3e-4, 0.25, 60)  # quantiles of the risk
_SHOWN_S = 24 * 3600
_LONGEST_STEP_H = 0.3  # between readings that a line joins


def chapter(data: Path, say: Say) -> Chapter:
    """data: a folder beside which cgm lies."""

    def steps(n: int, what: str) -> Iterable[int]:
        say(what)
        return range(n)

    sets = glucose_sets(data.parent / "cgm", track_of(steps))
    splits = by_person(sets, FOLDS, SETTINGS, steps)
    others = by_source(sets, SETTINGS, steps)
    curves = {way: _curve(splits, way) for way in WARNERS}
    return Chapter(
        tables={
            "glucose-errors": _errors(splits, others),
            "glucose-horizons": _horizons(sets, steps),
            "glucose-grid": _grid(splits),
            "glucose-warnings": _warnings(splits, curves),
            "glucose-sets": _sets(splits, others),
        },
        figures={"glucose-forecast.png": _days(splits), "glucose-warnings.png": _alarm_curves(curves, splits)},
    )


def _errors(splits: Sequence[Split], others: Mapping[str, Split]) -> Table:
    rows = []
    for source in (*others, "all"):
        chosen = splits if source == "all" else [_only(each, source) for each in splits]
        people = sum(len(each.test) for each in chosen)
        row = [f"{source}, {people} people"]
        for way in FORECASTS:
            of = errors(chosen, way)
            low, high = rmse_interval(of)
            row.append(f"{rmse(of):.1f} ({low:.1f} to {high:.1f}), {np.abs(np.concatenate(of)).mean():.1f}")
        away = [others[source]] if source != "all" else list(others.values())
        row.append(number(rmse(errors(away, NETWORK))))
        rows.append(row)
    return Table(
        title="Glucose 30 minutes ahead: RMSE (95 %) and MAE in mg/dL, on people never trained on",
        columns=["", *FORECASTS, "network that saw the other sets alone, RMSE"],
        rows=rows,
        notes=[f"{FOLDS} folds by person; intervals: persons drawn with replacement."],
    )


def _horizons(sets: Sequence[GlucoseSet], steps: Steps) -> Table:
    rows = []
    for horizon, ahead_s in enumerate(HORIZONS_S):
        parts = []
        for fold in steps(FOLDS, f"Glucose {ahead_s // 60} min ahead"):
            train, test = [each for k, each in enumerate(sets) if k % FOLDS != fold], list(sets[fold::FOLDS])
            parts.append(Split(test=test, forecasts=baselines(train, test, horizon), thresholds={}))
        rows.append([f"{ahead_s // 60} min", *(number(rmse(errors(parts, way, horizon))) for way in FORECASTS[:3])])
    return Table(
        title="How the error grows with time: RMSE in mg/dL of the ways without a network",
        columns=["ahead", *FORECASTS[:3]],
        rows=rows,
    )


def _grid(splits: Sequence[Split]) -> Table:
    rows = []
    for way in FORECASTS:
        counts = grid(splits, way)
        rows.append([way, *(percent(int(count), int(counts.sum()), 2) for count in counts)])
    return Table(
        title="Forecasts 30 minutes ahead by zones of Clarke's error grid, %",
        columns=["", *ZONES],
        rows=rows,
        notes=["The grid was made for meters: B is benign, C overcorrects, D misses, E treats the opposite."],
    )


def _warnings(splits: Sequence[Split], curves: Mapping[str, list[Warnings]]) -> Table:
    rows = []
    for way in WARNERS:
        found = judged(splits, way)
        rows.append([
            way,
            f"{found.foretold} of {found.episodes}",
            f"{100 * found.sensitivity:.1f} ({_interval(splits, way)})",
            number(found.false_a_day, 2),
            number(float(np.median(found.lead_s)) / 60, 0),
            percent(_at(curves[way], FALSE_A_DAY), 1),
            percent(_at(curves[way], FALSE_A_DAY / 2), 1),
        ])  # fmt: skip
    return Table(
        title=f"Warnings before readings below {LOW_MG_DL} mg/dL, on people never trained on",
        columns=[
            "", "episodes foretold", "% (95 %)", "false a day and person", "lead, median min",
            f"% at {FALSE_A_DAY:g} false a day", f"% at {FALSE_A_DAY / 2:g}",
        ],
        rows=rows,
        notes=[
            f"Thresholds give {FALSE_A_DAY:g} false warning a day on training people; what they give on others is "
            "shown. The last two columns are read off the curve of the people judged, so that ways compare at the "
            "same rate. Monitors read every 5 minutes, HUPA-UCM's every 15."
        ],
    )  # fmt: skip


def _sets(splits: Sequence[Split], others: Mapping[str, Split]) -> Table:
    rows = []
    for source, away in others.items():
        here = judged([_only(each, source) for each in splits], NETWORK)
        there = judged([away], NETWORK)
        rows.append([
            source, str(here.episodes), number(here.days, 0),
            percent(here.foretold, here.episodes), number(here.false_a_day, 2),
            percent(there.foretold, there.episodes), number(there.false_a_day, 2),
        ])  # fmt: skip
    return Table(
        title="Warnings of the network by set",
        columns=[
            "", "episodes", "days", "foretold %, other people", "false a day", "foretold %, other sets", "false a day "
        ],
        rows=rows,
        notes=["Other sets: model and threshold come from the three other sets, so from other monitors and clinics."],
    )  # fmt: skip


def _only(part: Split, source: str) -> Split:
    chosen = [k for k, each in enumerate(part.test) if each.source == source]
    return part.at(chosen)


def _curve(splits: Sequence[Split], way: str) -> list[Warnings]:
    """Warnings of all people, at one threshold for all, from few to many."""
    pooled = np.concatenate([risk for each in splits for risk in each.forecasts[way].risks])
    found = []
    for threshold in np.quantile(pooled, _CURVE):
        parts = [
            warnings(each.test, each.forecasts[way].risks, float(threshold), each.forecasts[way].hysteresis)
            for each in splits
        ]
        found.append(Warnings.sum(parts))
    return found


def _at(curve: Sequence[Warnings], false_a_day: float) -> float:
    """Sensitivity at a rate of false warnings, on the straight line between two thresholds."""
    rates = np.array([each.false_a_day for each in curve])
    until = int(rates.argmax()) + 1
    return float(np.interp(false_a_day, rates[:until], [each.sensitivity for each in curve[:until]]))


def _interval(splits: Sequence[Split], way: str, draws: int = 1000) -> str:
    counts = []
    for part in splits:
        for k in range(len(part.test)):
            found = judged([part.at([k])], way)
            counts.append((found.episodes, found.foretold))
    stack = np.array(counts)
    drawn = stack[np.random.default_rng(1).integers(0, len(stack), (draws, len(stack)))].sum(axis=1)
    low, high = np.quantile(100 * drawn[:, 1] / np.maximum(drawn[:, 0], 1), [0.025, 0.975])
    return f"{low:.1f} to {high:.1f}"


def _alarm_curves(curves: Mapping[str, list[Warnings]], splits: Sequence[Split]) -> bytes:
    canvas = Canvas(figsize=(8, 3.8), layout="constrained")
    axes = canvas.add_subplot()
    for way in WARNERS:
        curve = curves[way]
        rates = [each.false_a_day for each in curve]
        until = int(np.argmax(rates)) + 1
        shares = [100 * each.sensitivity for each in curve]
        axes.plot(rates[:until], shares[:until], color=_COLOURS[way], label=way)
        chosen = judged(splits, way)
        axes.plot(chosen.false_a_day, 100 * chosen.sensitivity, "o", color=_COLOURS[way])
    axes.set_xlim(0, 3)
    axes.set_ylim(0, 100)
    axes.set_xlabel("false warnings a day and person")
    axes.set_ylabel("episodes foretold, %")
    axes.set_title("Warnings before glucose below 70 mg/dL; dots: thresholds of training people", fontsize=10)
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(alpha=0.3)
    return png(canvas)


def _days(splits: Sequence[Split]) -> bytes:
    """The day with most low readings of two people never trained on: chosen by what happened, not by the forecast."""
    canvas = Canvas(figsize=(8, 5), layout="constrained")
    wanted = ("PhysioCGM", "Hall 2018")
    for place, source in enumerate(wanted, start=1):
        part = _only(splits[0], source)
        lows = [int((each.record.mg_dl < LOW_MG_DL).sum()) for each in part.test]
        k = int(np.argmax(lows))
        _day(canvas.add_subplot(len(wanted), 1, place), part.test[k], part, k)
    return png(canvas)


def _day(axes: Axes, person: GlucoseSet, part: Split, k: int) -> None:
    t_s, mg_dl = person.record.t_s, person.record.mg_dl
    begin = _lowest_day(t_s, mg_dl)
    told = part.forecasts[NETWORK]
    at_s = t_s[person.at]
    chosen = (at_s >= begin - 1800) & (at_s < begin + _SHOWN_S - 1800)
    inside = (t_s >= begin) & (t_s < begin + _SHOWN_S)
    hours = (at_s[chosen] + 1800 - begin) / 3600
    measured = _with_gaps((t_s[inside] - begin) / 3600, mg_dl[inside])
    axes.plot(*measured, ".-", color="#1a1a1a", markersize=3, label="measured")
    ahead = mg_dl[person.at][chosen] + told.changes[k][chosen]
    axes.plot(*_with_gaps(hours, ahead), color=_COLOURS[NETWORK], linewidth=1, label="foretold half an hour before")
    warned = (told.risks[k] > part.thresholds[NETWORK])[chosen] & (mg_dl[person.at][chosen] >= LOW_MG_DL)
    axes.plot(hours[warned] - 0.5, np.full(int(warned.sum()), 45), "|", color="#d55e00", label="risk above threshold")
    axes.axhline(LOW_MG_DL, color="#0072b2", linewidth=0.8)
    axes.set_ylabel(f"{person.source}, mg/dL", fontsize=8)
    axes.set_xlabel("hours", fontsize=8)
    axes.legend(fontsize=7, loc="upper right")


def _with_gaps(hours: NDArray[np.float64], values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Break the line where readings are missing."""
    after = np.flatnonzero(np.diff(hours) > _LONGEST_STEP_H) + 1
    return np.insert(hours, after, np.nan), np.insert(values.astype(np.float64), after, np.nan)


def _lowest_day(t_s: NDArray[np.int64], mg_dl: NDArray[np.int64]) -> int:
    days = (t_s - t_s[0]) // _SHOWN_S
    lows = np.bincount(days, weights=mg_dl < LOW_MG_DL)
    return int(t_s[0] + _SHOWN_S * lows.argmax())
