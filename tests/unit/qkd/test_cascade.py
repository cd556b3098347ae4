"""Cascade: ends with identical strings, or verification says that it did not; every parity is counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_qkd.cascade import PASSES, CascadeCorrector, CascadeReference, Ranges, block_sizes
from qepa_qkd.errors import ProtocolError
from qepa_qkd.verification import make_tag


def correct(alice: np.ndarray, bob: np.ndarray, seed: bytes, rate: float) -> tuple[np.ndarray, int, int, int]:
    """Run both sides; returns Bob's result, leak, bits he changed, exchanges."""
    reference, corrector = CascadeReference(alice, seed), CascadeCorrector(bob, seed, rate)
    exchanges = 0
    while (ranges := corrector.request()) is not None:
        corrector.receive(ranges, reference.answer(ranges))
        exchanges += 1
    assert reference.leak_bits == corrector.leak_bits
    return corrector.bits, corrector.leak_bits, corrector.corrected, exchanges


def strings(n: int, rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    alice = rng.integers(0, 2, n, dtype=np.uint8)
    return alice, alice ^ (rng.random(n) < rate).astype(np.uint8)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 3000), st.floats(0, 0.12), st.integers(0, 2**32), st.floats(0.001, 0.2))
def test_ends_identical_or_verification_says_so(n: int, rate: float, seed: int, assumed: float) -> None:
    alice, bob = strings(n, rate, seed)
    corrected, leak, _, exchanges = correct(alice, bob, seed.to_bytes(8, "little"), assumed)
    tag = make_tag(bytes(range(16)), alice)
    assert tag.matches(corrected) == np.array_equal(alice, corrected)
    assert leak >= PASSES
    assert exchanges < 40 * (1 + int((alice != bob).sum()))


@pytest.mark.parametrize("rate", [0.0, 0.0125, 0.05])
def test_corrects_a_link_block_at_close_to_the_shannon_limit(rate: float) -> None:
    alice, bob = strings(60_000, rate, 5)
    corrected, leak, changed, _ = correct(alice, bob, b"seed", max(rate, 1e-3))
    assert np.array_equal(alice, corrected)
    assert changed == int((alice != bob).sum())
    limit = 60_000 * -(rate * np.log2(rate) + (1 - rate) * np.log2(1 - rate)) if rate else 0
    assert limit < leak < 1.1 * limit + 200


def test_a_misjudged_error_rate_costs_leak_not_correctness() -> None:
    alice, bob = strings(20_000, 0.04, 8)
    for assumed in (0.005, 0.04, 0.11):
        assert np.array_equal(correct(alice, bob, b"s", assumed)[0], alice)


@pytest.mark.parametrize(
    ("pass_index", "start", "end"), [(PASSES, 0, 5), (0, 5, 5), (0, 6, 5), (0, -1, 5), (0, 0, 101)]
)
def test_impossible_questions_are_refused(pass_index: int, start: int, end: int) -> None:
    reference = CascadeReference(np.zeros(100, np.uint8), b"s")
    with pytest.raises(ProtocolError):
        reference.answer(Ranges(pass_index, np.array([start]), np.array([end])))


def test_asking_for_everything_is_refused() -> None:
    reference = CascadeReference(np.zeros(100, np.uint8), b"s")
    every = np.arange(100)
    everything = Ranges(0, every, every + 1)
    for _ in range(10):
        reference.answer(everything)
    with pytest.raises(ProtocolError, match="far more"):
        reference.answer(everything)


def test_block_sizes_grow_and_stay_inside_the_block() -> None:
    for n in (2, 100, 5_000, 120_000):
        sizes = block_sizes(n, 0.0125)
        assert len(sizes) == PASSES
        assert max(sizes) <= (n + 1) // 2
        assert list(sizes) == sorted(sizes)
