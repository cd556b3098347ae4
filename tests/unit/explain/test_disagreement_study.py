"""The study of disagreement: made people, a gateway that is right, and models of boards that are or are not."""

from collections.abc import Callable

import numpy as np
import pytest

from qepa_tools.evaluation.cohort import Case
from qepa_tools.evaluation.model import BoardModel
from qepa_tools.explanation.disagreement_study import (
    AS_GOOD,
    BAD,
    DISAGREEMENT,
    SAME_MODEL,
    WORLDS,
    Half,
    board_models,
    differences,
    disagreement_study,
)
from qepa_tools.explanation.drift_study import PROFILES, SAME


@pytest.fixture(scope="module")
def made(person: Callable[[str, int], Case]) -> Half:
    """Nine people whom nobody knows and nine whom both know; the gateway errs in one beat of fifty."""
    rng = np.random.default_rng(5)
    ward = {case.recording.id: case for case in (person(f"w{k}", 100 + k) for k in range(9))}
    worlds = dict.fromkeys((SAME, *WORLDS), ward)
    found = {}
    for name, case in ward.items():
        n = len(case.beats.samples)
        seen = np.where(rng.random(n) < 0.02, rng.integers(0, 3, n), case.beats.classes)
        for world in worlds:
            found[world, name] = np.arange(n), seen.astype(np.int64)
    return Half(learnt=[person(f"p{k}", k) for k in range(9)], worlds=worlds, found=found)


def test_differences_are_boards_less_gateways_shares_and_unknown_with_few_beats(made: Half) -> None:
    zeros = BoardModel(words=(0,) * 72, hidden=0, trained_on=frozenset(), card={})
    found = differences(made, SAME, "w0", zeros)
    case: Case = made.worlds[SAME]["w0"]
    first = made.found[SAME, "w0"][1][case.beats.samples < 60 * 360]
    assert found[0] == pytest.approx([-(first == 1).mean(), -(first == 2).mean()])
    few = Half(learnt=(), worlds=made.worlds, found={(SAME, "w0"): (np.arange(0, 1799, 4), np.zeros(450, np.int64))})
    assert np.isnan(differences(few, SAME, "w0", zeros)).all()


def test_bad_models_are_other_than_the_one_before(made: Half) -> None:
    models = board_models(made.learnt, np.random.default_rng(1))
    before = models[SAME_MODEL].words
    assert models[BAD["swapped"]].words == before[:18] + before[36:54] + before[18:36] + before[54:]
    assert len({model.words for model in models.values()}) == len(models)


def test_what_is_worse_is_taken_back_and_what_is_as_good_holds(made: Half) -> None:
    found, right = disagreement_study([made], [0], [9], 1000.0, lambda names, _: names)
    for what in (BAD["zeros"], BAD["swapped"]):
        assert found[DISAGREEMENT, 9, what].alarms == 1
        assert found[DISAGREEMENT, 9, what].windows < 40
    for what in (SAME_MODEL, AS_GOOD, *WORLDS):
        assert found[DISAGREEMENT, 9, what].alarms == 0
    assert found[PROFILES, 9, SAME_MODEL].alarms == 0
    assert right[SAME_MODEL] > 0.99
    assert right[BAD["zeros"]] < 0.9
