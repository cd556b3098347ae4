"""The result of an evaluation as tables, as JSON, and as one HTML page with its plots beside it as PNG."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from qepa_tools.evaluation import plots
from qepa_tools.evaluation.evaluate import Result
from qepa_tools.evaluation.figures import N_CLASSES, NONE, Figures, Interval, figures
from qepa_tools.recordings.recording import AAMI_CLASSES
from qepa_tools.recordings.table import Table
from qepa_tools.report_page import illustration, page, paragraph, section

INFLATED = "split by beat (the same people on both sides): INFLATED"


def tables(result: Result) -> list[Table]:
    """Every table of the report."""
    shown = [_overall(result), _confusion(result), _records(result), _calibration(result), _alarms(result)]
    if result.noise:
        shown.append(_noise(result))
    if result.cohort.left_out:
        shown.append(
            Table(
                title="Records left out",
                columns=["record", "why"],
                rows=[[name, why] for name, why in result.cohort.left_out.items()],
            )
        )
    return shown


def document(result: Result) -> dict[str, Any]:
    """The figures as a JSON object."""
    return {
        "how": result.how,
        "persons": len(result.cohort.persons),
        "records": [case.recording.id for case in result.cohort.cases],
        "left_out": dict(result.cohort.left_out),
        "classes": list(AAMI_CLASSES),
        "confusion": result.counts.tolist(),
        **asdict(result.overall),
        "intervals_95": {
            name: None if interval is None else [interval.low, interval.high]
            for name, interval in result.intervals.items()
        },
        "per_record": {
            name: {"confusion": counts.tolist(), **asdict(figures(counts))} for name, counts in result.records.items()
        },
        "calibration": {name: asdict(value) for name, value in result.calibration.items()},
        "ventricular_runs": {name: asdict(value) for name, value in result.alarms.items()},
        "noise_stress": [asdict(row) for row in result.noise],
        "inflated_split_by_beat": None if result.inflated is None else asdict(result.inflated),
    }


def write_report(result: Result, directory: Path) -> Path:
    """Write report.html and the plots into a directory, made if it is not there; returns the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw_all(result)
    for name, (png, _) in drawn.items():
        (directory / f"{name}.png").write_bytes(png)
    page = directory / "report.html"
    page.write_text(_page(result, drawn), encoding="utf-8")
    return page


def _page(result: Result, drawn: Mapping[str, tuple[bytes, str]]) -> str:
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    about = (
        f"{made}. {result.how} {len(result.cohort.persons)} persons, {result.overall.beats:,} beats. "
        "R peaks and features are the board's own, no annotation is used but to judge."
    )
    note = (
        "Not a medical device; figures of recordings, not of patients treated. AAMI classes, matching within 150 ms "
        "after EC57."
    )
    parts = [paragraph(about), paragraph(note, note=True), *map(section, tables(result))]
    return page("Beat classification on a board", [*parts, *(illustration(*each) for each in drawn.values())])


def percentage(value: float | None) -> str:
    """A share in percent, a dash for None."""
    return "-" if value is None else f"{100 * value:.1f}"


def with_interval(value: float | None, interval: Interval | None) -> str:
    """Percent with its interval in brackets, where there is one."""
    if value is None or interval is None:
        return percentage(value)
    return f"{100 * value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _overall(result: Result) -> Table:
    of, intervals = result.overall, result.intervals
    rows = [
        ["accuracy of beats found", with_interval(of.accuracy, intervals["accuracy"])],
        ["macro F1 over N, S, V", with_interval(of.macro_f1, intervals["macro_f1"])],
    ]
    for c, name in enumerate(AAMI_CLASSES):
        for figure, value in (("sensitivity", of.sensitivity[c]), ("ppv", of.ppv[c]), ("f1", of.f1[c])):
            title = {"sensitivity": "Se", "ppv": "PPV", "f1": "F1"}[figure]
            rows.append([f"{name} {title}", with_interval(value, intervals[f"{name} {figure}"])])
    rows += [
        ["beats found, Se", percentage(of.detection_sensitivity)],
        ["beats found, PPV", percentage(of.detection_ppv)],
    ]
    columns = ["%", "people never trained on (95 % interval)"]
    notes = [
        result.how,
        "Intervals: bootstrap over persons. Se and PPV count beats that were not found, and false detections.",
    ]
    if result.inflated is not None:
        columns.append(INFLATED)
        for row, value in zip(rows, _column(result.inflated), strict=True):
            row.append(percentage(value))
    return Table(title="Beats by AAMI class", columns=columns, rows=rows, notes=notes)


