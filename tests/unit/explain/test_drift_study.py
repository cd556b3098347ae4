"""The study of drift: made people who stay as they are, and made people who change."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qepa_board.learning.features import NAMES, ONE
from qepa_tools.evaluation.cohort import Case
from qepa_tools.explanation.drift_rounds import rounds_study
from qepa_tools.explanation.drift_study import CLASSES, OTHER_PEOPLE, PROFILES, SAME, beats_study, other_worlds
from qepa_tools.recordings import DataError
from qepa_tools.recordings.board_beats import FeatureCache


@pytest.fixture(scope="module")
def cases(person: Callable[[str, int], Case]) -> list[Case]:
    return [person(f"p{k}", k) for k in range(9)]


def wider(case: Case) -> Case:
    """Every QRS 75 % wider than usual, so that most are called V."""
    features = case.beats.features.copy()
    features[:, NAMES.index("width_ratio")] += 3 * ONE // 2
    return Case(case.recording, replace(case.beats, features=features))


def test_what_changes_is_noticed_and_who_stays_alike_is_not(cases: list[Case]) -> None:
    worlds = {"wider": {case.recording.id: wider(case) for case in cases}}
    found = beats_study(cases, worlds, 2, 1000.0, lambda names, _: names)
    assert set(found) == {(20, view, name) for view in (PROFILES, CLASSES) for name in (SAME, OTHER_PEOPLE, "wider")}
    for view in (PROFILES, CLASSES):
        assert found[20, view, "wider"].alarms == 1
        assert found[20, view, "wider"].windows < 20
        assert found[20, view, SAME].alarms == 0
        assert found[20, view, OTHER_PEOPLE].alarms == 0  # made people are all of one kind


def test_rounds_see_what_turns_every_update_and_noise_hides_it(cases: list[Case]) -> None:
    turned = {
        case.recording.id: Case(case.recording, replace(case.beats, classes=(2 - case.beats.classes).astype(np.int8)))
        for case in cases
    }  # labels N and V exchanged: as large a change as there can be
    found = rounds_study(cases, {"turned": turned}, 1, 15.0, (0.0, 50.0), lambda names, _: names)
    assert found["turned", 0.0].windows < 5
    assert (found[SAME, 0.0].windows or 99) > 5
    assert (found["turned", 50.0].windows or 99) > 5


def test_without_muscle_noise_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no muscle noise"):
        other_worlds([], tmp_path, tmp_path, FeatureCache(tmp_path), lambda names, _: names)
