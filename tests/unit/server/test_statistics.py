"""Statistics from noisy sums: what they say, how far the noise moves it, and that nothing leaves the clip bound."""

import math
from statistics import mean, stdev

import numpy as np
import pytest
from hospital_rig import Rig, configuration, ward
from hypothesis import given
from hypothesis import strategies as st

from qepa_server.config import BudgetConfig, PrivacyConfig, StatisticsConfig
from qepa_server.rounds.statistics import HeartRate, heart_rate
from qepa_wire.statistics import BOUNDS, FIRST_BIN, HR_EDGES_BPM, SCALE, VALID, WORDS, scaled


def window(hr, beats=70):
    """The words of a board whose window had this mean heart rate."""
    words = [1, hr, hr * hr, beats, 45, 30, 700, 950, *[0] * 8]
    words[FIRST_BIN + sum(hr >= edge for edge in HR_EDGES_BPM)] = 1
    return words


WARD = [48, 55, 58, 62, 66, 68, 70, 71, 74, 77, 78, 80, 83, 85, 88, 90, 95, 99, 104, 118]


def sums(rng, sigma, rates=WARD):
    plain = np.array([scaled(window(rate)) for rate in rates]).sum(axis=0)
    return [int(word) for word in plain + np.rint(rng.normal(0, sigma, WORDS))]


@given(st.lists(st.integers(0, 4095), min_size=WORDS, max_size=WORDS))
def test_scaled_words_share_one_unit(words):
    found = scaled([min(word, bound) for word, bound in zip(words, BOUNDS, strict=True)])
    assert len(found) == WORDS
    assert max(map(abs, found)) <= SCALE
    if words[VALID] == 0:
        assert not any(found)


def test_without_noise_scaling_keeps_mean_spread_and_histogram():
    found = heart_rate([sums(np.random.default_rng(1), 0)], 0.0)
    assert found.boards == len(WARD)
    assert found.mean_bpm == pytest.approx(mean(WARD), abs=0.1)
    assert found.sd_bpm == pytest.approx(np.std(WARD), abs=0.3)
    assert sum(found.histogram) == len(WARD)
    assert found.mean_se_bpm == found.sd_se_bpm == found.bin_se == 0


def test_standard_errors_are_what_noise_does():
    """A thousand draws of the noise: the spread of each figure is its standard error, and few are off on average."""
    rng, sigma = np.random.default_rng(7), 500.0
    drawn = [heart_rate([sums(rng, sigma)], sigma**2) for _ in range(1000)]
    for name, error, truth in (
        ("boards", "boards_se", len(WARD)),
        ("mean_bpm", "mean_se_bpm", mean(WARD)),
        ("sd_bpm", "sd_se_bpm", np.std(WARD)),
    ):
        values = [getattr(found, name) for found in drawn]
        errors = [getattr(found, error) for found in drawn]
        assert stdev(values) == pytest.approx(np.median(errors), rel=0.25), name
        assert mean(values) == pytest.approx(truth, abs=0.5 * stdev(values)), name
    full = [found.histogram[3] for found in drawn]
    assert stdev(full) == pytest.approx(drawn[0].bin_se, rel=0.1)
    assert min(min(found.histogram) for found in drawn) == 0, "no bin is negative"


def test_percentiles_are_monotone_and_their_bounds_hold_the_truth():
    rng, sigma = np.random.default_rng(3), 900.0
    exact = heart_rate([sums(rng, 0)], 0.0)
    shares = [0.05 * i for i in range(1, 20)]
    held = 0
    for _ in range(200):
        found = heart_rate([sums(rng, sigma)], sigma**2)
        estimates = [found.percentile(share)[0] for share in shares]
        assert estimates == sorted(estimates)
        estimate, low, high = found.percentile(0.5)
        assert low <= estimate <= high
        held += low <= exact.percentile(0.5)[0] <= high
    assert held >= 185, "two standard errors hold 95 of 100"


@given(st.lists(st.floats(0, 50), min_size=8, max_size=8), st.floats(0, 1), st.floats(0, 10))
def test_a_percentile_is_a_heart_rate_whatever_the_bins(bins, share, error):
    for value in HeartRate(1, 70, 1, tuple(bins), bin_se=error).percentile(share):
        assert 20 <= value <= 250


def test_counts_that_noise_hides_give_nothing():
    rng = np.random.default_rng(5)
    assert heart_rate([sums(rng, 0)], (20.0 * SCALE) ** 2) is None
    assert heart_rate([[0] * WORDS], 100.0) is None
    assert heart_rate([], 100.0) is None


def test_a_typical_window_is_within_the_clip_bound_of_the_manual():
    """docs/privacy.md sets clip_norm 1600: nearly every window fits, so clipping takes away next to nothing."""
    norms = [math.hypot(*scaled(window(rate))) for rate in WARD]
    assert max(norms) < 1600


def test_a_round_shows_statistics_with_their_errors(tmp_path):
    statistics = StatisticsConfig(noise_variance=40_000, clip_norm=1600)
    privacy = PrivacyConfig(statistics=BudgetConfig(epsilon=60))
    rig = Rig(tmp_path, ward(1, 12), max_rounds=1)
    rig.config = configuration(tmp_path, privacy=privacy, max_rounds=1).model_copy(update={"statistics": statistics})
    for board in rig.gateways["gw-1"].boards.values():
        board.values = lambda stream, n, _round, hr=60 + board.number % 40: (
            scaled(window(hr)) if stream == 1 else [0] * n
        )
    rig.crash()
    rig.connect()
    rig.pass_time(3)
    assert rig.gateways["gw-1"].opening.streams[0].q_max == SCALE
    shown = rig.state()["rounds"][0]["heart_rate"]
    assert shown["boards"] == 12
    assert shown["boards_se"] == round(math.sqrt(12 * 40_000) / SCALE, 2)
    estimate, low, high = shown["percentiles_bpm"]["p50"]
    assert low <= estimate <= high