def _column(of: Figures) -> list[float | None]:
    values = [of.accuracy, of.macro_f1]
    for c in range(N_CLASSES):
        values += [of.sensitivity[c], of.ppv[c], of.f1[c]]
    return [*values, of.detection_sensitivity, of.detection_ppv]


def _confusion(result: Result) -> Table:
    return Table(
        title="Confusion",
        columns=["annotated", *(f"answer {name}" for name in AAMI_CLASSES), "not found"],
        rows=[[name, *(f"{int(n):,}" for n in result.counts[c])] for c, name in enumerate([*AAMI_CLASSES, "no beat"])],
    )


def _records(result: Result) -> Table:
    rows = []
    for case in result.cohort.cases:
        counts = result.records[case.recording.id]
        of = figures(counts)
        rows.append(
            [
                case.recording.id,
                *(f"{int(n):,}" for n in counts[:NONE].sum(axis=1)),
                percentage(of.detection_sensitivity),
                percentage(of.detection_ppv),
                percentage(of.accuracy),
                *(percentage(v) for c in (1, 2) for v in (of.sensitivity[c], of.ppv[c])),
            ]
        )
    return Table(
        title="Each record",
        columns=["record", *AAMI_CLASSES, "found Se", "found PPV", "accuracy", "S Se", "S PPV", "V Se", "V PPV"],
        rows=rows,
        notes=["N, S, V, F: annotated beats; the rest in percent."],
    )


def _calibration(result: Result) -> Table:
    rows = []
    for name, of in result.calibration.items():
        rows.append([name, percentage(of.ece), *(percentage(value) for value in of.frequency)])
    return Table(
        title="Calibration",
        columns=["probability of", "ECE %", *(f"{10 * k}-{10 * k + 10} %" for k in range(10))],
        rows=rows,
        notes=["Share that was so, of the beats to which the model gave that probability; a dash: none."],
    )


def _alarms(result: Result) -> Table:
    rows = []
    for name, of in result.alarms.items():
        if of.runs or of.false:
            rows.append([name, *_alarm_cells(of.runs, of.delays_s, of.false, of.hours)])
    every = list(result.alarms.values())
    delays = [delay for of in every for delay in of.delays_s]
    totals = _alarm_cells(
        sum(of.runs for of in every), delays, sum(of.false for of in every), sum(of.hours for of in every)
    )
    return Table(
        title="Time to alarm: runs of three or more ventricular beats",
        columns=["record", "runs", "alarmed", "median s", "longest s", "false", "false an hour"],
        rows=[*rows, ["all", *totals]],
        notes=["Seconds from a run's third beat to the board's third V answer in a row, its wait for the next beat and "
               "0.3 s of detection included; records without either are not listed."],
    )  # fmt: skip


def _alarm_cells(runs: int, delays: Sequence[float], false: int, hours: float) -> list[str]:
    return [
        str(runs),
        str(len(delays)),
        f"{median(delays):.1f}" if delays else "-",
        f"{max(delays):.1f}" if delays else "-",
        str(false),
        f"{false / hours:.1f}" if hours else "-",
    ]


def _noise(result: Result) -> Table:
    rows = []
    for row in result.noise:
        for what, of in (("noise", row.noisy), ("between", row.between)):
            rows.append(
                [
                    f"{row.decibel} dB, {what}",
                    percentage(of.detection_ppv),
                    percentage(of.accuracy),
                    percentage(of.ppv[1]),
                    percentage(of.ppv[2]),
                ]
            )
    return Table(
        title="Noise stress: electrode motion added",
        columns=["signal to noise", "found PPV", "accuracy", "S PPV", "V PPV"],
        rows=rows,
        notes=["By a model that was not trained on this person. Beats that were not found are in no stretch here."],
    )
