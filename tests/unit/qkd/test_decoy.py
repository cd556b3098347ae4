"""Key-length proofs: production bounds against independent transcriptions of the papers, and published figures.

The transcriptions below use plain floats and share nothing with the product.
"""

from decimal import Decimal, localcontext
from math import exp, factorial, log, log2, sqrt
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import hypergeom

from qepa_qkd.decoy import PROOFS, BlockCounts, EpsilonBudget, KeyLength, SourceSettings, compare
from qepa_qkd.decoy.statistics import CONTEXT, Sampling, chernoff, exact, fung, serfling

SOURCE = SourceSettings((0.5, 0.2, 0.002), (0.4, 0.3, 0.3))
ONE_DECOY = SourceSettings((0.5, 0.15, 0.0), (0.7, 0.3, 0.0))
COUNTS = BlockCounts((92_709, 28_783, 613), (17_175, 5_320, 126), (197, 83, 43), (1_050, 420, 200))
ONE_DECOY_COUNTS = BlockCounts((96_000, 13_000, 0), (27_000, 3_700, 0), (300, 60, 0), (1_100, 190, 0))
NAMES = tuple(PROOFS)


class Paper(NamedTuple):
    bits: float
    x0: float
    x1: float
    phase: float


def entropy(p: float) -> float:
    return -(p * log(p) + (1 - p) * log(1 - p)) / log(2)


def tau(n: int, source: SourceSettings) -> float:
    pairs = zip(source.intensities, source.probabilities, strict=True)
    return sum(exp(-k) * k**n * q / factorial(n) for k, q in pairs)


def lim(counts: BlockCounts, source: SourceSettings, eps: float, leak: float, parts: int = 21) -> Paper:
    """Lim et al. 2014, equations (1) to (5) term by term; `parts` cuts the secrecy."""
    m1, m2, m3 = source.intensities

    def plus_minus(n: tuple[int, ...], i: int, sign: int) -> float:
        deviation = sqrt((n[0] + n[1] + n[2]) * log(parts / eps) / 2)
        return max(0.0, exp(source.intensities[i]) * (n[i] + sign * deviation) / source.probabilities[i])

    def singles(n: tuple[int, ...]) -> tuple[float, float]:
        s0 = max(0.0, tau(0, source) * (m2 * plus_minus(n, 2, -1) - m3 * plus_minus(n, 1, 1)) / (m2 - m3))
        bracket = plus_minus(n, 1, -1) - plus_minus(n, 2, 1)
        bracket -= (m2 * m2 - m3 * m3) / (m1 * m1) * (plus_minus(n, 0, 1) - s0 / tau(0, source))
        return s0, tau(1, source) * m1 * bracket / (m1 * (m2 - m3) - m2 * m2 + m3 * m3)

    x0, x1 = singles(counts.n_x)
    _, z1 = singles(counts.n_z)
    b = tau(1, source) * (plus_minus(counts.m_z, 1, 1) - plus_minus(counts.m_z, 2, -1)) / (m2 - m3) / z1
    inner = log((z1 + x1) / (z1 * x1 * (1 - b) * b) * parts**2 / eps**2) / log(2)
    phase = b + sqrt((z1 + x1) * (1 - b) * b / (z1 * x1 * log(2)) * inner)
    if parts == 17:
        phase = b + sqrt((z1 + x1) / (z1 * x1) * (z1 + 1) / z1 * log(parts / eps))
        return Paper(x1 - x1 * entropy(phase) - leak - 4 * log2(17 / (eps * 2**0.25)) - 128, x0, x1, phase)
    bits = x0 + x1 - x1 * entropy(phase) - leak - 6 * log(21 / eps) / log(2) - 128
    return Paper(bits, x0, x1, phase)


