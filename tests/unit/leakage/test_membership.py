"""Membership inference: it finds what is there, and nothing where nothing is."""

import numpy as np
import pytest

from qepa_tools.leakage.membership import offline_scores, online_scores
from qepa_tools.leakage.rates import auc, clopper_pearson, rates, roc
from qepa_tools.leakage.worlds import half_of

WORLDS, PATIENTS = 80, 40


@pytest.fixture
def members():
    return half_of(PATIENTS, WORLDS, np.random.default_rng(1))


def test_half_of_the_patients_are_in_each_world_and_everybody_is_in_many(members):
    assert (members.sum(axis=1) == PATIENTS // 2).all()
    assert members.sum(axis=0).min() > WORLDS / 4


@pytest.mark.parametrize("scores", [online_scores, offline_scores])
def test_a_model_that_memorises_gives_its_members_away(scores, members):
    rng = np.random.default_rng(2)
    usual = rng.normal(0, 10, PATIENTS)  # patients differ by more than membership does
    statistics = usual + 4.0 * members + rng.normal(0, 0.5, members.shape)
    assert auc(scores(statistics, members).ravel(), members.ravel()) > 0.99
    assert auc(statistics.ravel(), members.ravel()) < 0.7


@pytest.mark.parametrize("scores", [online_scores, offline_scores])
def test_noise_gives_nobody_away(scores, members):
    statistics = np.random.default_rng(3).normal(0, 1, members.shape)
    found = rates(scores(statistics, members), members, np.arange(PATIENTS), 1)
    assert 0.45 < found.auc.value < 0.55
    assert abs(found.advantage.value) < 0.06
    assert found.advantage_best > 0
    assert found.auc.low < 0.5 < found.auc.high


def test_a_world_is_judged_by_the_other_worlds_alone(members):
    statistics = np.random.default_rng(4).normal(0, 1, members.shape) + members
    scores = online_scores(statistics, members)
    offline = offline_scores(statistics, members)
    for world, patient in ((0, 0), (3, 7), (60, 39)):
        others = np.arange(WORLDS) != world
        inside = statistics[others & members[:, patient], patient]
        outside = statistics[others & ~members[:, patient], patient]
        x = statistics[world, patient]
        densities = [-((x - v.mean()) ** 2) / 2 / v.var(ddof=1) - np.log(v.var(ddof=1)) / 2 for v in (inside, outside)]
        assert np.isclose(scores[world, patient], densities[0] - densities[1])
        assert np.isclose(offline[world, patient], (x - outside.mean()) / outside.std(ddof=1))


def test_too_few_worlds_are_refused():
    members = np.array([[True, False], [False, True], [True, False]])
    with pytest.raises(ValueError, match="fewer than three"):
        online_scores(np.zeros((3, 2)), members)


def test_limits_of_rates_are_clopper_and_pearsons():
    # Their limits for 5 of 50 at 95 %, as in R: binom.test(5, 50)$conf.int.
    assert np.allclose(clopper_pearson(5, 50), (0.0332751, 0.2181354), atol=1e-6)
    assert clopper_pearson(50, 50)[1] == 1.0


def test_the_curve_goes_through_every_score_once():
    fpr, tpr = roc(np.array([3.0, 2.0, 2.0, 1.0]), np.array([True, True, False, False]))
    assert fpr.tolist() == [0, 0, 0.5, 1]
    assert tpr.tolist() == [0, 0.5, 1, 1]


def test_persons_who_are_alike_make_the_limits_wider():
    rng = np.random.default_rng(5)
    members = half_of(60, 60, rng)
    own = np.repeat(np.arange(6), 10)
    strength = np.repeat(rng.normal(0.5, 1.0, 6), 10)
    scores = strength * members + rng.normal(0, 1, members.shape)
    alike, alone = (rates(scores, members, persons, 1) for persons in (own, np.arange(60)))
    assert alike.auc.high - alike.auc.low > 1.5 * (alone.auc.high - alone.auc.low)
