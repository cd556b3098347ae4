"""What a round costs, against losses of the very distributions and against dp-accounting's PLD accountant."""

import math

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism, from_two_probability_mass_functions
from hypothesis import given
from hypothesis import strategies as st

from qepa_server.privacy.accountant import cost, epsilon, rho_within, sensitivity, share_q8
from qepa_uplink.messages import StreamSpec
from qepa_wire.quantizer import STOCHASTIC, Quantizer, clip_l2

DELTA = 1e-6


def stream(**change):
    return StreamSpec(**({"stream": 2, "n_words": 72, "bound": 1024, "q_max": 1024, "rounding": 0} | change))


def summed_shares(noise_q8, shares):
    """The exact distribution of a sum of discrete Gaussian shares: its middle, and the weight of each integer."""
    reach = math.ceil(14 * math.sqrt(noise_q8 / 256)) + 2
    one = np.exp(-128.0 * np.arange(-reach, reach + 1.0) ** 2 / noise_q8)
    one /= one.sum()
    total = np.ones(1)
    for _ in range(shares):
        total = np.convolve(total, one)
    return total / total.sum()


def exact_epsilon(noise_q8, shares, shift, rounds):
    """Epsilon at DELTA of ``rounds`` sums of one word whose value moved by ``shift``, by privacy loss distributions."""
    weights = {i: math.log(w) for i, w in enumerate(summed_shares(noise_q8, shares)) if w > 1e-300}
    moved = {i + shift: w for i, w in weights.items()}
    loss = from_two_probability_mass_functions(weights, moved, value_discretization_interval=1e-4)
    return loss.self_compose(rounds).get_epsilon_for_delta(DELTA)


@pytest.mark.parametrize(
    ("noise_q8", "shares", "shift", "rounds"),
    [(256, 10, 3, 1), (256, 10, 1, 20), (64, 10, 2, 1), (64, 30, 1, 5), (2304, 5, 4, 8), (2304, 1, 2, 3)],
)
def test_the_charge_is_above_the_exact_loss_of_the_sum_and_not_far_above(noise_q8, shares, shift, rounds):
    spec = stream(n_words=1, noise_q8=noise_q8, clip_norm=shift)
    charged = epsilon(rounds * cost(spec, [1], shares), DELTA)
    exact = exact_epsilon(noise_q8, shares, shift, rounds)
    assert exact <= charged
    if noise_q8 >= 256:  # below, tau is what the proposition pays for a sum that is no discrete Gaussian
        assert charged < 1.25 * exact


def test_words_of_a_vector_add_up_to_its_norm():
    """Three words that move by 2, 1 and 2 lose as much as one that moves by 3: exactly so, and so charged."""
    parts = [exact_loss(256, 8, shift) for shift in (2, 1, 2)]
    together = parts[0].compose(parts[1]).compose(parts[2]).get_epsilon_for_delta(DELTA)
    charged = epsilon(cost(stream(n_words=3, noise_q8=256, clip_norm=3), [1], 8), DELTA)
    assert together <= charged < 1.25 * together


def exact_loss(noise_q8, shares, shift):
    weights = {i: math.log(w) for i, w in enumerate(summed_shares(noise_q8, shares)) if w > 1e-300}
    moved = {i + shift: w for i, w in weights.items()}
    return from_two_probability_mass_functions(weights, moved, value_discretization_interval=1e-4)


@pytest.mark.parametrize(("multiplier", "rounds"), [(5.0, 1), (20.0, 100), (60.0, 1000)])
def test_many_rounds_against_the_gaussian_mechanism(multiplier, rounds):
    """As in a ward: 72 words, ten shares of large variance; the PLD accountant's Gaussian is the yardstick."""
    coarse = stream(q_max=32, clip_norm=3072)
    norm = sensitivity(coarse, [1])
    spec = coarse.model_copy(update={"noise_q8": math.ceil(256 * (multiplier * norm) ** 2 / 10)})
    charged = epsilon(rounds * cost(spec, [1], 10), DELTA)
    gaussian = from_gaussian_mechanism(multiplier / math.sqrt(rounds), value_discretization_interval=1e-3)
    exact = gaussian.get_epsilon_for_delta(DELTA)
    assert exact <= charged < 1.25 * exact


