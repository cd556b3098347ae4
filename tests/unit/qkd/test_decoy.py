"""Lim 2014: the production bounds against an independent transcription of the paper, and its published figures."""

from math import exp, factorial, log, sqrt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from qepa_qkd.decoy import BlockCounts, EpsilonBudget, Lim2014, SourceSettings

SOURCE = SourceSettings((0.5, 0.2, 0.002), (0.4, 0.3, 0.3))
COUNTS = BlockCounts((92_709, 28_783, 613), (17_175, 5_320, 126), (197, 83, 43))


def paper(counts: BlockCounts, source: SourceSettings, eps: EpsilonBudget, leak: float) -> tuple[float, ...]:
    """Equations (1) to (5) term by term, natural logarithms throughout, nothing shared with the product."""
    m1, m2, m3 = source.intensities
    p = source.probabilities
    tau = [sum(exp(-k) * k**n * q / factorial(n) for k, q in zip(source.intensities, p, strict=True)) for n in (0, 1)]

    def plus_minus(n: tuple[int, int, int], i: int, sign: int) -> float:
        deviation = sqrt((n[0] + n[1] + n[2]) * log(21 / eps.secrecy) / 2)
        return max(0.0, exp(source.intensities[i]) * (n[i] + sign * deviation) / p[i])

    def singles(n: tuple[int, int, int]) -> tuple[float, float]:
        s0 = max(0.0, tau[0] * (m2 * plus_minus(n, 2, -1) - m3 * plus_minus(n, 1, 1)) / (m2 - m3))
        bracket = plus_minus(n, 1, -1) - plus_minus(n, 2, 1)
        bracket -= (m2 * m2 - m3 * m3) / (m1 * m1) * (plus_minus(n, 0, 1) - s0 / tau[0])
        return s0, tau[1] * m1 * bracket / (m1 * (m2 - m3) - m2 * m2 + m3 * m3)

    x0, x1 = singles(counts.n_x)
    _, z1 = singles(counts.n_z)
    b = tau[1] * (plus_minus(counts.m_z, 1, 1) - plus_minus(counts.m_z, 2, -1)) / (m2 - m3) / z1
    inner = log((z1 + x1) / (z1 * x1 * (1 - b) * b) * 21**2 / eps.secrecy**2) / log(2)
    phase = b + sqrt((z1 + x1) * (1 - b) * b / (z1 * x1 * log(2)) * inner)
    entropy = -(phase * log(phase) + (1 - phase) * log(1 - phase)) / log(2)
    bits = x0 + x1 - x1 * entropy - leak - 6 * log(21 / eps.secrecy) / log(2) - 128
    return bits, x0, x1, phase


@pytest.mark.parametrize("scale", [1, 3, 40])
@pytest.mark.parametrize("secrecy", [1e-10, 1e-6])
def test_agrees_with_the_paper_term_by_term(scale: int, secrecy: float) -> None:
    def scaled(n: tuple[int, int, int]) -> tuple[int, int, int]:
        return n[0] * scale, n[1] * scale, n[2] * scale

    counts = BlockCounts(scaled(COUNTS.n_x), scaled(COUNTS.n_z), scaled(COUNTS.m_z))
    eps = EpsilonBudget(1e-15, secrecy)
    result = Lim2014().key_length(counts, SOURCE, eps, 11_757 * scale, 128)
    bits, x0, x1, phase = paper(counts, SOURCE, eps, 11_757 * scale)
    assert result.bits == int(bits) > 0
    assert result.vacuum_events == pytest.approx(x0)
    assert result.single_photon_events == pytest.approx(x1)
    assert result.phase_error == pytest.approx(phase)


