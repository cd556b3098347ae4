"""The chapter on the board's beat model of ``qepa bench learning``: `qepa evaluate` in short, and alarms."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure as Canvas

from qepa_tools.benchmarks.learning import Chapter, Say
from qepa_tools.evaluation.cli import CACHE
from qepa_tools.evaluation.cohort import read_cohort
from qepa_tools.evaluation.cross_validation import FOLDS
from qepa_tools.evaluation.evaluate import Result, cross_validated
from qepa_tools.evaluation.figures import BINS, Figures, Reliability
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.evaluation.operating_points import OperatingPoints, operating_points
from qepa_tools.evaluation.report import percentage, with_interval
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.recording import AAMI_CLASSES
from qepa_tools.recordings.table import Table, percent

_ANSWERED = 3  # N, S, V
_COLOURS = {"S": "#e69f00", "V": "#d55e00"}


def chapter(data: Path, say: Say) -> Chapter:
    """data: a directory of WFDB records."""

    def told(names: Sequence[str], what: str) -> Iterable[str]:
        say(what)
        return names

    cohort = read_cohort(data, FeatureCache(CACHE), told)
    settings = FitSettings()
    result = cross_validated(cohort, settings, FOLDS, told)
    points = operating_points(cohort.cases, settings, FOLDS, told)
    return Chapter(
        tables={"beats": _beats(result), "beats-alarms": _alarms(points), "beats-calibration": _calibration(points)},
        figures={"beats-alarms.png": _curves(points)},
    )


def _beats(result: Result) -> Table:
    of, intervals, beside = result.overall, result.intervals, result.inflated
    rows = [
        ["accuracy of beats found, %", with_interval(of.accuracy, intervals["accuracy"])],
        ["macro F1 over N, S, V, %", with_interval(of.macro_f1, intervals["macro_f1"])],
    ]
    for c, name in enumerate(AAMI_CLASSES[:_ANSWERED]):
        for title, key, value in (("Se", "sensitivity", of.sensitivity[c]), ("PPV", "ppv", of.ppv[c])):
            rows.append([f"{name}: {title}, %", with_interval(value, intervals[f"{name} {key}"])])
    if beside is not None:
        for row, value in zip(rows, _values(beside), strict=True):
            row.append(percentage(value))
    every = list(result.alarms.values())
    delays = [delay for each in every for delay in each.delays_s]
    runs = f"{len(delays)} of {sum(each.runs for each in every)}"
    if delays:
        runs += f", after {median(delays):.1f} s (median)"
    false = sum(each.false for each in every) / sum(each.hours for each in every)
    rows += [
        ["runs of three V beats or more answered by three V", runs, ""],
        ["such answers without a run, an hour", f"{false:.1f}", ""],
    ]
    n = result.counts[:-1].sum()
    return Table(
        title=f"{len(result.cohort.persons)} people of MIT-BIH, {FOLDS} folds (95 % intervals over persons)",
        columns=["", "people never trained on", "split by beat: INFLATED"],
        rows=rows,
        notes=[f"To call every beat N gives {percent(float(result.counts[0].sum()), float(n))} % accuracy."],
    )


def _values(of: Figures) -> list[float | None]:
    values = [of.accuracy, of.macro_f1]
    for c in range(_ANSWERED):
        values += [of.sensitivity[c], of.ppv[c]]
    return values


def _alarms(points: OperatingPoints) -> Table:
    return Table(
        title="Answers that count for an alarm: thresholds settled inside the training people",
        columns=["answer", "false an hour allowed inside", "threshold", "Se, others, %", "false an hour, others"],
        rows=[
            [
                of.answer,
                f"{of.limit_per_hour:.0f}",
                f"{points.settled.thresholds[of.answer, of.limit_per_hour]:.3f}",
                percentage(of.sensitivity),
                f"{of.false_per_hour:.1f}",
            ]
            for of in points.alarms
        ],
        notes=["threshold: of the shipped model, from everybody; the figures are of thresholds that knew none of whom "
               f"they are judged on. Probabilities are of scores divided by {points.settled.temperature:.2f}."],
    )  # fmt: skip


def _calibration(points: OperatingPoints) -> Table:
    def row(name: str, of: Reliability) -> list[str]:
        return [name, percentage(of.ece), *map(percentage, of.frequency[BINS // 2 :])]

    return Table(
        title="Calibration of the answer given, on others than were trained on",
        columns=["", "ECE, %", *(f"{10 * k} to {10 * k + 10} %" for k in range(BINS // 2, BINS))],
        rows=[row("as trained", points.before), row("temperature fitted inside", points.after)],
        notes=["Share of right answers among those to which the model gave such a probability."],
    )


def _curves(points: OperatingPoints) -> bytes:
    canvas = Canvas(figsize=(8, 3.6), layout="constrained")
    axes = canvas.add_subplot()
    for answer, curve in points.curve.items():
        x = [alarms.false_per_hour for _, alarms in curve]
        axes.plot(x, [100 * alarms.sensitivity for _, alarms in curve], color=_COLOURS[answer], label=f"{answer} beats")
        for of in points.alarms:
            if of.answer == answer:
                axes.plot(of.false_per_hour, 100 * of.sensitivity, "o", color=_COLOURS[answer])
    axes.set_xscale("log")
    axes.set_xlabel("false alarms an hour")
    axes.set_ylabel("sensitivity, %")
    axes.set_ylim(0, 100)
    axes.grid(color="#e3e3e3")
    axes.legend(frameon=False, loc="upper left", title="dots: thresholds settled inside")
    buffer = BytesIO()
    canvas.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
