"""What a model looks at on the whole: mean contributions by class and feature, and how they are spread over beats."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import NAMES
from qepa_server.explain.beat import all_attributions
from qepa_server.explain.linear import against, against_rest
from qepa_tools.explanation.people import Floats, Fold, drawn_beats
from qepa_tools.explanation.pictures import part_of, swarm_picture
from qepa_tools.recordings.recording import AAMI_CLASSES
from qepa_tools.recordings.table import Table

SHOWN = ("N", "S", "V")
_PER_PERSON = 25  # beats of a class


@dataclass(frozen=True, slots=True)
class Summary:
    """Beats of people whom their models do not know: features, annotated classes, contributions [beats, classes, f]."""

    rows: Floats
    classes: NDArray[np.int64]
    contributions: Floats
    persons: int


def summarise(folds: Sequence[Fold], seed: int = 1) -> Summary:
    """Explain up to 25 beats of each class and person."""
    rng = np.random.default_rng(seed)
    drawn = [drawn_beats(fold.cases, _PER_PERSON, rng) for fold in folds]
    found = [
        all_attributions(fold.network, rows, fold.background) for fold, (rows, _) in zip(folds, drawn, strict=True)
    ]
    return Summary(
        np.concatenate([rows for rows, _ in drawn]),
        np.concatenate([classes for _, classes in drawn]),
        np.concatenate(found),
        len({case.person for fold in folds for case in fold.cases}),
    )


def mean_strength(summary: Summary, class_: str) -> Floats:
    """Mean absolute contribution of each feature to a class against the others, over the beats annotated so."""
    c = AAMI_CLASSES.index(class_)
    found = against_rest(summary.contributions[summary.classes == c][:, : len(SHOWN)], c)
    mean: Floats = np.abs(found).mean(axis=0) if len(found) else np.zeros(summary.rows.shape[1])
    return mean


def table(summary: Summary) -> Table:
    """Mean absolute contributions, strongest feature first."""
    columns = {class_: mean_strength(summary, class_) for class_ in SHOWN}
    order = np.argsort(-sum(columns.values(), np.zeros(len(NAMES))), kind="stable")
    counts = [int((summary.classes == AAMI_CLASSES.index(class_)).sum()) for class_ in SHOWN]
    return Table(
        title="What models look at: mean absolute contribution in logits, over beats annotated so",
        columns=["feature", "part", *(f"{class_} ({n:,} beats)" for class_, n in zip(SHOWN, counts, strict=True))],
        rows=[
            [NAMES[k], part_of(NAMES[k]), *(f"{columns[class_][k]:.2f}" for class_ in SHOWN)] for k in order
        ],
        notes=[
            f"{summary.persons} people, each by a model and against a background of other people; up to {_PER_PERSON} "
            "beats of a class and person. For a class against the mean of the other two; F is left out."
        ],
    )  # fmt: skip


def picture(summary: Summary) -> bytes:
    """Contributions to S and V rather than N, a dot a beat."""
    panels = {}
    for class_ in ("S", "V"):
        found = against(summary.contributions, AAMI_CLASSES.index(class_), 0)
        panels[f"{class_} rather than N, beats of all classes"] = (found, summary.rows)
    return swarm_picture(panels, NAMES)