def test_published_gain_from_a_longer_block_at_100_km() -> None:
    """Section IV: at 100 km the optimised rate with n_X = 10^9 is about 1.75 times the one with 10^7."""

    def rate(x: np.ndarray, block: float) -> float:
        q, p1, p2, m1, m2 = x
        if not (0 < q < 1 and min(p1, p2) > 0 and p1 + p2 < 1 and m2 > 2e-4 and m2 + 2e-4 < m1 < 1):
            return 0.0
        source = SourceSettings((m1, m2, 2e-4), (p1, p2, 1 - p1 - p2))
        eta = 0.1 * 10 ** (-0.02 * 100)
        click = [1 - (1 - 1.2e-6) * exp(-eta * k) for k in source.intensities]
        wrong = [6e-7 + 5e-3 * (1 - exp(-eta * k)) + 0.02 * d for d, k in zip(click, source.intensities, strict=True)]
        sent = source.probabilities
        seen = [p * d * 1.04 for p, d in zip(sent, click, strict=True)]
        pulses = block / q**2 / sum(seen)
        n_x = tuple(pulses * q * q * s for s in seen)
        n_z = tuple(pulses * (1 - q) ** 2 * s for s in seen)
        m_z = tuple(pulses * (1 - q) ** 2 * p * e for p, e in zip(sent, wrong, strict=True))
        error = sum(p * e for p, e in zip(sent, wrong, strict=True)) / sum(seen)
        leak = 1.16 * block * -(error * np.log2(error) + (1 - error) * np.log2(1 - error))
        bits = 0.01 * block
        for _ in range(3):  # eps_sec = kappa * key length
            eps = EpsilonBudget(1e-15, 1e-15 * max(bits, 1))
            bits = Lim2014().key_length(BlockCounts(n_x, n_z, m_z), source, eps, leak, 0).bits  # type: ignore[arg-type]
        return bits / pulses

    def best(block: float) -> float:
        start = [0.9, 0.6, 0.3, 0.5, 0.15]
        options = {"maxiter": 600, "xatol": 1e-4, "fatol": 1e-9}
        return -minimize(lambda x: -1e6 * rate(x, block), start, method="Nelder-Mead", options=options).fun

    assert best(1e9) / best(1e7) == pytest.approx(1.75, rel=0.05)


counts_triples = st.tuples(st.integers(0, 200_000), st.integers(0, 100_000), st.integers(0, 20_000))


@example((0, 314, 0), (0, 308, 0), (0.0, 0.0, 0.0), 0)
@settings(max_examples=500, deadline=None)
@given(counts_triples, counts_triples, st.tuples(*[st.floats(0, 1)] * 3), st.integers(0, 200_000))
def test_never_more_key_than_sifted_bits_less_leak(
    n_x: tuple[int, int, int], n_z: tuple[int, int, int], rates: tuple[float, float, float], leak: int
) -> None:
    m_z = (int(n_z[0] * rates[0]), int(n_z[1] * rates[1]), int(n_z[2] * rates[2]))
    length = Lim2014().key_length(BlockCounts(n_x, n_z, m_z), SOURCE, EpsilonBudget(), leak, 128)
    assert 0 <= length.bits <= max(0, sum(n_x) - leak)
    assert 0 <= length.phase_error <= 0.5


def test_counts_that_the_source_cannot_have_made_give_no_key() -> None:
    """Only decoys arrive: an attacker who tells intensities apart. The bound would exceed the events there are."""
    counts = BlockCounts((0, 100_000, 0), (0, 100_000, 0), (0, 0, 0))
    assert Lim2014().key_length(counts, SOURCE, EpsilonBudget(), 0, 128).bits == 0


def test_more_errors_or_more_leak_never_give_more_key() -> None:
    def bits(errors: int, leak: int) -> int:
        counts = BlockCounts(COUNTS.n_x, COUNTS.n_z, (197 + errors, 83 + errors, 43))
        return Lim2014().key_length(counts, SOURCE, EpsilonBudget(), leak, 128).bits

    assert bits(0, 11_000) > bits(40, 11_000) > bits(300, 11_000) == 0
    assert bits(0, 11_000) - bits(0, 11_500) == 500


def test_no_errors_seen_is_not_no_phase_errors() -> None:
    counts = BlockCounts(COUNTS.n_x, COUNTS.n_z, (0, 0, 0))
    assert Lim2014().key_length(counts, SOURCE, EpsilonBudget(), 0, 128).phase_error > 0.001


@pytest.mark.parametrize(
    ("intensities", "probabilities"),
    [((0.3, 0.2, 0.1), (0.4, 0.3, 0.3)), ((0.5, 0.1, 0.2), (0.4, 0.3, 0.3)), ((0.5, 0.2, 0.0), (0.5, 0.5, 0.0))],
)
def test_settings_outside_the_proof_are_refused(
    intensities: tuple[float, float, float], probabilities: tuple[float, float, float]
) -> None:
    with pytest.raises(ValueError, match="intensit"):
        SourceSettings(intensities, probabilities)
