"""Chapter "explanations" of server/LEARNING.md: whether explanations are true, and what models look at."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from qepa_board.learning.features import NAMES
from qepa_server.explain.beat import explain_beat
from qepa_server.explain.linear import linear_shapley
from qepa_server.explain.network import Network
from qepa_server.explain.shapley import exact_shapley
from qepa_server.explain.vocabulary import vocabulary
from qepa_tools.benchmarks.learning import Chapter, Say
from qepa_tools.benchmarks.timing import median_s
from qepa_tools.evaluation.cohort import Track, read_cohort
from qepa_tools.explanation.bedside_table import bedside_table
from qepa_tools.explanation.expectation_table import expectation_table
from qepa_tools.explanation.fidelity import Curves, curves, exactness, stability
from qepa_tools.explanation.people import Floats, Fold, folds, rows_of
from qepa_tools.explanation.pictures import png
from qepa_tools.explanation.summary import picture, summarise, table
from qepa_tools.recordings.board_beats import FeatureCache
from qepa_tools.recordings.recording import AAMI_CLASSES
from qepa_tools.recordings.table import Table

CACHE = Path.home() / ".cache" / "qepa" / "features"
_FOLDS = 10


def chapter(data: Path, say: Say) -> Chapter:
    """Measure everything of the chapter: some three minutes of a quiet core."""
    track = steps(say)
    cache = FeatureCache(CACHE)
    cohort = read_cohort(data, cache, track)
    made = folds(cohort.cases, _FOLDS, track)
    drawn = curves(made, per_person=8)
    found = summarise(made)
    return Chapter(
        tables={
            "explanations-exact": _exact(made, track),
            "explanations-time": _time(made[0]),
            "explanations-curves": _areas(drawn),
            "explanations-stability": _stability(made),
            "explanations-summary": table(found),
            "explanations-expectations": expectation_table(made),
            "explanations-bedside": bedside_table(cohort, data, track),
        },
        figures={"explanations-summary.png": picture(found), "explanations-curves.png": _curves_picture(drawn)},
    )


def steps(say: Say) -> Track:
    """Say how far it is."""

    def track(names: Sequence[str], what: str) -> Iterable[str]:
        for k, name in enumerate(names):
            say(f"{what}: {k} of {len(names)}")
            yield name

    return track


def _exact(made: Sequence[Fold], track: Track) -> Table:
    of = exactness(made, 2, track)
    return Table(
        title="Contributions against the enumeration of all 131,072 coalitions",
        columns=["", "value"],
        rows=[
            ["beats, of all classes and people", f"{of.beats}"],
            ["closed form, largest difference (logits)", f"{of.closed:.0e}"],
            ["sum of contributions less the model's score, largest (logits)", f"{of.residual:.0e}"],
            [
                "scaled to probability, against exact Shapley of the probability: mean difference",
                f"{of.probability_mean:.3f}",
            ],
            ["the same, largest", f"{of.probability_largest:.2f}"],
            ["the same, rank correlation (median beat)", f"{of.rank_correlation:.2f}"],
            ["the same, strongest feature is the same", f"{100 * of.same_strongest:.0f} %"],
        ],
        notes=["People whom model and background do not know; 16 beats of background for the enumeration."],
    )


def _time(fold: Fold) -> Table:
    network, background = fold.network, fold.background
    row = rows_of(fold.cases[0].beats.features[30])
    layered = _layered(len(row))
    few = background.rows[:4]

    def in_words() -> object:
        return explain_beat(network, row, background, names=NAMES, classes=AAMI_CLASSES, words=vocabulary())

    linear_s = median_s(lambda: linear_shapley(network.outer, row[None], background.mean))
    exact_s = median_s(lambda: exact_shapley(layered, row, few), repetitions=1)
    rows = [
        ["linear, closed form", f"{1e3 * linear_s:.3f}", f"{median_s(_shap_linear(fold, row)) / linear_s:.1f}"],
        ["linear, in words, with distance to the background", f"{1e3 * median_s(in_words):.2f}", "-"],
        [
            "hidden layer of 10, all coalitions, 4 rows of background",
            f"{1e3 * exact_s:.0f}",
            f"{_once_s(_shap_exact(layered, few, row)) / exact_s:.0f}",
        ],
    ]
    return Table(
        title="Time of an explanation of one beat, CPU",
        columns=["way", "ms", "shap: times as long"],
        rows=rows,
        notes=[
            "Beside it shap's LinearExplainer and ExactExplainer, same run, same background. The hidden layer's "
            "weights are random: the time does not depend on them."
        ],
    )


def _once_s(operation: Callable[[], object]) -> float:
    """CPU seconds of one call, for what takes a minute."""
    start = time.process_time()
    operation()
    return time.process_time() - start


def _shap_linear(fold: Fold, row: Floats) -> Callable[[], object]:
    import shap  # noqa: PLC0415  # takes seconds to import

    rows, outer = fold.background.rows, fold.network.outer
    masker = shap.maskers.Independent(rows, max_samples=len(rows))
    explainer = shap.LinearExplainer((outer[:, :-1], outer[:, -1]), masker)
    return lambda: explainer.shap_values(row[None])


def _shap_exact(network: Network, background: Floats, row: Floats) -> Callable[[], object]:
    import shap  # noqa: PLC0415

    explainer = shap.explainers.ExactExplainer(network.logits, shap.maskers.Independent(background))
    return lambda: explainer(row[None], max_evals=1 << (len(row) + 1), silent=True)


def _layered(features: int) -> Network:
    rng = np.random.default_rng(1)
    return Network(rng.normal(size=(len(AAMI_CLASSES), 11)), rng.normal(size=(10, features + 1)))


def _areas(drawn: Mapping[int, Curves]) -> Table:
    rows = []
    for c, of in drawn.items():
        deletion, random_deletion, insertion, random_insertion = of.areas()
        areas = (deletion, random_deletion, insertion, random_insertion)
        rows.append([f"called {AAMI_CLASSES[c]}", f"{of.beats}", *(f"{area:.2f}" for area in areas)])
    return Table(
        title="Deletion and insertion, strongest feature first: area under the answer's probability",
        columns=[
            "beats",
            "n",
            "deletion (low is good)",
            "deletion, random",
            "insertion (high is good)",
            "insertion, random",
        ],
        rows=rows,
        notes=["Features become those of 16 beats of other people, or the beat's own. Random: mean of 8 orders."],
    )


def _stability(made: Sequence[Fold]) -> Table:
    rows = []
    for what, other_model in (("background of other people", False), ("model and background of other people", True)):
        of = stability(made, per_person=8, other_model=other_model)
        rows.append([what, f"{of.beats}", f"{of.median:.2f}", f"{of.low:.2f}", f"{100 * of.same_strongest:.0f} %"])
    return Table(
        title="Stability: one beat explained with each half of the other people",
        columns=["what differs", "beats", "rank correlation, median", "fifth percentile", "same strongest feature"],
        rows=rows,
    )


def _curves_picture(drawn: Mapping[int, Curves]) -> bytes:
    figure = Figure(figsize=(8, 3.1), layout="constrained")
    for axes, (c, of) in zip(figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0], drawn.items(), strict=True):
        x = np.arange(len(of.deletion))
        for colour, name, curve, random in (
            ("#0072b2", "deleted", of.deletion, of.deletion_random),
            ("#d55e00", "inserted", of.insertion, of.insertion_random),
        ):
            axes.plot(x, 100 * curve, color=colour, label=name)
            axes.plot(x, 100 * random, color=colour, linestyle=":", label=f"{name}, random order")
        axes.set_title(f"called {AAMI_CLASSES[c]}, {of.beats} beats", fontsize=10, loc="left")
        axes.set_xlabel("features, strongest first", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("probability of the answer, %", fontsize=9)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), frameon=False, fontsize=8, ncols=4,
                  loc="outside lower center")  # fmt: skip
    return png(figure)
