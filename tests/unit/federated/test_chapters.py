"""The chapters' tables and figures on a small ward; settings are chosen by people who do not judge."""

from dataclasses import replace

import numpy as np
import pytest

from qepa_tools.attacks.attackers import Attack
from qepa_tools.evaluation.cohort import Case
from qepa_tools.federated.bounds import bounds_table
from qepa_tools.federated.budget import under_budget
from qepa_tools.federated.choice import choose
from qepa_tools.federated.curves import WardSize, interval, taught_by
from qepa_tools.federated.figures import hostile_figure, protection_figure, start_figure
from qepa_tools.federated.hostile import hostile_table
from qepa_tools.federated.people import Judges, accuracy, cases_of, splits, ward_of_boards
from qepa_tools.federated.plan import Plan
from qepa_tools.federated.protection import protection_table
from qepa_tools.federated.starts import start_table
from qepa_tools.federated.timing import timing_table
from qepa_tools.federated.training import Course, Way, train
from qepa_tools.recordings.board_beats import board_beats
from qepa_tools.recordings.physionet import load_wfdb
from qepa_tools.recordings.places import find_data

SMALL = Plan(
    size=WardSize(boards=28, gateways=7),
    inner=WardSize(boards=8, gateways=2),
    rounds=2,
    budget_rounds=(1, 2),
    hostile_rounds=2,
    attacks=(Attack.SIGN_FLIP,),
    shares=(0.2,),
)


@pytest.fixture(scope="module")
def two(cohort):
    return [replace(split, start=taught_by(cohort, split.others)) for split in splits(cohort, repeats=1)[:2]]


def quiet(_what):
    pass


def test_protection_is_compared_with_averaging_in_the_clear(cohort, two):
    table, found = protection_table(cohort, two, SMALL, quiet)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert {row["start"] for row in rows} == {"zeros", "a model of others"}
    assert [row["protection"] for row in rows if row["start"] == "zeros"].count("epsilon 3") == 2
    assert all(0 < float(row["spent"]) <= float(row["protection"].split()[1]) for row in rows if row["spent"])
    assert all(row["accuracy, less FedAvg"] == "" for row in rows if row["protection"] == "FedAvg")
    plain, mean = found[0], found[1]
    assert plain.course.way is Way.FEDAVG
    assert mean.course.way is Way.SEALED
    assert mean.accuracy() == pytest.approx(plain.accuracy(), abs=0.05)
    assert protection_figure(found).startswith(b"\x89PNG")


def test_starts_are_judged_with_settings_that_others_chose(cohort, two):
    table, found = start_table(cohort, two, SMALL, quiet)
    assert table.rows[0][0] == "the model of other people alone"
    assert len(table.rows) == 6
    assert sum("of 2)" in row[1] for row in table.rows) == 3
    assert len({curve.accuracy(0) for curve in found}) == 2, "zeros and the model"
    assert start_figure(found).startswith(b"\x89PNG")


def test_hostile_boards_stand_beside_honest_ones(cohort, two):
    table, found = hostile_table(cohort, two, SMALL, quiet)
    assert [row[:2] for row in table.rows] == [["the start alone", ""], ["none", "0%"], ["sign flip", "20%"]]
    assert [curve.course.epsilon for curve in found] == [0, 0, 8, 8] * 2
    assert hostile_figure(found).startswith(b"\x89PNG")


def test_bounds_come_with_the_norms_of_updates(cohort, two):
    table = bounds_table(cohort, two, SMALL, quiet)
    shortened = [int(row[1].rstrip("%")) for row in table.rows]
    assert shortened == sorted(shortened, reverse=True)
    assert shortened[-1] == 0, "boards clip to the last bound unasked"


def test_the_cost_of_a_round_is_told_step_by_step(cohort, two):
    ward = ward_of_boards(cases_of(cohort, two[0].ward), boards=20, gateways=5, rounds=1)
    table = timing_table(ward, under_budget(Course(name="", rounds=2), 8.0, 1024), at_least_s=0)
    assert [row[1] for row in table.rows if row[1]] == ["boards"] * 4 + ["gateways"] * 2 + ["server"] * 2
    assert all(float(row[2]) >= 0 for row in table.rows)


def test_who_chooses_settings_is_nobody_who_judges(cohort, two, monkeypatch):
    asked = []
    true_cases = cases_of
    monkeypatch.setattr(
        "qepa_tools.federated.choice.cases_of", lambda c, persons: asked.append(persons) or true_cases(c, persons)
    )
    monkeypatch.setattr("qepa_tools.federated.choice.taught_by", lambda _c, persons: asked.append(persons) or (0,) * 72)

    def candidates(start):
        return [Course(name="", rounds=1, way=Way.QUICK, start=start)] * 1

    (choice,) = choose(cohort, two[:1], candidates, quiet, SMALL.inner, [1])
    assert choice.places == (0,)
    assert len(asked) == 6
    assert not set().union(*asked) & two[0].judged


def test_intervals_are_over_people_and_differences_over_the_same():
    right, wrong = np.diag([8, 0, 0, 0]), np.zeros((4, 4), np.int64)
    wrong[0, 1] = 8
    people = np.stack([right] * 5 + [wrong] * 5)
    low, high = interval(people, accuracy)
    assert 0.1 <= low < 0.5 < high <= 0.9
    assert interval(people, accuracy, people) == (0, 0)
    assert interval(np.stack([right] * 10), accuracy) == (1, 1)


def test_three_minutes_of_real_people_in_the_true_protocol():
    data = find_data()
    if data is None:
        pytest.skip("no recordings here")
    cases = []
    for name in ("106", "119", "223"):
        recording = load_wfdb(data, name)
        n = 180 * recording.fs_hz
        labels = tuple(label for label in recording.labels if label.sample < n)
        recording = replace(recording, samples=recording.samples[:n], labels=labels)
        cases.append(Case(recording, board_beats(recording, 180)))
    *ward_cases, judge = cases
    ward = ward_of_boards(ward_cases, boards=24, gateways=6, rounds=2)
    free = {"clip_norm": 0, "norm_bound": 4096, "aggregator": "mean"}
    learning = Course(name="", rounds=1).learning.model_validate({**free, "rate_numerator": 4})
    courses = [Course(name="", rounds=2, way=way, learning=learning) for way in (Way.FEDAVG, Way.SEALED)]
    *_, (_, (plain, sealed)) = train(ward, courses, 1)
    assert any(plain.words)
    assert np.abs(np.array(plain.words) - np.array(sealed.words)).max() <= 2
    judges = Judges([judge])
    assert (judges.confusions(plain.words) == judges.confusions(sealed.words)).all()