def rusca(counts: BlockCounts, source: SourceSettings, eps: float, leak: float, parts: int = 19) -> Paper:
    """Rusca et al. 2018 (`parts` 19), or Wiesemann et al. 2024 as their published simulation has it (15)."""
    m1, m2 = source.intensities[:2]
    p1, p2 = source.probabilities[:2]
    t0, t1 = tau(0, source), tau(1, source)

    def delta(n: float) -> float:
        return sqrt(n * log(parts / eps) / 2)

    def singles(n: tuple[int, ...], c: tuple[int, ...]) -> tuple[float, float]:
        total, wrong = n[0] + n[1], c[0] + c[1]
        n1, n2 = exp(m1) / p1 * (n[0] + delta(total)), exp(m2) / p2 * (n[1] - delta(total))
        s0 = max(0.0, t0 / (m1 - m2) * (m1 * n2 - m2 * n1))
        upper = 2 * (t0 * exp(m2) / p2 * (c[1] + delta(wrong)) + delta(total))
        front = m1 * t1 / (m2 * (m1 - m2))
        return s0, front * (n2 - m2**2 / m1**2 * n1 - (m1**2 - m2**2) / (m1**2 * t0) * upper)

    assert counts.m_x is not None
    x0, x1 = singles(counts.n_x, counts.m_x)
    _, z1 = singles(counts.n_z, counts.m_z)
    c1, c2 = counts.m_z[:2]
    v = t1 / (m1 - m2) * (exp(m1) * (c1 + delta(c1 + c2)) / p1 - exp(m2) * max(0.0, c2 - delta(c1 + c2)) / p2)
    b = v / z1
    if parts == 15:
        phase = b + sqrt((z1 + x1) / (z1 * x1) * (z1 + 1) / z1 * log(parts / eps))
        return Paper(x1 * (1 - entropy(phase)) - leak - 4 * log2(15 / (eps * 2**0.25)) - 128, x0, x1, phase)
    inner = log((z1 + x1) / (z1 * x1 * (1 - b) * b) * parts**2 / eps**2) / log(2)
    phase = b + sqrt((z1 + x1) * (1 - b) * b / (z1 * x1 * log(2)) * inner)
    return Paper(x0 + x1 * (1 - entropy(phase)) - leak - 6 * log2(19 / eps) - 128, x0, x1, phase)


def scaled(counts: BlockCounts, factor: float) -> BlockCounts:
    def times(n: tuple[int, int, int]) -> tuple[int, int, int]:
        return int(n[0] * factor), int(n[1] * factor), int(n[2] * factor)

    assert counts.m_x is not None
    return BlockCounts(times(counts.n_x), times(counts.n_z), times(counts.m_z), times(counts.m_x))


def case(name: str) -> tuple[BlockCounts, SourceSettings]:
    return (COUNTS, SOURCE) if name.startswith("Lim") else (ONE_DECOY_COUNTS, ONE_DECOY)


def length(name: str, counts: BlockCounts, leak: int = 11_757, *, errors_public: bool = True) -> KeyLength:
    source = case(name)[1]
    return PROOFS[name].key_length(counts, source, EpsilonBudget(), leak, 128, errors_public=errors_public)


@pytest.mark.parametrize("scale", [1, 3, 40])
@pytest.mark.parametrize("secrecy", [1e-10, 1e-6])
@pytest.mark.parametrize("name", ["Lim2014", "Rusca2018", "Lim2014-corrected", "Rusca2018-corrected"])
def test_agrees_with_the_paper_term_by_term(name: str, scale: int, secrecy: float) -> None:
    counts, source = case(name)
    counts = scaled(counts, scale)
    transcription, parts = {
        "Lim2014": (lim, 21),
        "Lim2014-corrected": (lim, 17),
        "Rusca2018": (rusca, 19),
        "Rusca2018-corrected": (rusca, 15),
    }[name]
    paper = transcription(counts, source, secrecy, 11_757 * scale, parts)
    budget = EpsilonBudget(1e-15, secrecy)
    result = PROOFS[name].key_length(counts, source, budget, 11_757 * scale, 128, errors_public=False)
    corrected_without_vacuum = result.vacuum_events if parts in {15, 17} else 0.0
    assert result.bits == int(paper.bits + corrected_without_vacuum) > 0
    assert result.vacuum_events == pytest.approx(paper.x0)
    assert result.single_photon_events == pytest.approx(paper.x1)
    assert result.phase_error == pytest.approx(paper.phase)


def test_published_values_of_the_one_decoy_bound() -> None:
    """Example of the formalised equations of Rusca et al. (A. Baliuka, formal QKD proofs in Lean, test values)."""
    counts = BlockCounts((8_875_913, 1_124_087, 0), (165_048, 20_902, 0), (3_456, 484, 0), (185_856, 26_055, 0))
    source = SourceSettings((0.51, 0.15, 0.0), (0.7, 0.3, 0.0))
    budget = EpsilonBudget(correctness=1e-15, secrecy=1e-9)
    result = PROOFS["Rusca2018"].key_length(counts, source, budget, 1_776_924, 0, errors_public=False)
    assert result.vacuum_events == 0
    assert result.single_photon_events == pytest.approx(5.396516268816283e6, abs=1e-6)
    assert result.phase_error == pytest.approx(0.07917365937798954, abs=1e-12)
    whole_hash_bits = 51 - log2(2e15)
    assert result.unrounded_bits == pytest.approx(1.4647190887320058e6 - whole_hash_bits, abs=1e-5)


