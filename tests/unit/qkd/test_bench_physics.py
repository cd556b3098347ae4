"""The simulated light against the closed formulas it claims to follow. Everything is seeded; bounds are 5 sigma."""

from dataclasses import replace
from math import erf, exp, factorial, sqrt

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qepa_qkd.serial_protocol import STATE_GONE
from qepa_tools.bench.attackers import parse_attack
from qepa_tools.bench.physics import BenchSettings, OpticalBench, PulseSettings
from qepa_tools.bench.scenario import Scenario
from qepa_tools.bench.speed import measure
from qepa_tools.bench.ziggurat import EXPONENTIAL_TAIL, NORMAL_TAIL, exponential_layers, normal_layers

CLEAN = BenchSettings(
    dark_counts_hz=0,
    background_hz=0,
    afterpulse_probability=0,
    misalignment=0,
    dead_time_ns=0,
    jitter_ps=0,
    slot_offset=0,
)
DARK_PULSES = PulseSettings(intensities=(0.0, 0.0, 0.0))
EVEN = PulseSettings(key_basis_probability=0.5)
MU = (0.5, 0.2, 0.002)


def bench_of(settings: BenchSettings, pulses: PulseSettings | None = None, attack: str = "none") -> OpticalBench:
    scenario = Scenario(settings)
    scenario.plan(f"attack {attack}")
    return OpticalBench(settings, pulses or PulseSettings(), np.random.default_rng(7), scenario=scenario)


def near(count: float, expected: float, sigmas: float = 5) -> bool:
    """Whether a Poissonian or binomial count agrees with what was expected."""
    return abs(count - expected) <= sigmas * sqrt(expected) + 1


def gains(bench: OpticalBench, pulses: int) -> list[tuple[int, int]]:
    """(slots with a click, slots sent) of each intensity."""
    slots, _ = bench.advance(pulses)
    sent = np.bincount(bench.states(np.arange(pulses)) >> 2, minlength=3)
    seen = np.bincount(bench.states(np.unique(slots)) >> 2, minlength=3)
    return [(int(a), int(b)) for a, b in zip(seen, sent, strict=True)]


def sifted_errors(bench: OpticalBench, pulses: int) -> tuple[int, int]:
    """(wrong, all) clicks in the basis that was sent."""
    slots, detectors = bench.advance(pulses)
    states = bench.states(slots)
    matched = (states >> 1 & 1) == detectors >> 1
    return int(np.sum(((states ^ detectors) & 1)[matched])), int(matched.sum())


# The source


def test_states_of_neighbours_and_of_far_slots_are_independent() -> None:
    bench = bench_of(CLEAN, PulseSettings(probabilities=(0.25, 0.5, 0.25), key_basis_probability=0.5))
    bench.slot = 1 << 41
    slots = np.arange(1_000_000)
    weights = np.repeat([0.25, 0.5, 0.25], 4) / 4
    for distance in (1, 2, 65_536, 1 << 40):
        pairs = bench.states(slots).astype(int) * 12 + bench.states(slots + distance)
        expected = np.outer(weights, weights).ravel() * len(slots)
        chi_square = np.sum((np.bincount(pairs, minlength=144) - expected) ** 2 / expected)
        assert abs(chi_square - 143) < 5 * sqrt(2 * 143)


