"""The chapter on activity of ``qepa bench learning``: people never trained on, beside simpler ways."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from qepa_tools.benchmarks.learning import Chapter, Say
from qepa_tools.recordings.table import Table, percent
from qepa_uplink.readings import ACTIVITIES

from .activity import NETWORK, SETTINGS, WAYS, Judged, Tally, accuracy, cross_validate, f1, macro_f1_interval, total
from .activity_set import DEVICES, activity_sets
from .made import track_of
from .pictures import png

FOLDS = 5


def chapter(data: Path, say: Say) -> Chapter:
    """data: a folder beside which motion lies."""

    def steps(n: int, what: str) -> Iterable[int]:
        say(what)
        return range(n)

    sets = activity_sets(data.parent / "motion", track_of(steps))
    judged = cross_validate(sets, FOLDS, SETTINGS, steps)
    persons = len({each.subject for each in sets})
    return Chapter(
        tables={"activity-ways": _ways(judged, persons)},
        figures={"activity-confusion.png": _confusion(judged)},
    )


def _ways(judged: Judged, persons: int) -> Table:
    rows = []
    for device, where in DEVICES.items():
        for way in WAYS:
            tallies = judged.tallies[way][device]
            whole = total(tallies)
            low, high = macro_f1_interval(tallies)
            told = f1(whole)
            mean = f"{100 * np.nanmean(told):.1f} ({100 * low:.1f} to {100 * high:.1f})"
            each = [f"{100 * value:.1f}" for value in told]
            rows.append([f"{where}: {way}", f"{100 * accuracy(whole):.1f}", mean, *each])
    return Table(
        title=f"Activity of {persons} people, each judged by a model that others taught, %",
        columns=["", "accuracy", "macro F1 (95 %)", *(f"F1 {name.replace('_', ' ')}" for name in ACTIVITIES)],
        rows=rows,
        notes=[
            f"{FOLDS} folds by person; intervals: persons drawn with replacement. int8 and float answer alike in "
            f"{percent(judged.agreement, 1, 1)} % of windows."
        ],
    )


def _confusion(judged: Judged) -> bytes:
    canvas = Canvas(figsize=(8, 3.6), layout="constrained")
    for place, (device, where) in enumerate(DEVICES.items(), start=1):
        whole = total(judged.tallies[NETWORK][device])
        _matrix(canvas.add_subplot(1, 2, place), whole, where)
    return png(canvas)


def _matrix(axes: Axes, whole: Tally, where: str) -> None:
    shares = whole / np.maximum(1, whole.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [name.replace("_", "\n") for name in ACTIVITIES]
    axes.set_xticks(range(len(names)), names, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_title(f"{where}: % of what was done", fontsize=9)
    axes.set_xlabel("answered", fontsize=8)
    for row in range(len(names)):
        for column in range(len(names)):
            dark = shares[row, column] > 0.5
            share = f"{100 * shares[row, column]:.0f}"
            axes.text(column, row, share, ha="center", va="center", fontsize=8, color="white" if dark else "black")