def test_published_gain_from_a_longer_block_at_100_km() -> None:
    """Lim et al., section IV: at 100 km the optimised rate with n_X = 10^9 is about 1.75 times the one with 10^7."""

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
        n_x = tuple(round(pulses * q * q * s) for s in seen)
        n_z = tuple(round(pulses * (1 - q) ** 2 * s) for s in seen)
        m_z = tuple(round(pulses * (1 - q) ** 2 * p * e) for p, e in zip(sent, wrong, strict=True))
        error = sum(p * e for p, e in zip(sent, wrong, strict=True)) / sum(seen)
        leak = round(1.16 * block * entropy(error))
        bits = 0.01 * block
        for _ in range(3):  # eps_sec = kappa * key length
            eps = EpsilonBudget(1e-15, 1e-15 * max(bits, 1))
            counts = BlockCounts(n_x, n_z, m_z)  # type: ignore[arg-type]
            bits = PROOFS["Lim2014"].key_length(counts, source, eps, leak, 0, errors_public=False).bits
        return bits / pulses

    def best(block: float) -> float:
        start = [0.9, 0.6, 0.3, 0.5, 0.15]
        options = {"maxiter": 350, "xatol": 1e-3, "fatol": 1e-6}
        return -minimize(lambda x: -1e6 * rate(x, block), start, method="Nelder-Mead", options=options).fun

    assert best(1e9) / best(1e7) == pytest.approx(1.75, rel=0.05)


counts_triples = st.tuples(st.integers(0, 200_000), st.integers(0, 100_000), st.integers(0, 20_000))
rate_triples = st.tuples(*[st.floats(0, 1)] * 3)


@example((0, 314, 0), (0, 308, 0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0, "Lim2014")
@settings(max_examples=400, deadline=None)
@given(counts_triples, counts_triples, rate_triples, rate_triples, st.integers(0, 200_000), st.sampled_from(NAMES))
def test_never_more_key_than_sifted_bits_less_leak(
    n_x: tuple[int, int, int],
    n_z: tuple[int, int, int],
    x_rates: tuple[float, float, float],
    z_rates: tuple[float, float, float],
    leak: int,
    name: str,
) -> None:
    m_x, m_z = (
        (int(n[0] * rates[0]), int(n[1] * rates[1]), int(n[2] * rates[2]))
        for n, rates in ((n_x, x_rates), (n_z, z_rates))
    )
    result = length(name, BlockCounts(n_x, n_z, m_z, m_x), leak, errors_public=False)
    assert 0 <= result.bits <= max(0, sum(n_x) - leak)
    assert 0 <= result.phase_error <= 0.5
    assert (result.bits == 0) == (result.reason is not None)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NAMES), st.floats(1, 20), st.integers(1, 30), st.integers(0, 5_000))
def test_more_errors_more_leak_or_a_smaller_block_never_give_more_key(
    name: str, errors: float, size: int, leak: int
) -> None:
    counts = scaled(case(name)[0], 4)
    before = length(name, counts, 40_000)
    worse = BlockCounts(counts.n_x, counts.n_z, scaled(counts, errors).m_z, counts.m_x)
    assert length(name, worse, 40_000).bits <= before.bits
    assert length(name, counts, 40_000 + leak).bits == max(0, before.bits - leak)
    assert length(name, scaled(counts, size), 40_000 * size).bits >= before.bits * size


@pytest.mark.parametrize("name", NAMES)
def test_counts_that_the_source_cannot_have_made_give_no_key(name: str) -> None:
    """Only decoys arrive: an attacker who tells intensities apart. The bound would exceed the events there are."""
    result = length(name, BlockCounts((0, 100_000, 0), (0, 100_000, 0), (0, 0, 0), (0, 0, 0)), 0)
    assert result.bits == 0
    assert "intensities" in str(result.reason)


@pytest.mark.parametrize("name", NAMES)
def test_no_errors_seen_is_not_no_phase_errors(name: str) -> None:
    counts = case(name)[0]
    clean = BlockCounts(counts.n_x, counts.n_z, (0, 0, 0), (0, 0, 0))
    assert length(name, clean).phase_error > 0.001


