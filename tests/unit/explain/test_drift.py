"""The drift monitor: a bound on false alarms that holds, and alarms where something changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_server.explain.drift import DriftMonitor, Reference, bet, profile
from qepa_tools.explanation.drift_study import noticed, windows_until_alarm


def monitor(rng: np.random.Generator, limit: float = 100, reference: int = 60) -> DriftMonitor:
    return DriftMonitor("board", 7, list(rng.normal(size=reference)), rng.random, limit)


def test_stakes_are_a_density_that_favours_small_ranks() -> None:
    edges = np.exp(np.linspace(np.log(1e-12), 0, 20001))
    middles = np.sqrt(edges[1:] * edges[:-1])
    beyond = 1 / np.log(1e12)  # of g near 0, in closed form
    assert sum(bet(p) * (b - a) for p, a, b in zip(middles, edges[:-1], edges[1:], strict=True)) + beyond == (
        pytest.approx(1, abs=0.01)
    )
    values = [bet(p) for p in np.linspace(0.001, 1, 500)]
    assert values == sorted(values, reverse=True)


def test_false_alarms_are_no_more_frequent_than_stated() -> None:
    until = windows_until_alarm(limit=20, runs=300, most=2000)
    assert np.mean([k or 2000 for k in until]) > 20


def test_scores_without_order_need_no_distribution(rng: np.random.Generator) -> None:
    """Heavy tails and ties: the ranks are uniform all the same."""
    until = []
    for _ in range(200):
        scores = np.round(rng.standard_cauchy(size=40))
        watch = DriftMonitor("board", 1, list(scores), rng.random, 20)
        k = 0
        while k < 2000 and not watch.add(k, float(np.round(rng.standard_cauchy()))).raised:
            k += 1
        until.append(k + 1)
    assert np.mean(until) > 20


def test_a_change_raises_it_and_its_end_lowers_it(rng: np.random.Generator) -> None:
    watch = monitor(rng)
    assert watch.signal.score == 0
    before = [watch.add(1000 * k, s) for k, s in enumerate(rng.normal(size=10))]
    assert not any(signal.raised for signal in before)
    during = [watch.add(1000 * k, s) for k, s in enumerate(rng.normal(5, 1, size=30), start=10)]
    raised = [signal.raised for signal in during]
    first = raised.index(True)
    assert first < 20
    assert all(raised[first:])
    assert {signal.since for signal in during[first:]} == {1000 * (10 + first)}
    after = [watch.add(1000 * k, s) for k, s in enumerate(rng.normal(size=60), start=40)]
    assert after[-1].since is None
    assert (after[-1].name, after[-1].version, after[-1].limit) == ("board", 7, 100)


def test_a_lasting_change_is_noticed_soon_only_by_who_has_seen_enough_before() -> None:
    """Until the alarm a change counts among what was seen: after 25 windows it may be usual before it is proved."""
    little, much = (windows_until_alarm(1000, 20, 60, reference=reference, shift=4.0) for reference in (25, 400))
    assert None in little
    assert all(k is not None and k < 10 for k in much)


def test_what_raised_an_alarm_does_not_become_usual(rng: np.random.Generator) -> None:
    watch = monitor(rng)
    signals = [watch.add(k, 9.0 + k / 1e6) for k in range(500)]
    assert all(signal.raised for signal in signals[100:])


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50))
def test_any_scores_give_a_signal_within_bounds(scores: list[float]) -> None:
    watch = monitor(np.random.default_rng(1))
    for k, score in enumerate(scores):
        signal = watch.add(k, score)
        assert 0 <= signal.score < np.inf
        assert signal.raised == (signal.score >= signal.limit)


def test_what_is_no_score_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="has to be a number"):
        monitor(rng).add(1, float("nan"))
    with pytest.raises(ValueError, match="10 scores"):
        monitor(rng, reference=9)
    with pytest.raises(ValueError, match="limit"):
        monitor(rng, limit=1)
    with pytest.raises(ValueError, match="10 windows, not 3"):
        Reference([np.zeros(2)] * 3)


def test_a_profile_is_by_class_and_leaves_rare_classes_open() -> None:
    features = np.array([[1.0], [3.0]] * 5 + [[9.0]])
    attributions = np.tile(np.array([[-2.0], [4.0]]), (11, 1, 1))
    answers = np.array([0] * 10 + [1])
    found = profile(features, attributions, answers, 2)
    assert found[:3] == pytest.approx([10 / 11, 2.0, 2.0])
    assert found[3] == pytest.approx(1 / 11)
    assert np.isnan(found[4:]).all()


def test_distance_is_in_the_references_own_spread_and_skips_what_is_unknown() -> None:
    reference = Reference([np.array([9.0, 18.0]), np.array([11.0, 22.0])] * 10)  # 10 and 20, give or take 1 and 2
    assert reference.score(np.array([9.0, 22.0])) == pytest.approx(1)
    assert reference.score(np.array([10 + 3, 20.0])) == pytest.approx(4.5)
    assert reference.score(np.array([np.nan, 26.0])) == pytest.approx(9)
    assert reference.score(np.array([1e9, 20.0])) == pytest.approx(12.5)
    assert reference.score(np.array([np.nan, np.nan])) == 0


def test_constant_windows_are_a_reference_too() -> None:
    assert Reference([np.ones(3)] * 10).score(np.ones(3)) == 0


def test_alarms_of_runs() -> None:
    of = noticed([3, None, 7, None])
    assert (of.runs, of.alarms, of.windows) == (4, 0.5, 5)
    assert noticed([None]).windows is None
