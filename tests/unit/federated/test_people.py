"""Nobody is on two sides; a ward's boards play whole recordings; judges answer as the board does."""

from itertools import combinations

import numpy as np
import pytest

from qepa_tools.evaluation.cohort import Cohort
from qepa_tools.federated.people import Judges, accuracy, cases_of, halves, macro_f1, splits, ward_of_boards
from qepa_tools.recordings.evaluation import predict
from qepa_tools.recordings.recording import DataError


def test_no_person_is_on_two_sides_and_everybody_judges_once_in_each_repeat(cohort):
    found = splits(cohort, repeats=2)
    assert len(found) == 8
    for split in found:
        sides = (split.judged, split.ward, split.others)
        assert all(not (a & b) for a, b in combinations(sides, 2))
        assert set().union(*sides) == set(cohort.persons)
        assert min(map(len, sides)) >= 3
        teach, judge = halves(split.others, cohort, 1)
        assert (teach | judge, teach & judge) == (split.others, frozenset())
    for repeat in (found[:4], found[4:]):
        assert sorted(person for split in repeat for person in split.judged) == list(cohort.persons)
    assert found[0] != found[4]


def test_both_records_of_a_person_go_the_same_way(cohort):
    for split in splits(cohort, repeats=1):
        for side in (split.judged, split.ward, split.others):
            cases = cases_of(cohort, side)
            assert {case.person for case in cases} == side
            assert len(cases) == len(side) + len(side & {"person-00", "person-01"})


def test_too_few_people_are_refused(cohort):
    with pytest.raises(DataError, match="need 12 persons, there are 4"):
        splits(Cohort(cohort.cases[:4], {}), repeats=1)


def test_boards_of_one_recording_play_all_of_it_from_different_places(cohort):
    case = cohort.cases[0]
    windows = 6  # of half a minute in three minutes
    ward = ward_of_boards([case], boards=3, gateways=2, rounds=windows)
    assert ward.gateways == ("gw-0", "gw-1", "gw-0")
    first = [ward.beats[0, board][ward.labels[0, board] >= 0].tolist() for board in range(3)]
    assert first[0] != first[1] != first[2]
    rows = {tuple(row) for row in case.beats.features.tolist()}
    for board in range(3):
        learnt = ward.labels[:, board] >= 0
        assert {tuple(row) for row in ward.beats[:, board][learnt].tolist()} == rows


def test_judges_give_the_boards_answers_person_by_person(cohort):
    judges = Judges(cohort.cases)
    words = np.random.default_rng(3).integers(-4000, 4000, 72).tolist()
    found = judges.confusions(words)
    assert found.shape == (16, 4, 4)
    for number, person in enumerate(judges.persons):
        expected = np.zeros((4, 4), np.int64)
        for case in cohort.cases:
            if case.person == person:
                np.add.at(expected, (case.beats.classes, predict(words, case.beats.features)), 1)
        assert (found[number] == expected).all()


def test_scores_of_a_confusion_worked_out_by_hand():
    confusion = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 1, 1, 0], [0, 0, 2, 0]])
    assert accuracy(confusion) == 10 / 16
    assert macro_f1(confusion) == pytest.approx((12 / 15 + 6 / 10 + 2 / 5) / 3), "F is no part of it"
    assert macro_f1(np.stack([confusion, 2 * confusion])).shape == (2,)
