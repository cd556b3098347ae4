"""The report of a simulation: one HTML page that holds its figures, and the figures as PNG beside it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 980px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p { color: #444; margin: .3rem 0; } img { width: 100%; height: auto; }
.simulated { background: #fff3cd; border-left: 4px solid #e69f00; padding: .4rem .8rem; color: #1a1a1a; }
.bad { background: #fde2d5; border-left: 4px solid #d55e00; padding: .4rem .8rem; color: #1a1a1a; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #e3e3e3; }
th:first-child, td:first-child { text-align: left; } th { color: #666; font-weight: 500; }
"""
_BLUE, _ORANGE, _GREEN, _GREY = "#0072b2", "#e69f00", "#009e73", "#999999"


def write_report(document: Mapping[str, Any], folder: Path) -> Path:
    """Write ``times.png``, ``bytes.png``, ``simulation.html`` into ``folder``; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"times": _times(document["rounds"]), "bytes": _bytes(document["rounds"])}
    images = {}
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=130)
        images[name] = base64.b64encode(path.read_bytes()).decode()
    page = folder / "simulation.html"
    page.write_text(_page(document, images), encoding="utf-8")
    return page


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


def _page(document: Mapping[str, Any], images: Mapping[str, str]) -> str:
    plan = document["plan"]
    title = f"{plan['boards']} boards, {plan['gateways']} gateways, {plan['patients']} patients"
    wrong = sum(each["wrong"] for each in document["rounds"])
    exact = sum(each["exact"] for each in document["rounds"])
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="simulated">{escape(document["what"])}. True are: the server, the gateways with their spools, '
        f"the wire, the broker ({escape(document['broker'])}).</p>",
        f"<p>{exact} opened sums are word for word what the boards sealed; {wrong} are not.</p>",
    ]
    if document["note"] or not document["ok"]:
        parts.append(f'<p class="bad">{escape(document["note"] or "something is wrong: see the table")}</p>')
    parts += [
        f'<h2>{name.capitalize()}</h2><img alt="{name}" src="data:image/png;base64,{data}">'
        for name, data in images.items()
    ]
    parts += ["<h2>Rounds</h2>", _table(_ROUND_COLUMNS, document["rounds"]), "<h2>Processes</h2>"]
    processes = [{"role": role, **usage} for role, usage in document["processes"].items()]
    parts.append(_table({"role": "role", "peak_mb": "peak memory, MB", "cpu_s": "processor, s"}, processes))
    if document["privacy"]:
        rows = [{"purpose": purpose, **spent} for purpose, spent in document["privacy"].items()]
        parts += ["<h2>Privacy budgets spent</h2>", _table(_PRIVACY_COLUMNS, rows)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}: simulated</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


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


def _table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in columns.values())
    lines = "".join("<tr>" + "".join(f"<td>{_cell(row.get(key))}</td>" for key in columns) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _cell(value: object) -> str:
    if value is None:
        return "&ndash;"
    return escape(f"{value:,.3g}" if isinstance(value, float) else str(value))
