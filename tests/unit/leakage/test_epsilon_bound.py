"""Lower bounds on epsilon: below the truth, near it, and above a claim that is broken."""

from dataclasses import replace

import numpy as np
import pytest

from qepa_tools.leakage.canary import Trials, canary_words, run_trials, seal
from qepa_tools.leakage.epsilon_bound import gaussian_epsilon, lower_bound
from qepa_tools.leakage.protection import DELTA, gaussian_advantage, largest_advantage, protections


def gaussian_trials(mu, n, seed):
    rng = np.random.default_rng(seed)
    return Trials(present=rng.normal(mu, 1, n), absent=rng.normal(0, 1, n))


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
def test_of_a_gaussian_mechanism_the_bound_is_below_the_truth_and_near_it(mu):
    found = [lower_bound(gaussian_trials(mu, 3000, seed), DELTA) for seed in range(30)]
    assert sum(each.mu > mu for each in found) <= 2
    assert np.mean([each.mu for each in found]) > mu - 0.2
    truth = gaussian_epsilon(mu, DELTA)
    assert sum(max(each.epsilon, each.epsilon_gaussian) > truth for each in found) <= 2


def test_randomized_response_is_bounded_without_a_word_about_its_shape():
    epsilon, n = 1.5, 20000
    truth = np.exp(epsilon) / (1 + np.exp(epsilon))
    rng = np.random.default_rng(1)
    trials = Trials(present=(rng.random(n) < truth) * 1.0, absent=(rng.random(n) >= truth) * 1.0)
    assert 1.3 < lower_bound(trials, 0.0).epsilon <= epsilon


def test_gaussian_epsilon_is_where_its_delta_is():
    # mu = 1: delta(1) = Phi(-1/2) - e Phi(-3/2) = 0.126937
    assert np.isclose(gaussian_epsilon(1.0, 0.1269367), 1.0, atol=1e-5)
    assert gaussian_epsilon(0.0, DELTA) == 0


def test_theory_bounds_the_advantage():
    assert largest_advantage(float("inf")) == gaussian_advantage(float("inf")) == 1
    assert np.isclose(largest_advantage(8.0), 0.99933, atol=1e-5)
    assert np.isclose(gaussian_advantage(0.5), 0.382925, atol=1e-6)  # mu = 1
    assert gaussian_advantage(0.5) < largest_advantage(gaussian_epsilon(1.0, DELTA))


@pytest.fixture(scope="module")
def protection():
    (made,) = protections([8.0], 1, 10)
    return made


def test_the_canary_is_as_long_as_clipping_allows(protection):
    words = canary_words(protection, 72)
    assert sum(word * word for word in words) == protection.clip_norm**2
    assert seal([1024] * 72, protection) != [1024] * 72


def test_what_is_built_keeps_what_is_claimed(protection):
    found = lower_bound(run_trials(protection, canary_words(protection, 72), 400, 1), DELTA)
    assert 4 < found.epsilon_gaussian <= protection.epsilon_charged(10)
    assert found.epsilon <= protection.epsilon_charged(10)


def test_half_the_noise_is_found_out(protection):
    broken = replace(protection, noise_q8=protection.noise_q8 // 4)
    found = lower_bound(run_trials(broken, canary_words(broken, 72), 400, 1), DELTA)
    assert found.epsilon_gaussian > protection.epsilon_charged(10)


def test_missing_clipping_is_found_out(protection):
    unclipped = seal([1024] * 72, replace(protection, clip_norm=0))
    found = lower_bound(run_trials(protection, unclipped, 100, 1), DELTA)
    assert found.epsilon_gaussian > protection.epsilon_charged(10)


def test_too_few_trials_are_refused():
    with pytest.raises(ValueError, match="40 trials"):
        lower_bound(gaussian_trials(1.0, 30, 1), DELTA)