def test_vacuum_events_are_key_only_while_the_error_pattern_is_secret() -> None:
    """An eavesdropper who sent what Bob saw in a vacuum slot learns Alice's bit once she hears whether they differ."""
    noisy = BlockCounts((1_500_000, 500_000, 120_000), (1_500_000, 500_000, 120_000), (9_000, 6_000, 50_000))
    secret, public = (length("Lim2014", noisy, 100_000, errors_public=shown) for shown in (False, True))
    assert secret.vacuum_events == public.vacuum_events > 50_000
    assert secret.unrounded_bits - public.unrounded_bits == pytest.approx(secret.vacuum_events, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_budget_and_costs_are_itemised(name: str) -> None:
    result = length(name, case(name)[0])
    items = result.epsilons
    assert items.parameter_estimation + items.smoothing + items.privacy_amplification == pytest.approx(1e-10)
    assert items.verification == 1e-15
    assert items.total == pytest.approx(1e-10 + 1e-15)
    costs = result.costs
    spent = costs.phase_error + costs.leak + costs.verification + costs.secrecy
    assert result.unrounded_bits == pytest.approx(result.single_photon_events - spent, abs=1e-6)


def test_same_counts_side_by_side() -> None:
    rows = {row.proof: row for row in compare(COUNTS, SOURCE, EpsilonBudget(), 11_757, 128)}
    assert list(rows) == list(NAMES)
    assert all(row.length and row.length.bits > 0 for row in rows.values())
    assert rows["Lim2014"].bits_per_sifted_bit == length("Lim2014", COUNTS).bits / sum(COUNTS.n_x)
    unknown = BlockCounts(COUNTS.n_x, COUNTS.n_z, COUNTS.m_z)
    one_decoy = compare(unknown, SOURCE, EpsilonBudget(), 11_757, 128, proofs=["Rusca2018"])[0]
    assert one_decoy.length is None
    assert "errors of the key basis" in str(one_decoy.reason)


@pytest.mark.parametrize(("bound", "allowed"), [(serfling, 1e-6), (chernoff, 1e-6), (fung, 1.5e-3)])
@pytest.mark.parametrize(("rest", "sample", "wrong"), [(3_000, 600, 90), (20_000, 2_000, 400), (500, 500, 20)])
def test_sampling_bounds_hold_for_the_exact_distribution(
    bound: Sampling, allowed: float, rest: int, sample: int, wrong: int
) -> None:
    """How often so few of `wrong` errors fall into the sample that the bound is broken: epsilon squared, or epsilon."""
    broken = 0.0
    with localcontext(CONTEXT):
        for seen in range(min(sample, wrong) + 1):
            limit = bound(Decimal("1e-3"), Decimal(max(seen, 1)) / sample, Decimal(rest), Decimal(sample))
            if (wrong - seen) / rest > limit:
                broken += hypergeom.pmf(seen, rest + sample, wrong, sample)
    assert broken <= allowed


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 5_000), st.integers(10, 10**6), st.integers(10, 10**6), st.sampled_from([1e-3, 1e-11]))
def test_chernoff_sampling_solves_its_equation(seen: int, rest: int, sample: int, epsilon: float) -> None:
    with localcontext(CONTEXT):
        limit = float(chernoff(exact(epsilon), Decimal(seen) / sample, Decimal(rest), Decimal(sample)))
    expected = (limit * rest + seen) * sample / (rest + sample)
    divergence = expected - seen + (seen * log(seen / expected) if seen else 0.0)
    assert divergence == pytest.approx(2 * log(1 / epsilon), rel=1e-6)


@pytest.mark.parametrize(
    ("intensities", "probabilities"),
    [
        ((0.3, 0.2, 0.1), (0.4, 0.3, 0.3)),
        ((0.5, 0.1, 0.2), (0.4, 0.3, 0.3)),
        ((0.5, 0.2, 0.0), (1.0, 0.0, 0.0)),
        ((0.5, 0.2, 0.0), (0.5, 0.6, -0.1)),
    ],
)
def test_settings_outside_every_proof_are_refused(
    intensities: tuple[float, float, float], probabilities: tuple[float, float, float]
) -> None:
    with pytest.raises(ValueError, match="intensit"):
        SourceSettings(intensities, probabilities)


def test_a_two_decoy_proof_refuses_one_decoy() -> None:
    with pytest.raises(ValueError, match="three intensities"):
        PROOFS["Lim2014"].check(ONE_DECOY)
    PROOFS["Rusca2018"].check(ONE_DECOY)
    PROOFS["Rusca2018"].check(SOURCE)


def test_arithmetic_is_the_same_everywhere() -> None:
    """Golden values: correctly rounded decimals do not depend on the machine, floats may."""
    assert [length(name, case(name)[0]).bits for name in NAMES] == [22_948, 11_955, 17_026, 8_150, 21_316, 10_726]