def test_figures_worked_by_hand():
    """3000^2 / (2 * 10 * 10^6); and two shares of variance 1, norm 1, ten words: tau = 10 exp(-2 pi^2 / 2)."""
    assert cost(stream(noise_q8=256 * 10**6, clip_norm=3000), [1], 10) == pytest.approx(0.45, rel=1e-12)
    tau = 10 * math.exp(-(math.pi**2))
    by_hand = min(
        0.25 + 10 * tau, (math.sqrt(0.5) + tau * math.sqrt(10)) ** 2 / 2, 0.25 + tau / math.sqrt(2) + 5 * tau**2
    )
    assert cost(stream(n_words=10, noise_q8=256, clip_norm=1), [1], 2) == pytest.approx(by_hand, rel=1e-12)


def test_what_has_no_bound_costs_without_end():
    assert cost(stream(), [1], 1000) == math.inf
    assert cost(stream(noise_q8=63, clip_norm=10), [1], 1000) == math.inf
    assert cost(stream(noise_q8=2**30, clip_norm=10), [1], 0) == math.inf
    assert epsilon(math.inf, DELTA) == math.inf


def test_fewer_shares_cost_more_and_a_dropout_is_not_made_up_for():
    spec = stream(noise_q8=2**22, clip_norm=100)
    costs = [cost(spec, [1], shares) for shares in range(1, 20)]
    assert costs == sorted(costs, reverse=True)
    assert costs[4] == pytest.approx(2 * costs[9], rel=1e-9)


@given(
    st.lists(st.lists(st.integers(-3000, 3000), min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(1, 4000),
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.sampled_from([0, STOCHASTIC]),
    st.randoms(use_true_random=False),
)
def test_no_patient_exceeds_the_sensitivity(vectors, clip_norm, bound, q_max, rounding, random):
    """What boards do (clip, quantize, send), against what is charged for it."""
    spec = stream(n_words=6, bound=bound, q_max=q_max, rounding=rounding, clip_norm=clip_norm)
    quantizer = Quantizer(bound, q_max, 1, rounding, random.getrandbits)
    told = len(vectors)
    total = np.zeros(6, np.int64)
    for vector in vectors:
        total += np.array([quantizer.quantize(value) for value in clip_l2(vector, clip_norm // told)])
    assert np.linalg.norm(total) <= sensitivity(spec, [told] * told) + 1e-6


def test_a_board_that_was_told_of_fewer_boards_counts_for_what_it_may_send():
    spec = stream(clip_norm=3072, noise_q8=2**20)
    assert sensitivity(spec, [2, 2]) == 3072
    assert sensitivity(spec, [1, 2]) == 3072 + 1536
    assert sensitivity(stream(), [1]) == math.sqrt(72) * 1024, "without clipping the quantizer is the bound"


@given(st.floats(0.05, 30), st.sampled_from([1e-9, 1e-6, 1e-4]))
def test_a_budget_is_never_more_than_its_epsilon(limit, delta):
    rho = rho_within(limit, delta)
    assert epsilon(rho, delta) <= limit
    assert epsilon(1.001 * rho, delta) > limit


def test_a_share_is_the_least_that_keeps_the_cost():
    spec = stream(q_max=64, clip_norm=3072)
    found = share_q8(spec, [1], 10, 0.01)
    assert cost(spec.model_copy(update={"noise_q8": found}), [1], 10) <= 0.01
    assert cost(spec.model_copy(update={"noise_q8": found - 1}), [1], 10) > 0.01
    with pytest.raises(ValueError, match="no noise that 10 boards"):
        share_q8(spec, [1], 10, 1e-9)
