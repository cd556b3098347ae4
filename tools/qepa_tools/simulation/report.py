"""The report of a simulation: one HTML page that holds its figures, and the figures as PNG beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from qepa_tools.recordings.table import Table
from qepa_tools.report_page import fault, illustration, page, paragraph, section

_BLUE, _ORANGE, _GREEN, _GREY = "#0072b2", "#e69f00", "#009e73", "#999999"


def write_report(document: Mapping[str, Any], folder: Path) -> Path:
    """Write ``times.png``, ``bytes.png``, ``simulation.html`` into ``folder``; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "times": (_times(document["rounds"]), "How long the steps of each round took."),
        "bytes": (_bytes(document["rounds"]), "What each round sent, by what it was for."),
    }
    images = []
    for name, (figure, caption) in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=130)
        images.append(illustration(path.read_bytes(), caption))
    file = folder / "simulation.html"
    file.write_text(_page(document, images), encoding="utf-8")
    return file


def _times(rounds: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw each round as a bar of its steps, and the goal of one second for what comes after the last frame."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    steps, end = figure.subplots(1, 2, width_ratios=(2, 1))
    numbers = [each["number"] for each in rounds]
    below = [0.0] * len(rounds)
    for name, colour, values in (
        ("announce", _GREY, [each["announce_ms"] or 0 for each in rounds]),
        ("first frame", _BLUE, [each["first_frame_ms"] or 0 for each in rounds]),
        ("to last frame", _ORANGE, [(each["last_frame_ms"] or 0) - (each["first_frame_ms"] or 0) for each in rounds]),
        ("to new model", _GREEN, [each["model_ms"] or 0 for each in rounds]),
    ):
        seconds = [value / 1000 for value in values]
        steps.bar(numbers, seconds, bottom=below, label=name, color=colour)
        below = [a + b for a, b in zip(below, seconds, strict=True)]
    steps.set(
        xlabel="round", ylabel="s", ylim=(0, 1.35 * max(below, default=1.0)), title="a round, step by step (simulated)"
    )
    steps.legend(fontsize=8, ncols=4, loc="upper center")
    worked = [each for each in rounds if each["work_ms"] is not None]
    end.bar([each["number"] for each in worked], [each["work_ms"] / 1000 for each in worked], color=_GREEN)
    end.axhline(1.0, color=_GREY, linestyle="--", linewidth=1)
    end.set(xlabel="round", ylabel="s", title="last frame in to new model")
    for axes in (steps, end):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _bytes(rounds: Sequence[Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    kinds = sorted({kind for each in rounds for kind in each["bytes"]})
    below = [0.0] * len(rounds)
    for kind in kinds:
        kilobytes = [each["bytes"].get(kind, 0) / 1000 for each in rounds]
        axes.bar([each["number"] for each in rounds], kilobytes, bottom=below, label=kind)
        below = [a + b for a, b in zip(below, kilobytes, strict=True)]
    axes.set(xlabel="round", ylabel="kB", title="bytes at all gateways together (simulated)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if kinds:
        axes.legend(fontsize=8)
    return figure


def _page(document: Mapping[str, Any], images: Sequence[str]) -> str:
    plan = document["plan"]
    title = f"{plan['boards']} boards, {plan['gateways']} gateways, {plan['patients']} patients"
    wrong = sum(each["wrong"] for each in document["rounds"])
    exact = sum(each["exact"] for each in document["rounds"])
    real = f"True are: the server, the gateways with their spools, the wire, the broker ({document['broker']})."
    parts = [
        paragraph(f"{document['what']}. {real}", note=True),
        paragraph(f"{exact} opened sums are word for word what the boards sealed; {wrong} are not."),
    ]
    if document["note"] or not document["ok"]:
        parts.append(fault(document["note"] or "something is wrong: see the table"))
    processes = [{"role": role, **usage} for role, usage in document["processes"].items()]
    parts += [
        *images,
        _section("Rounds", _ROUND_COLUMNS, document["rounds"]),
        _section("Processes", _PROCESS_COLUMNS, processes),
    ]
    if document["privacy"]:
        spent = [{"purpose": purpose, **figures} for purpose, figures in document["privacy"].items()]
        parts.append(_section("Privacy budgets spent", _PRIVACY_COLUMNS, spent))
    return page(f"{title}: simulated", parts, title)


_ROUND_COLUMNS = {
    "number": "round",
    "state": "",
    "announce_ms": "announce, ms",
    "first_frame_ms": "first frame, ms",
    "last_frame_ms": "last frame, ms",
    "model_ms": "to new model, ms",
    "waited_ms": "of it waited, ms",
    "released_ms": "model at gateways, ms",
    "contributors": "boards in sums",
    "silent": "silent",
    "dead_gateways": "dead gateways",
    "summed": "sums",
    "void": "void",
    "wrong": "wrong",
}
_PROCESS_COLUMNS = {"role": "role", "peak_mb": "peak memory, MB", "cpu_s": "processor, s"}
_PRIVACY_COLUMNS = {
    "purpose": "purpose",
    "patients": "patients",
    "budget_epsilon": "budget, epsilon",
    "delta": "delta",
    "spent_epsilon_median": "spent, median",
    "spent_epsilon_most": "spent, most",
    "noise_variance": "noise of a board, words squared",
    "clip_norm": "clip norm",
}


def _section(title: str, columns: Mapping[str, str], records: Sequence[Mapping[str, Any]]) -> str:
    rows = [[_cell(record.get(key)) for key in columns] for record in records]
    return section(Table(title=title, columns=list(columns.values()), rows=rows))


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,.3g}" if isinstance(value, float) else str(value)
