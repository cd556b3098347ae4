"""Shapley values: the axioms, the closed form, and the shap package as a peer."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_board.learning.features import N_FEATURES
from qepa_board.learning.network import FRACTION_BITS
from qepa_server.explain.linear import against, against_rest, base_logits, linear_shapley
from qepa_server.explain.network import Network, softmax
from qepa_server.explain.shapley import exact_shapley
from qepa_tools.recordings.evaluation import class_scores
from qepa_uplink.shapley import players_shapley, shapley_of_values


def by_definition(values: np.ndarray) -> np.ndarray:
    """Mean over all orders of what each player adds."""
    n = len(values).bit_length() - 1
    result = np.zeros((n, values.shape[1]))
    orders = list(permutations(range(n)))
    for order in orders:
        coalition = 0
        for player in order:
            result[player] += values[coalition | 1 << player] - values[coalition]
            coalition |= 1 << player
    return result / len(orders)


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_folded_sum_is_the_mean_over_all_orders(players: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(1 << players, 2))
    assert shapley_of_values(values) == pytest.approx(by_definition(values), abs=1e-12)


def test_the_closed_form_is_what_the_enumeration_finds(linear: Network, rng: np.random.Generator) -> None:
    row, background = rng.normal(size=17), rng.normal(size=(3, 17))
    found = linear_shapley(linear.outer, row[None], background.mean(axis=0))[0]
    exact = exact_shapley(linear, row, background)
    assert np.abs(found - exact.values).max() < 1e-12
    assert base_logits(linear.outer, background.mean(axis=0)) == pytest.approx(exact.base)


@pytest.mark.parametrize("of_probability", [False, True])
def test_contributions_sum_to_the_output_less_its_mean_over_the_background(
    layered: Network, rng: np.random.Generator, of_probability: bool
) -> None:
    row, background = rng.normal(size=9), rng.normal(size=(4, 9))
    found = exact_shapley(layered, row, background, of_probability=of_probability)
    logits = layered.logits(np.vstack([row, background]))
    outputs = softmax(logits) if of_probability else logits
    assert found.output == pytest.approx(outputs[0])
    assert found.base == pytest.approx(outputs[1:].mean(axis=0))
    assert found.values.sum(axis=1) == pytest.approx(found.output - found.base)


def test_a_feature_that_the_background_shares_contributes_nothing(layered: Network, rng: np.random.Generator) -> None:
    row, background = rng.normal(size=9), rng.normal(size=(4, 9))
    background[:, 3] = row[3]
    assert np.abs(exact_shapley(layered, row, background).values[:, 3]).max() < 1e-12


def test_closed_form_and_enumeration_agree_with_shap(
    linear: Network, layered: Network, rng: np.random.Generator
) -> None:
    shap = pytest.importorskip("shap")
    row, background = rng.normal(size=(1, 17)), rng.normal(size=(8, 17))
    peer = shap.LinearExplainer(
        (linear.outer[:, :-1], linear.outer[:, -1]), shap.maskers.Independent(background)
    ).shap_values(row)  # fmt: skip
    assert pytest.approx(peer[0], abs=1e-9) == linear_shapley(linear.outer, row, background.mean(axis=0))[0].T

    row, background = rng.normal(size=(1, 9)), rng.normal(size=(8, 9))
    found = exact_shapley(layered, row[0], background).values
    kernel = shap.KernelExplainer(layered.logits, background).shap_values(row, nsamples=1 << 9, silent=True)
    assert pytest.approx(kernel[0], abs=1e-6) == found.T  # 2^9 samples are all there are


def test_segments_of_a_waveform_as_players(rng: np.random.Generator) -> None:
    p, qrs, t = np.arange(0, 4), np.arange(4, 8), np.arange(8, 12)

    def output(rows: np.ndarray) -> np.ndarray:  # QRS counts, P only together with T, input 12 always
        return (rows[:, qrs].sum(axis=1) + rows[:, p].sum(axis=1) * rows[:, t].sum(axis=1) + 5 * rows[:, 12])[:, None]

    row, background = np.ones(13), np.zeros((2, 13))
    found = players_shapley(output, row, background, [p, qrs, t])
    assert found.values[0] == pytest.approx([8, 4, 8])
    assert (found.base[0], found.output[0]) == (5, 25)


def test_one_player_a_feature_is_the_enumeration(layered: Network, rng: np.random.Generator) -> None:
    row, background = rng.normal(size=9), rng.normal(size=(4, 9))
    found = players_shapley(layered.logits, row, background, [np.array([k]) for k in range(9)])
    assert found.values == pytest.approx(exact_shapley(layered, row, background).values)
    for other, alone in zip(background, found.by_row, strict=True):
        assert alone == pytest.approx(exact_shapley(layered, row, other[None]).values)


def test_why_one_class_and_not_another_is_a_difference() -> None:
    contributions = np.array([[1.0, 0.0], [4.0, 2.0], [0.0, 1.0]])
    assert against(contributions, 1, 0).tolist() == [3, 2]
    assert against_rest(contributions, 1).tolist() == [3.5, 1.5]


@pytest.mark.parametrize("hidden", [0, 10])
def test_numbers_are_the_boards_integers_but_for_rounding(hidden: int, rng: np.random.Generator) -> None:
    size = (hidden + 1) * 4 + hidden * (N_FEATURES + 1) if hidden else 4 * (N_FEATURES + 1)
    words = rng.integers(-9000, 9000, size).tolist()
    features = rng.integers(-700, 700, (50, N_FEATURES)).astype(np.int16)
    network = Network.from_words(
        words, features=N_FEATURES, classes=4, hidden=hidden, fraction_bits=FRACTION_BITS
    )  # fmt: skip
    board = class_scores(words, features, hidden) / 2**20
    assert network.logits(features / 256) == pytest.approx(board, abs=0.05 if hidden else 1e-9)


def test_what_is_no_model_or_too_large_is_refused(linear: Network) -> None:
    with pytest.raises(ValueError, match="71 words, not 72"):
        Network.from_words([0] * 71, features=17, classes=4, hidden=0, fraction_bits=12)
    with pytest.raises(ValueError, match="cannot be enumerated"):
        exact_shapley(Network(np.zeros((4, 22))), np.zeros(21), np.zeros((1, 21)))
    with pytest.raises(ValueError, match="0 rows of background"):
        exact_shapley(linear, np.zeros(17), np.zeros((0, 17)))
    with pytest.raises(ValueError, match="0 rows of background"):
        players_shapley(linear.logits, np.zeros(17), np.zeros((0, 17)), [np.arange(17)])