def test_a_state_can_be_asked_for_at_any_later_time() -> None:
    bench = bench_of(CLEAN)
    bench.advance(1000)
    early = bench.states(np.arange(1000))
    bench.advance(10**9 // 1000)
    assert np.array_equal(bench.states(np.arange(1000)), early)
    assert list(bench.states(np.array([-1, bench.slot]))) == [STATE_GONE, STATE_GONE]


@given(cuts=st.lists(st.integers(1, 60_000), max_size=12))
@settings(max_examples=25, deadline=None)
def test_how_time_is_cut_changes_nothing(cuts: list[int]) -> None:
    made_of = BenchSettings(pointing_sigma=0.3, clock_offset_ppm=4, clock_walk_ppb=50, afterpulse_probability=0.1)
    whole, parts = bench_of(made_of), bench_of(made_of)
    for bench in (whole, parts):
        bench.scenario.plan("attack photon-number-splitting at=0.02 until=0.031")
        bench.scenario.plan("set misalignment=0.2 at=0.04")
    pulses = sum(cuts) + 50_000
    expected = whole.advance_tagged(pulses)
    found = [parts.advance_tagged(n) for n in (*cuts, 50_000)]
    for name in ("slots", "detectors", "phases_ps", "times_ps"):
        assert np.array_equal(getattr(expected, name), np.concatenate([getattr(part, name) for part in found]))


def test_gaps_between_photons_are_exponential_to_the_last_one_in_ten_thousand() -> None:
    """The ziggurat against the formula; gaps are thousands of slots, so whole slots do not show."""
    rate = 0.22 * 0.001
    bench = bench_of(CLEAN, PulseSettings(intensities=(0.001, 0.001, 0.001)))
    slots, _ = bench.advance(round(1_000_000 / rate))
    gaps = np.diff(slots) * rate
    assert near(len(slots), 1_000_000)
    assert stats.kstest(gaps, "expon").statistic < 2.2 / sqrt(len(gaps)) + rate
    for least in (5.0, EXPONENTIAL_TAIL, EXPONENTIAL_TAIL + 2):
        assert near(int(np.sum(gaps > least)), len(gaps) * exp(-least))


def test_jitter_is_normal_to_the_last_one_in_ten_thousand() -> None:
    bench = bench_of(replace(CLEAN, jitter_ps=50_000, gate_ns=1000), replace(EVEN, intensities=(0.5, 0.5, 0.5)))
    clicks = bench.advance_tagged(10_000_000)
    late = (clicks.phases_ps - 500_000) / 50_000
    assert stats.kstest(late, "norm").statistic < 2.2 / sqrt(len(late)) + 1e-5
    for least in (3.0, NORMAL_TAIL, NORMAL_TAIL + 0.5):
        for side in (late, -late):
            assert near(int(np.sum(side > least)), len(late) * stats.norm.sf(least))


@pytest.mark.parametrize(
    ("widths", "heights", "begin"),
    [(*exponential_layers(), EXPONENTIAL_TAIL), (*normal_layers(), NORMAL_TAIL)],
    ids=["exponential", "normal"],
)
def test_layers_of_a_ziggurat_have_equal_areas(
    widths: npt.NDArray[np.float64], heights: npt.NDArray[np.float64], begin: float
) -> None:
    areas = widths[1:-1] * np.diff(heights)[1:]
    assert areas == pytest.approx(np.full(255, widths[0] * heights[1]), rel=1e-6)
    assert (widths[1], widths[-1], heights[-1]) == (begin, 0.0, 1.0)


def test_a_brightest_pulse_that_is_never_sent_makes_no_click_and_no_hang() -> None:
    bench = bench_of(CLEAN, PulseSettings(intensities=(0.5, 0.0, 0.0), probabilities=(0.0, 0.5, 0.5)))
    assert not len(bench.advance(1_000_000)[0])


# Loss, noise, detectors


def test_gain_is_that_of_a_poissonian_source_with_loss_and_noise() -> None:
    """Q = 1 - (1 - Y0) exp(-eta mu), Ma et al. 2005, equation 7 with eta mu not small."""
    settings = replace(CLEAN, dark_counts_hz=5000, background_hz=20_000, channel_transmittance=0.1)
    y0 = 1 - exp(-100e-9 * (4 * 5000 + 20_000))
    for (seen, sent), mu in zip(gains(bench_of(settings), 3_000_000), MU, strict=True):
        assert near(seen, sent * (1 - (1 - y0) * exp(-0.1 * 0.55 * 0.5 * mu)))


def test_errors_come_from_misalignment_and_noise() -> None:
    """E Q = Y0 / 2 + e_mis (1 - exp(-eta mu)), Ma et al. 2005, equation 8, in the basis that was sent."""
    settings = replace(CLEAN, dark_counts_hz=5000, background_hz=20_000, channel_transmittance=0.1, misalignment=0.03)
    n, eta, share = 6_000_000, 0.1 * 0.55 * 0.5, 0.5
    pulses = PulseSettings(intensities=(0.4, 0.4, 0.4), key_basis_probability=0.5)
    wrong, matched = sifted_errors(bench_of(replace(settings, receiver_key_basis_probability=share), pulses), n)
    y0, signal = 100e-9 * 40_000 * share, eta * 0.4 * share
    assert near(matched, n * (y0 + signal))
    assert near(wrong, n * (y0 / 2 + 0.03 * signal))


def test_afterpulses_come_in_geometric_runs() -> None:
    """Each click is followed by another with probability p, so there are 1 / (1 - p) clicks for each first one."""
    settings = replace(CLEAN, dark_counts_hz=5000, gate_ns=1000, dead_time_ns=1200, afterpulse_probability=0.2)
    slots, _ = bench_of(settings, DARK_PULSES).advance(10_000_000)
    first = 10 * 4 * 5000
    # Each first click brings 1.25 clicks, the number in a run having variance 0.3125; losses are 1.2 us x 5 kHz.
    assert abs(len(slots) - 1.25 * first) <= 5 * sqrt(first * (1.25**2 + 0.3125)) + 0.01 * first


def test_a_free_running_detector_saturates() -> None:
    """r / (1 + r tau), a detector that light in the dead time does not keep dead."""
    settings = replace(CLEAN, dark_counts_hz=3e6, gate_ns=10, dead_time_ns=1200)
    _, detectors = bench_of(settings, replace(DARK_PULSES, pulse_rate_hz=1e8)).advance(10_000_000)
    expected = 0.1 * 3e6 / (1 + 3e6 * 1.2e-6)
    for detector in range(4):
        # One per cent: a click in a slot of 10 ns is tagged anywhere in it.
        assert np.sum(detectors == detector) == pytest.approx(expected, rel=0.01)


def test_a_detector_of_pulses_skips_as_many_as_its_dead_time_spans() -> None:
    """p / (1 + p D) with D pulses in the dead time."""
    settings = replace(CLEAN, dead_time_ns=5500, receiver_key_basis_probability=0.5)
    pulses = PulseSettings(intensities=(0.8, 0.8, 0.8), key_basis_probability=0.5)
    _, detectors = bench_of(settings, pulses).advance(400_000)
    # Of the pulses in D a half is in each detector's basis, where one value in two gives it the whole basis; the other
    # half gives it a quarter of the light.
    light = 0.22 * 0.8
    p = (1 - exp(-light / 2)) / 4 + (1 - exp(-light / 4)) / 2
    for detector in range(4):
        assert near(int(np.sum(detectors == detector)), 400_000 * p / (1 + 5 * p))


def test_detectors_differ_as_they_are_told_to() -> None:
    settings = replace(
        CLEAN, detector_balance=(1.0, 0.8, 0.5, 2.0), detector_efficiency=0.5, channel_transmittance=0.05
    )
    pulses = PulseSettings(intensities=(0.5, 0.5, 0.5))
    _, detectors = bench_of(settings, pulses).advance(4_000_000)
    counts = np.bincount(detectors, minlength=4)
    for detector, (balance, split) in enumerate(zip((1.0, 0.8, 0.5, 2.0), (0.35, 0.35, 0.15, 0.15), strict=True)):
        assert near(counts[detector], 4_000_000 * (1 - exp(-0.05 * 0.55 * 0.5 * 0.5 * split * balance)))


# Time


def test_tags_scatter_around_the_middle_of_the_slot_and_the_gate_cuts_them() -> None:
    clicks = bench_of(replace(CLEAN, jitter_ps=400)).advance_tagged(500_000)
    assert np.mean(clicks.phases_ps) == pytest.approx(500_000, abs=10)
    assert np.std(clicks.phases_ps) == pytest.approx(400, rel=0.02)
    gated = bench_of(replace(CLEAN, jitter_ps=400, gate_ns=0.8)).advance_tagged(500_000)
    assert np.abs(gated.phases_ps - 500_000).max() <= 400
    assert len(gated.slots) == pytest.approx(len(clicks.slots) * erf(1 / sqrt(2)), rel=0.02)


def test_times_are_sorted_and_lie_in_their_slots_without_drift() -> None:
    bench = bench_of(BenchSettings(), PulseSettings(pulse_rate_hz=3e6))
    clicks = bench.advance_tagged(6_500_000)
    assert np.all(np.diff(clicks.times_ps) >= 0)
    assert np.array_equal(np.floor(clicks.times_ps * 3e-6).astype(int), clicks.slots)


def test_the_receivers_clock_gains_what_it_is_told_to() -> None:
    clicks = bench_of(replace(CLEAN, clock_offset_ppm=12.5)).advance_tagged(2_000_000)
    ahead_ps = clicks.times_ps - (clicks.slots * 1_000_000 + 500_000)
    assert np.polyfit(clicks.slots, ahead_ps, 1)[0] == pytest.approx(12.5, rel=1e-4)  # 1 ps a slot of 1 us is 1 ppm


def test_the_clock_walks_as_the_square_root_of_time() -> None:
    """The frequency, a random walk of w after a second, has walked by w sqrt(T) after T; over seeds."""
    walked = []
    for seed in range(200):
        settings = replace(CLEAN, clock_walk_ppb=100)
        bench = OpticalBench(settings, PulseSettings(pulse_rate_hz=1e4), np.random.default_rng(seed))
        parts = [bench.advance_tagged(1000) for _ in range(40)]
        times, slots = (np.concatenate([getattr(part, name) for part in parts]) for name in ("times_ps", "slots"))
        ahead_ps = times - (slots * 100_000_000 + 50_000_000)
        last = slots >= 39_000
        walked.append(np.polyfit(slots[last], ahead_ps[last], 1)[0] / 0.1)  # 0.1 ps a slot of 100 us is 1 ppb
    assert np.std(walked) == pytest.approx(100 * sqrt(3.95), rel=5 / sqrt(2 * 200))


def test_a_wandering_beam_loses_what_its_aperture_misses() -> None:
    """The mean of exp(-2 r^2 / w^2) over Gaussian errors of sigma w in each direction is 1 / (1 + 4 sigma^2)."""
    settings = replace(CLEAN, pointing_sigma=0.5, pointing_bandwidth_hz=100)
    still, moving = bench_of(CLEAN), bench_of(settings)
    counts = [len(moving.advance(250_000)[0]) for _ in range(60)]
    expected = len(still.advance(15_000_000)[0]) / (1 + 4 * 0.25)
    # 15 s hold about 2 x 100 x 15 independent positions; sigma of the fading is below 0.3 of its mean 0.5.
    assert sum(counts) == pytest.approx(expected, rel=5 * 0.58 / sqrt(3000))
    assert np.std(counts) > 3 * sqrt(np.mean(counts))


# Attackers


@pytest.mark.parametrize("fraction", [0.1, 0.4, 1.0])
def test_intercept_resend_costs_a_quarter_of_what_it_touches(fraction: float) -> None:
    """Half of Eve's bases are wrong and leave an even chance: (1 - f) e0 + f (e0 / 2 + 1 / 4)."""
    settings = replace(CLEAN, misalignment=0.02)
    wrong, matched = sifted_errors(bench_of(settings, EVEN, f"intercept-resend fraction={fraction}"), 2_000_000)
    expected = (1 - fraction) * 0.02 + fraction * (0.01 + 0.25)
    # Photons of one pulse share a fate: allow their pairs, about eta mu of them, in the scatter.
    assert abs(wrong - expected * matched) <= 6 * sqrt(expected * matched)


def yield_under_splitting(n: int, block: float, receiver: float) -> float:
    if n < 2:
        return n * (1 - block) * receiver
    return 1 - (1 - receiver) ** (n - 1)


def test_splitting_keeps_the_signal_and_starves_the_weak_decoy() -> None:
    """Q_mu = sum of exp(-mu) mu^n / n! Y_n, Lo, Ma, Chen 2005; Eve stops single photons and passes all but one else."""
    for transmittance, starved in ((0.4, 0.88), (0.05, 0.5)):
        settings = replace(CLEAN, channel_transmittance=transmittance)
        honest = gains(bench_of(settings), 3_000_000)
        attacked = gains(bench_of(settings, attack="photon-number-splitting"), 3_000_000)
        assert abs(attacked[0][0] - honest[0][0]) < 5 * sqrt(attacked[0][0] + honest[0][0])
        assert attacked[1][0] < starved * honest[1][0]
    for block in (0.0, 0.6):
        bench = bench_of(settings, attack=f"photon-number-splitting block={block}")
        for (seen, sent), mu in zip(gains(bench, 2_000_000), MU, strict=True):
            poisson = [exp(-mu) * mu**n / factorial(n) for n in range(12)]
            gain = sum(p * yield_under_splitting(n, block, 0.275) for n, p in enumerate(poisson))
            assert near(seen, sent * gain)


def basis_patterns(slots: npt.NDArray[np.int64], detectors: npt.NDArray[np.uint8]) -> dict[int, int]:
    """How many slots clicked in which set of detectors (bit d: detector d)."""
    _, index = np.unique(slots, return_inverse=True)
    patterns = np.bincount(index, weights=1 << detectors.astype(int)).astype(int)
    return dict(zip(*(x.tolist() for x in np.unique(patterns, return_counts=True)), strict=True))


def test_blinding_an_even_receiver_leaves_no_error_no_noise_and_no_double_click() -> None:
    settings = replace(
        CLEAN, receiver_key_basis_probability=0.5, dark_counts_hz=10_000, background_hz=40_000, misalignment=0.02
    )
    bench = bench_of(settings, EVEN, "blinding")
    onset, _ = bench.advance(1)
    assert list(onset) == [0, 0, 0, 0]  # every diode breaks down once
    assert sifted_errors(bench, 1_000_000)[0] == 0
    slots, detectors = bench.advance(1_000_000)
    assert set(basis_patterns(slots, detectors)) == {1, 2, 4, 8}
    vacuum = np.sum(bench.states(slots) >> 2 == 2)
    assert near(vacuum, 1_000_000 * 0.3 * 0.22 * 0.002)  # the honest bench would count 8 in 1000 here


def test_blinding_an_uneven_receiver_shows_in_double_clicks() -> None:
    """70 : 30. What makes 1.1 thresholds in D or A puts 1.1 x 0.7 / 0.3 / 2 = 1.28 on both H and V."""
    bench = bench_of(replace(CLEAN, receiver_key_basis_probability=0.7), attack="blinding")
    bench.advance(1)
    slots, detectors = bench.advance(1_000_000)
    patterns = basis_patterns(slots, detectors)
    assert set(patterns) == {0b0001, 0b0010, 0b0111, 0b1011}
    assert near(patterns[0b0111] + patterns[0b1011], 0.3 * sum(patterns.values()))
    honest = bench_of(replace(CLEAN, receiver_key_basis_probability=0.7))
    honest_patterns = basis_patterns(*honest.advance(1_000_000))
    assert sum(count for pattern, count in honest_patterns.items() if pattern.bit_count() > 1) < 0.05 * sum(
        honest_patterns.values()
    )


def test_faked_states_below_the_threshold_make_no_click() -> None:
    bench = bench_of(CLEAN, attack="blinding power=0.8")
    bench.advance(1)
    assert not len(bench.advance(1_000_000)[0])


def test_a_time_shift_favours_the_detector_that_responds_then() -> None:
    """Gaussian responses a distance m apart, width w, pulses shifted by s: exp(-s m / w^2) between V and H."""
    settings = replace(
        CLEAN, efficiency_window_ps=600, mismatch_ps=300, channel_transmittance=0.1, receiver_key_basis_probability=0.5
    )
    for early, sign in ((1.0, -1), (0.0, 1)):
        bench = bench_of(settings, EVEN, f"time-shift shift_ps=500 early={early}")
        clicks = bench.advance_tagged(4_000_000)
        assert set(clicks.phases_ps.tolist()) == {500_000 + 500 * sign}
        counts = np.bincount(clicks.detectors, minlength=4)
        ratio = exp(sign * 500 * 300 / 600**2)
        sigma = ratio * sqrt(1 / counts[0] + 1 / counts[1])
        assert abs(counts[1] / counts[0] - ratio) < 5 * sigma


# The scenario


def test_attackers_come_and_go_at_the_slot_they_were_planned_for() -> None:
    scenario = Scenario(CLEAN)
    scenario.plan("attack intercept-resend at=0.5 until=1.25")
    bench = OpticalBench(CLEAN, EVEN, np.random.default_rng(1), scenario=scenario)
    slots, detectors = bench.advance(2_000_000)
    states = bench.states(slots)
    wrong = slots[((states >> 1 & 1) == detectors >> 1) & ((states ^ detectors) & 1 == 1)]
    assert 500_000 <= wrong.min() < 500_500
    assert 1_249_500 < wrong.max() < 1_250_000


def test_the_scenario_outlives_a_run_and_counts_its_light() -> None:
    scenario = Scenario(CLEAN)
    scenario.plan("set background_hz=1000000 at=1.5")
    for rate, seconds in ((1e6, 1.0), (1e5, 0.25)):
        pulses = replace(DARK_PULSES, pulse_rate_hz=rate)
        bench = OpticalBench(scenario.settings, pulses, np.random.default_rng(1), scenario=scenario)
        assert not len(bench.advance(int(rate * seconds))[0])
    assert scenario.light_s == pytest.approx(1.25)
    bench = OpticalBench(
        scenario.settings, replace(DARK_PULSES, pulse_rate_hz=1e6), np.random.default_rng(1), 0, scenario
    )
    slots, _ = bench.advance(500_000)
    assert slots.min() >= 250_000
    assert near(len(slots), 250_000 * 0.1)


def test_a_change_now_is_felt_by_the_next_pulse() -> None:
    bench = bench_of(CLEAN)
    assert sifted_errors(bench, 100_000)[0] == 0
    bench.scenario.plan("set misalignment=0.5")
    wrong, matched = sifted_errors(bench, 100_000)
    assert near(wrong, matched / 2)
    bench.scenario.plan("set misalignment=0")
    assert sifted_errors(bench, 100_000)[0] == 0


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "neither"),
        ("attack", "no attacker"),
        ("attack eve", "intercept-resend"),
        ("attack intercept-resend share=1", "fraction"),
        ("attack intercept-resend fraction=1.5", "between 0 and 1"),
        ("attack none at=5 until=3", "before"),
        ("set background_hz", "neither"),
        ("set background_hz=-1", "not negative"),
        ("set background_hz=nan", "not negative"),
        ("set nonsense=1", "no setting"),
        ("set slot_offset=4", "cannot change"),
        ("set detector_balance=1,1,1", "no value"),
        ("set detector_balance=1,1,1,3", "exceeds 1"),
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing_and_is_explained(line: str, complaint: str) -> None:
    scenario = Scenario(CLEAN)
    with pytest.raises(ValueError, match=complaint):
        scenario.plan(line)
    assert scenario.settings == CLEAN
    assert (scenario.attack, scenario.next_s(), scenario.version) == (None, None, 0)


def test_attacks_are_described_as_they_are_entered() -> None:
    from qepa_tools.bench.attackers import ATTACKS, describe

    for name in ATTACKS:
        attack = parse_attack(name)
        assert parse_attack(describe(attack)) == attack
    assert describe(None) == "none"


def test_the_speed_test_runs_every_attacker_with_and_without_frames() -> None:
    rows = measure(BenchSettings(), seconds=0.05)
    assert len(rows) == 15
    for row in rows:
        assert float(row["framed_times_real_time"]) > 0
        assert float(row["times_real_time"]) > 0
    honest = {row["pulse_rate_hz"]: float(row["clicks_hz"]) for row in rows if row["attack"] == "none"}
    assert honest[1e6] == pytest.approx(55_500, rel=0.1)
    assert honest[1e8] == pytest.approx(2.02e6, rel=0.02)
    with pytest.raises(ValueError, match="without a host"):
        measure(BenchSettings(), seconds=5)
