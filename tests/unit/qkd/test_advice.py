"""Channel model against the simulated optics and against formulas of the literature; advice and finite-key curves."""

import json
from dataclasses import replace
from math import exp, log2, sqrt

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from qepa_qkd.advice import Constraints, advise, evaluate, seconds_to_a_key
from qepa_qkd.channel_model import Channel, background_share, leak_bits, sifted_rates
from qepa_qkd.decoy import PROOFS, BlockCounts, EpsilonBudget, SourceSettings
from qepa_qkd.finite_key import against_loss
from qepa_qkd.sifting import judge, report_symbols, squash, tally
from qepa_tools.bench.physics import BenchSettings, OpticalBench, PulseSettings
from qepa_tools.link.advise import advise as command

SOURCE = SourceSettings((0.5, 0.2, 0.002), (0.4, 0.3, 0.3))
CHANNEL = Channel(transmittance=0.22, background_hz=2200, misalignment=0.008, afterpulse_probability=0.006)


def test_counts_agree_with_the_virtual_bench() -> None:
    pulses, bench = 4_000_000, BenchSettings()
    rng = np.random.default_rng(11)
    optics = OpticalBench(bench, PulseSettings(), rng, ring_slots=pulses)
    slots, detectors = squash(*optics.advance(pulses), rng)
    symbols = report_symbols(detectors)
    states = optics.states(slots - bench.slot_offset)
    verdicts = judge(symbols, states)
    seen = tally(verdicts, symbols)
    wrong_x = [int(np.sum((verdicts == 1 + k) & ((states ^ detectors) & 1 == 1))) for k in range(3)]
    channel = Channel(
        transmittance=bench.channel_transmittance * bench.receiver_transmittance * bench.detector_efficiency,
        background_hz=4 * bench.dark_counts_hz + bench.background_hz,
        misalignment=bench.misalignment,
        gate_ns=bench.gate_ns,
        dead_time_ns=bench.dead_time_ns,
        afterpulse_probability=bench.afterpulse_probability,
        receiver_key_basis_probability=bench.receiver_key_basis_probability,
    )
    expected = sifted_rates(channel, SOURCE, 0.7).counts(pulses)
    assert expected.m_x is not None
    # Afterpulses come in runs and dead time ties neighbours together, so allow two per cent beside the scatter.
    for ours, theirs in (
        (expected.n_x, seen.n_x),
        (expected.n_z, seen.n_z),
        (expected.m_z, seen.m_z),
        (expected.m_x, wrong_x),
    ):
        for mean, count in zip(ours, theirs, strict=True):
            assert abs(count - mean) <= 5 * sqrt(mean) + 0.02 * mean + 10


@pytest.mark.parametrize("loss_db", [10, 30])
def test_an_active_receiver_counts_as_in_lim_2014(loss_db: float) -> None:
    """Their section IV: a gain of 1 - (1 - p_dc) exp(-eta k), errors of p_dc / 2 + e_mis (1 - exp(-eta k))."""
    eta, dark = 10 ** (-loss_db / 10), 1e-6
    channel = Channel(
        transmittance=eta,
        background_hz=dark * 2 / 100e-9,
        misalignment=5e-3,
        dead_time_ns=0,
        receiver_key_basis_probability=None,
    )
    rates = sifted_rates(channel, SOURCE, 0.9)
    for k, sent, gain, wrong in zip(SOURCE.intensities, SOURCE.probabilities, rates.x, rates.wrong_x, strict=True):
        share = sent * 0.9 * 0.9
        assert gain == pytest.approx(share * (1 - (1 - dark) * exp(-eta * k)), rel=0.01)
        assert wrong == pytest.approx(share * (dark / 2 + 5e-3 * (1 - exp(-eta * k))), rel=0.06)


def test_leak_is_the_binary_entropy() -> None:
    assert leak_bits(1e6, 0.02, 1.1) == round(1.1e6 * -(0.02 * log2(0.02) + 0.98 * log2(0.98)))
    assert leak_bits(1e6, 0.0, 1.1) == 0


def test_one_decoy_is_better_than_two_at_practical_block_sizes() -> None:
    """The finding of Rusca et al. 2018, which holds for their published bounds up to blocks of about 10^8."""
    for seconds in (3, 100):
        rates = {
            one.proof: one.key_rate_bps
            for one in advise(CHANNEL, Constraints(seconds=seconds), proofs=("Lim2014", "Rusca2018"))
        }
        assert rates["Rusca2018"] > rates["Lim2014"] > 0


@pytest.mark.parametrize("proof", PROOFS)
def test_no_neighbour_of_the_advice_is_much_better(proof: str) -> None:
    constraints = Constraints(seconds=10)
    best = advise(CHANNEL, constraints, proofs=(proof,))[0]
    mu1, mu2, mu3 = best.source.intensities
    p1, p2, p3 = best.source.probabilities
    assert best.key_rate_bps > evaluate(CHANNEL, constraints, proof, SOURCE, 0.7).key_rate_bps
    for factor in (0.8, 1.25):
        for source, basis in (
            (SourceSettings((mu1 * factor, mu2, mu3), (p1, p2, p3)), best.key_basis_probability),
            (SourceSettings((mu1, mu2 * factor, mu3), (p1, p2, p3)), best.key_basis_probability),
            (best.source, 1 - (1 - best.key_basis_probability) * factor),
        ):
            rate = evaluate(CHANNEL, constraints, proof, source, basis).key_rate_bps
            assert rate <= 1.01 * best.key_rate_bps


