"""Temperatures and thresholds are settled on people other than those that they are judged on."""

from dataclasses import replace

import numpy as np
import pytest

from qepa_tools.evaluation import operating_points as module
from qepa_tools.evaluation.cohort import Case
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.evaluation.operating_points import alarms_at, fit_temperature, fit_threshold, operating_points, settle
from qepa_tools.recordings import Recording
from qepa_tools.recordings.board_beats import BoardBeats

HOUR = 3600


def case(name: str, classes: list[int], noise: float = 60, missed: tuple[int, ...] = ()) -> Case:
    """An hour of beats whose first features tell their class, more or less."""
    rng = np.random.default_rng([*name.encode()])
    features = rng.normal(0, noise, (len(classes), 17))
    kinds = np.array(classes, np.int8)
    features[np.arange(len(classes)), np.maximum(kinds, 0)] += 250
    recording = Recording(id=name, person=name, fs_hz=1, samples=np.zeros(HOUR, np.uint16), labels=())
    beats = BoardBeats(
        recording=name, samples=np.arange(len(classes)), features=np.clip(features, -1024, 1024).astype(np.int16),
        classes=kinds, missed=np.array(missed, np.int8),
    )  # fmt: skip
    return Case(recording, beats)


def scores(rows: list[list[float]]) -> list[np.ndarray]:
    """Natural logarithms of odds in Q20, of one case."""
    return [np.array(rows, float) * (1 << 20)]


def test_a_temperature_takes_away_that_a_model_is_too_sure() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(0, 1.5, (6000, 4))
    z[:, 3] = -20
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    classes = [int(rng.choice(4, p=row)) for row in p]
    assert fit_temperature([case("a", classes)], scores((2 * z).tolist())) == pytest.approx(2, rel=0.1)
    assert fit_temperature([case("a", classes)], scores(z.tolist())) == pytest.approx(1, rel=0.1)


def test_a_threshold_is_the_lowest_with_so_many_false_alarms() -> None:
    of = case("a", [2, 2, 0, 0, 1, -2, 3, -1], missed=(2,))
    z = scores([[0, 0, v, -9] for v in (3.0, 1.0, 0.5, 2.0, -5.0, 1.5, 9.0, 9.0)])
    assert fit_threshold([of], z, "V", 3) == 0
    none = alarms_at([of], z, "V", fit_threshold([of], z, "V", 0), 0)
    assert (none.false_per_hour, none.sensitivity) == (0, pytest.approx(1 / 3))
    one = alarms_at([of], z, "V", fit_threshold([of], z, "V", 1), 1)
    assert one.false_per_hour == 1
    every = alarms_at([of], z, "V", 0, 9)
    assert every.false_per_hour == 3  # two N and one false detection; F and what is unclassified are not counted
    assert every.sensitivity == pytest.approx(2 / 3)


def people(n: int) -> list[Case]:
    return [case(f"p{k}", ([0] * 12 + [1] + [2] * 2) * 6, noise=150) for k in range(n)]


def test_nothing_is_settled_on_whom_it_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = people(6)
    inside: list[set[str]] = []

    def spy(part, settings):
        inside.append({each.person for each in part})
        return settle(part, settings)

    monkeypatch.setattr(module, "settle", spy)
    found = operating_points(cases, FitSettings(), 3, lambda names, _: names)
    assert [len(persons) for persons in inside] == [4, 4, 4, 6]
    assert set.intersection(*inside[:3]) == set()
    assert len(found.alarms) == len(found.settled.thresholds)
    for answer, limit in found.settled.thresholds:
        judged = next(each for each in found.alarms if (each.answer, each.limit_per_hour) == (answer, limit))
        assert 0 <= judged.sensitivity <= 1
    for curve in found.curve.values():
        rates = [each.false_per_hour for _, each in curve]
        assert rates == sorted(rates, reverse=True)


def test_people_without_a_class_can_be_judged() -> None:
    quiet = replace(people(1)[0], beats=case("q", [0] * 20).beats)
    assert alarms_at([quiet], scores([[1, 0, 0, -9]] * 20), "S", 0.5, 1).sensitivity == 0
