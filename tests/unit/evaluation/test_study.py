"""The study: each person is judged by models made without them."""

from itertools import pairwise

import numpy as np
import pytest

from qepa_board.learning.features import NAMES
from qepa_tools.evaluation.cohort import Case
from qepa_tools.evaluation.figures import accuracy_and_f1
from qepa_tools.evaluation.study import study
from qepa_tools.evaluation.ways import Way, beats_of, leave_one_out, less_running_mean, ways, without
from qepa_tools.recordings import Recording
from qepa_tools.recordings.board_beats import BoardBeats


def case(name: str, rr: list[int], classes: list[int] | None = None) -> Case:
    samples = np.cumsum([0, *rr])
    features = np.zeros((len(samples), 17), np.int16)
    kinds = np.zeros(len(samples), np.int8) if classes is None else np.array(classes, np.int8)
    features[np.arange(len(kinds)), kinds] += 300
    recording = Recording(id=name, person=name, fs_hz=360, samples=np.zeros(9, np.uint16), labels=())
    beats = BoardBeats(
        recording=name, samples=samples, features=features, classes=kinds, missed=np.zeros(0, np.int8)
    )  # fmt: skip
    return Case(recording, beats)


def column(rows: np.ndarray, name: str) -> np.ndarray:
    return rows[:, NAMES.index(name)].astype(int)


def people(n: int) -> list[Case]:
    return [case(f"p{k}", [300] * 39, ([0] * 6 + [1] + [2] * 2 + [0]) * 4) for k in range(n)]


def test_no_person_is_judged_by_a_model_made_with_them_nor_with_further_beats_of_theirs() -> None:
    cases = people(4)
    numbers = {of.person: k for k, of in enumerate(cases)}
    beats = beats_of(cases, numbers)
    seen: list[tuple[int, ...]] = []

    def fit(training, features):
        seen.append(tuple(np.unique(training.persons)))
        assert len(training.classes) == 2 * 3 * 40
        return np.zeros((len(features), 4))

    leave_one_out(beats, fit, more=beats)
    assert seen == [tuple(k for k in range(4) if k != out) for out in range(4)]


def test_every_way_that_needs_no_trees_learns_what_is_plain() -> None:
    cases = people(5)
    chosen = [way for way in ways() if "trees" not in way.name and way.view is None]
    table = study(cases, lambda _: people(5), chosen)
    assert [row[0] for row in table.rows] == [way.name for way in chosen]
    assert all(float(row[2]) > 95 for row in table.rows)
    assert "5 people" in table.title


def test_a_view_is_what_models_see() -> None:
    def fit(training, features):
        assert (features == 7).all()
        assert (training.features == 7).all()
        return np.zeros((len(features), 4))

    study(people(3), lambda _: [], [Way("seven", fit, view=lambda of: np.full_like(of.beats.features, 7))])


def test_a_running_mean_is_taken_away_after_it_is_known() -> None:
    of = case("x", [300] * 20)
    of.beats.features[:, 5] = 100
    rows = column(less_running_mean(of), NAMES[5])
    assert rows[0] == 100
    assert all(a >= b for a, b in pairwise(rows))
    assert rows[-1] == 0


def test_a_feature_left_out_is_nothing_and_the_others_are_as_they_were() -> None:
    of = case("x", [300] * 20)
    of.beats.features[:] = 5
    rows = without("turned", "early")(of)
    assert not column(rows, "turned").any()
    assert not column(rows, "early").any()
    assert (rows == 5).sum() == 15 * len(rows)
    assert (of.beats.features == 5).all()


def test_figures_of_answers() -> None:
    accuracy, f1 = accuracy_and_f1(np.array([0, 0, 1, 3]), np.array([0, 1, 1, 0]))
    assert accuracy == 0.5
    assert f1 == [pytest.approx(0.5), pytest.approx(2 / 3), 0.0]