def test_advice_is_consistent_with_the_proof_it_names() -> None:
    best = advise(CHANNEL, Constraints(seconds=20))[0]
    rates = sifted_rates(CHANNEL, best.source, best.key_basis_probability)
    pulses = best.block_seconds * CHANNEL.pulse_rate_hz
    counts = rates.counts(pulses)
    leak = leak_bits(sum(counts.n_x), rates.qber_x, 1.05)
    length = PROOFS[best.proof].key_length(counts, best.source, EpsilonBudget(), leak, 128)
    assert best.length == length
    assert best.key_rate_bps == pytest.approx(length.bits / best.block_seconds)
    assert sum(share.share for share in best.shares) + length.bits / best.block_bits == pytest.approx(1, abs=0.01)


def test_advice_says_what_limits() -> None:
    short = advise(CHANNEL, Constraints(seconds=1))[0]
    assert short.limit.startswith("Finite statistics")
    crooked = advise(replace(CHANNEL, misalignment=0.05), Constraints(seconds=600))[0]
    assert "Misalignment" in crooked.limit
    bright = replace(CHANNEL, transmittance=0.02, background_hz=15_000)
    assert background_share(bright, SOURCE, 0.7) > 0.5
    assert "Background" in advise(bright, Constraints(seconds=3_000))[0].limit


def test_a_channel_without_key_says_so_and_how_long_a_block_would_do() -> None:
    lossy = replace(CHANNEL, transmittance=0.01)
    none = advise(lossy, Constraints(seconds=30))[0]
    assert none.key_rate_bps == 0
    assert none.limit.startswith("No key: ")
    seconds = seconds_to_a_key(lossy, Constraints(seconds=30))
    assert seconds is not None
    assert advise(lossy, Constraints(seconds=seconds))[0].key_rate_bps > 0
    assert seconds_to_a_key(replace(CHANNEL, misalignment=0.3)) is None


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(tuple(PROOFS)), st.floats(0.05, 1), st.floats(0, 1e5), st.floats(0, 0.1))
def test_a_worse_channel_never_gives_more_key(
    proof: str, transmittance: float, background_hz: float, misalignment: float
) -> None:
    def bits(channel: Channel) -> int:
        return evaluate(channel, Constraints(), proof, SOURCE, 0.7, 400_000).length.bits

    channel = Channel(transmittance, background_hz, misalignment)
    slack = 200  # counts are rounded, and one count more or less moves the bounds by some bits
    assert bits(replace(channel, misalignment=misalignment + 0.01)) <= bits(channel) + slack
    assert bits(replace(channel, background_hz=1.5 * background_hz + 1_000)) <= bits(channel) + slack


def test_key_falls_with_loss_and_rises_with_the_block() -> None:
    sizes = [30_000, 100_000, 300_000, 1_000_000]
    blocks = [evaluate(CHANNEL, Constraints(), "Lim2014-chernoff", SOURCE, 0.7, size).length.bits for size in sizes]
    secret = [bits / size for bits, size in zip(blocks, sizes, strict=True)]
    assert secret == sorted(secret)
    assert secret[-1] > secret[1] > 0
    losses = against_loss(CHANNEL, SOURCE, 0.7, [3, 6, 9, 12, 40], block_bits=400_000, proofs=("Rusca2018-chernoff",))
    rates = [point.key_rate_bps for point in losses]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[1] > 0
    assert rates[-1] == 0


@pytest.mark.parametrize(
    "wrong",
    [{"transmittance": 0.0}, {"transmittance": 1.5}, {"background_hz": -1.0}, {"misalignment": 0.7}, {"gate_ns": 0.0}],
)
def test_impossible_channels_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        replace(CHANNEL, **wrong)  # type: ignore[arg-type]


app = typer.Typer()
app.command()(command)


def test_command_gives_settings_both_ends_can_use() -> None:
    result = CliRunner().invoke(app, ["--json", "--seconds", "5", "--loss-db", "8"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    best = document["advice"][0]
    source = SourceSettings(tuple(best["source"]["intensities"]), tuple(best["source"]["probabilities"]))
    PROOFS[best["proof"]].check(source)
    assert best["key_rate_bps"] > document["default_settings"]["key_rate_bps"]
    assert document["expected"] is True
    text = CliRunner().invoke(app, ["--seconds", "5"]).stdout
    assert "not measured" in text
    assert "intensity_probabilities = [" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--proof", "mine"], "there is no proof mine"),
        (["--loss-db", "-3"], "transmittance"),
        (["--seconds", "0"], "day"),
    ],
)
def test_command_refuses_nonsense_in_one_sentence(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert result.output.count("\n") == 1


def test_a_block_without_counts_has_the_error_rate_of_a_guess() -> None:
    assert BlockCounts((0, 0, 0), (0, 0, 0), (0, 0, 0)).qber_z == 0.5
