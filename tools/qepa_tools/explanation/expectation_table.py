"""Agreement with the table of expectations, as a table to read."""

from collections.abc import Sequence

from qepa_board.learning.features import NAMES
from qepa_server.explain.vocabulary import vocabulary
from qepa_tools.explanation.expectations import LEAST, Expectation, compare
from qepa_tools.explanation.people import Fold
from qepa_tools.recordings.table import Table

_CLASSES = ("N", "S", "V")


def expectation_table(folds: Sequence[Fold]) -> Table:
    """One row for each expectation that is not met, and how many are."""
    found = compare(folds, NAMES, _CLASSES, vocabulary())
    rows = [_row(e) for e in found if e.verdict != "agrees"]
    counts = {verdict: sum(e.verdict == verdict for e in found) for verdict in ("agrees", "weak", "disagrees")}
    return Table(
        title="Agreement with a table of expectations written by the developers from textbooks",
        columns=["class: feature", "expected", "found, logits", "", "models with the expected sign, weak, other"],
        rows=rows,
        notes=[
            f"Of {len(found)} expectations {counts['agrees']} are met, {counts['weak']} are weak (under {LEAST} logits "
            f"for a standard deviation), {counts['disagrees']} are contradicted; the last two kinds are listed. It is "
            "agreement with a table, not correctness; features that go together share the work, and one of them may "
            "get the other sign.",
        ],
    )


def _row(of: Expectation) -> list[str]:
    return [
        f"{of.class_}: {of.feature}",
        "+" if of.expected > 0 else "-",
        f"{of.effect:+.2f}",
        of.verdict,
        ", ".join(map(str, of.models)),
    ]
