"""Fidelity: measured on people that model and background do not know, and able to tell good from bad."""

from pathlib import Path

import numpy as np
import pytest

from qepa_board.learning.features import NAMES, ONE
from qepa_server.explain.network import Network
from qepa_server.explain.vocabulary import vocabulary
from qepa_tools.evaluation.cohort import Case
from qepa_tools.explanation import fidelity
from qepa_tools.explanation.expectations import compare
from qepa_tools.explanation.people import Fold, background_of, drawn_beats, folds
from qepa_tools.recordings import Recording
from qepa_tools.recordings.board_beats import BoardBeats

PREMATURE, WIDTH = NAMES.index("premature"), NAMES.index("width_ratio")


def person(name: str, seed: int) -> Case:
    """Early beats are S, early and wide ones V."""
    rng = np.random.default_rng(seed)
    classes = np.tile([0, 0, 0, 0, 1, 2], 20).astype(np.int8)
    features = rng.normal(0, 20, size=(len(classes), len(NAMES)))
    features[:, PREMATURE] += ONE * (classes > 0)
    features[:, WIDTH] += ONE * (classes == 2)
    recording = Recording(id=name, person=name, fs_hz=360, samples=np.zeros(9, np.uint16), labels=())
    beats = BoardBeats(
        recording=name, samples=np.arange(len(classes)) * 300, features=features.astype(np.int16),
        classes=classes, missed=np.zeros(0, np.int8),
    )  # fmt: skip
    return Case(recording, beats)


@pytest.fixture(scope="module")
def made() -> list[Fold]:
    return folds([person(f"p{k}", k) for k in range(6)], 3, lambda names, _: names)


def test_nobody_is_explained_by_a_model_or_a_background_that_knows_them(made: list[Fold]) -> None:
    assert sorted(case.person for fold in made for case in fold.cases) == [f"p{k}" for k in range(6)]
    for fold in made:
        assert not {case.person for case in fold.cases} & {case.person for case in fold.others}
        assert len(fold.background.rows) == 40 * len(fold.others)


def test_beats_are_drawn_by_class_and_person(made: list[Fold]) -> None:
    rows, classes = drawn_beats(made[0].cases, 5, np.random.default_rng(1))
    assert rows.shape == (5 * 3 * 2, len(NAMES))
    assert np.bincount(classes).tolist() == [10, 10, 10]


def test_strongest_first_is_better_than_any_order_and_the_best_known_features_lead(made: list[Fold]) -> None:
    drawn = fidelity.curves(made, per_person=3)
    assert set(drawn) == {0, 1, 2}
    for c in (1, 2):
        deletion, random_deletion, insertion, random_insertion = drawn[c].areas()
        assert deletion < random_deletion - 0.1
        assert insertion > random_insertion + 0.1
        assert drawn[c].deletion[0] == pytest.approx(drawn[c].insertion[-1])
        assert drawn[c].deletion[-1] == pytest.approx(drawn[c].insertion[0])


def test_an_explanation_of_another_model_is_found_out(made: list[Fold], monkeypatch: pytest.MonkeyPatch) -> None:
    """Contributions upside down: deletion must become worse than chance."""
    true = fidelity.attributions
    monkeypatch.setattr(fidelity, "attributions", lambda *of: (-true(*of)[0], true(*of)[1]))
    deletion, random_deletion, insertion, random_insertion = fidelity.curves(made, per_person=3)[2].areas()
    assert deletion > random_deletion
    assert insertion < random_insertion


def test_the_closed_form_is_exact_and_probabilities_are_another_matter(made: list[Fold]) -> None:
    few = [
        Fold(
            fold.cases,
            fold.others,
            fold.network,
            background_of(fold.others),
        )
        for fold in made[:1]
    ]
    of = fidelity.exactness(few, 1, lambda names, _: names)
    assert of.beats == 1
    assert of.closed < 1e-9
    assert of.residual < 1e-9
    assert 0 < of.probability_mean <= of.probability_largest < 1


def test_halves_of_alike_people_give_alike_explanations(made: list[Fold]) -> None:
    same = fidelity.stability(made, 3, other_model=False)
    assert same.median > 0.7
    assert same.same_strongest > 0.8
    other = fidelity.stability(made, 3, other_model=True)
    assert other.median < same.median


def test_a_model_against_the_textbook_is_listed(made: list[Fold]) -> None:
    found = {(e.class_, e.feature): e for e in compare(made, NAMES, "NSV", vocabulary())}
    assert found["V", "width_ratio"].verdict == "agrees"
    assert found["N", "premature"].verdict == "agrees"
    assert found["V", "width_ratio"].models == (3, 0, 0)
    assert ("V", "polarity") not in found

    upside_down = [Fold(f.cases, f.others, Network(-f.network.outer), f.background) for f in made]
    turned = {(e.class_, e.feature): e for e in compare(upside_down, NAMES, "NSV", vocabulary())}
    assert turned["V", "width_ratio"].verdict == "disagrees"
    assert turned["V", "width_ratio"].effect == pytest.approx(-found["V", "width_ratio"].effect)


def test_ranks() -> None:
    assert fidelity.rank_correlation(np.array([1.0, 5.0, 2.0]), np.array([10.0, 30.0, 20.0])) == pytest.approx(1)


def test_the_chapters_marks_are_in_the_document() -> None:
    document = (Path(__file__).parents[3] / "server" / "LEARNING.md").read_text()
    marks = [f"explanations-{m}" for m in ("exact", "time", "curves", "stability", "summary", "expectations")]
    for mark in (*marks, "drift-alarms", "drift-reference"):
        assert document.count(f"<!-- {mark}: begin -->") == 1
