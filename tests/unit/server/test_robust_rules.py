"""Robust rules against independent computations, hand examples and the laws they promise."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from qepa_server.robust.aggregate import ClippedTrimmedMean
from qepa_server.robust.bucketing import Bucketing
from qepa_server.robust.choice import Rule, aggregator
from qepa_server.robust.rules import CoordinateMedian, GeometricMedian, Krum, Mean, MultiKrum, krum_scores

RULES = {
    "trimmed mean": ClippedTrimmedMean(norm_bound=1e12, trim_fraction=0.25),
    "krum": Krum(hostile_share=0.25),
    "multi-krum": MultiKrum(hostile_share=0.25),
    "median": CoordinateMedian(),
    "geometric median": GeometricMedian(),
    "mean": Mean(),
}
EVERY_RULE = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
ROBUST = pytest.mark.parametrize("rule", [rule for name, rule in RULES.items() if name != "mean"], ids=list(RULES)[:-1])

cells = st.integers(1, 9).flatmap(
    lambda n: st.lists(st.lists(st.integers(-1000, 1000), min_size=3, max_size=3), min_size=n, max_size=n)
)


@EVERY_RULE
@settings(max_examples=40, deadline=None)
@given(means=cells, order=st.randoms(use_true_random=False))
def test_the_order_of_cells_does_not_matter_and_the_result_lies_between_them(rule, means, order):
    shuffled = list(means)
    order.shuffle(shuffled)
    result = rule(np.array(means, np.int64))
    assert np.allclose(result, rule(np.array(shuffled, np.float64)), atol=1e-4)
    assert (result >= np.min(means, axis=0) - 1e-9).all()
    assert (result <= np.max(means, axis=0) + 1e-9).all()


@EVERY_RULE
def test_equal_cells_give_themselves_and_one_cell_too(rule):
    same = np.tile([5.0, -7.0, 0.0], (6, 1))
    assert np.allclose(rule(same), same[0])
    assert np.allclose(rule(same[:1]), same[0])


@EVERY_RULE
def test_no_rows_other_shapes_and_what_is_no_number_are_refused(rule):
    for wrong in (np.zeros((0, 3)), np.zeros(3), np.array([[1.0, np.nan]]), np.array([[np.inf, 0.0]])):
        with pytest.raises(ValueError, match=r"one row|not a number"):
            rule(wrong)


@ROBUST
def test_two_hostile_cells_of_nine_do_not_carry_it_away_and_carry_the_mean(rule):
    rng = np.random.default_rng(1)
    honest = rng.normal(10, 1, (7, 20))
    hostile = np.full((2, 20), -1e6)
    off = np.linalg.norm(rule(np.vstack([honest, hostile])) - honest.mean(axis=0))
    assert off < np.sqrt(20) * 3
    assert np.linalg.norm(Mean()(np.vstack([honest, hostile])) - 10) > 1e5


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 8), st.integers(0, 10**6))
def test_krum_scores_are_those_of_the_definition(n, seed):
    points = np.random.default_rng(seed).normal(size=(n, 4))
    hostile = (n - 3) // 2
    others = [[float(((points[i] - points[j]) ** 2).sum()) for j in range(n) if j != i] for i in range(n)]
    expected = [min(sum(chosen) for chosen in combinations(row, n - hostile - 2)) for row in others]
    assert np.allclose(krum_scores(points, hostile), expected)
    best = int(np.argmin(expected))
    assert np.allclose(Krum(hostile_share=hostile / n + 1e-9)(points), points[best])


def test_krum_by_hand():
    # f = 1: scores over the two nearest of the four others. Distances squared of 0, 1, 3, 4, 100 on a line.
    points = np.array([[0.0], [1.0], [3.0], [4.0], [100.0]])
    assert krum_scores(points, 1).tolist() == [1 + 9, 1 + 4, 1 + 4, 1 + 9, 96**2 + 97**2]
    assert Krum(hostile_share=0.2)(points).tolist() == [1.0]
    assert MultiKrum(hostile_share=0.2)(points).tolist() == [2.0]  # the two best: 1 and 3
    with pytest.raises(ValueError, match="more than 4 cells"):
        krum_scores(points[:4], 1)


@pytest.mark.parametrize("seed", range(4))
def test_the_geometric_median_is_where_an_optimizer_finds_it(seed):
    points = np.random.default_rng(seed).normal(size=(7, 3)) * [1, 10, 100]

    def total(point):
        return np.linalg.norm(points - point, axis=1).sum()

    reference = minimize(total, points.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    assert total(GeometricMedian()(points)) <= reference.fun * (1 + 1e-7)


def test_the_geometric_median_of_a_triangle_with_a_wide_angle_is_its_corner():
    assert np.allclose(GeometricMedian()(np.array([[0.0, 0.0], [10.0, 1.0], [-10.0, 1.0]])), [0, 0], atol=1e-3)


def test_the_trimmed_mean_drops_by_word():
    rule = ClippedTrimmedMean(norm_bound=1e9, trim_fraction=0.25)
    assert rule(np.array([[0, 9], [1, 8], [2, -100], [100, 7]])).tolist() == [1.5, 7.5]


def test_buckets_are_means_of_size_rows_each_row_in_one():
    seen = []

    def keep(means):
        seen.append(means)
        return means[0]

    Bucketing(keep, size=2, rng=np.random.default_rng(3))(np.array([[1.0], [10.0], [100.0], [1000.0], [10000.0]]))
    (means,) = seen
    assert len(means) == 3
    assert round(2 * means[0, 0] + 2 * means[1, 0] + means[2, 0]) == 11111


def test_buckets_of_the_mean_are_the_mean_and_shuffles_differ():
    points = np.arange(12.0).reshape(6, 2)
    assert np.allclose(Bucketing(Mean(), size=3, rng=np.random.default_rng(0))(points), points.mean(axis=0))
    rule = Bucketing(CoordinateMedian(), size=2, rng=np.random.default_rng(0))
    assert len({tuple(rule(points**2)) for _ in range(20)}) > 1


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("bucket", [1, 2])
def test_every_configured_rule_bears_enormous_rows(rule, bucket):
    join = aggregator(rule, norm_bound=10.0, hostile_share=0.2, bucket=bucket, rng=np.random.default_rng(0))
    points = np.vstack([np.ones((8, 4)), np.full((1, 4), 1e15)])
    assert np.linalg.norm(join(points)) <= 10.0 + 1e-9


@pytest.mark.parametrize(
    "build",
    [
        lambda: MultiKrum(hostile_share=0.5),
        lambda: MultiKrum(hostile_share=0.1, selected=0),
        lambda: GeometricMedian(nu=0),
        lambda: Bucketing(Mean(), size=0, rng=np.random.default_rng(0)),
        lambda: ClippedTrimmedMean(norm_bound=1, trim_fraction=0.5),
    ],
)
def test_settings_without_meaning_are_refused(build):
    with pytest.raises(ValueError, match=r"must be|at least one"):
        build()
