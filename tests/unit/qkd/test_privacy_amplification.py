"""Privacy amplification: the FFT gives the matrix product, exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qepa_qkd import privacy_amplification
from qepa_qkd.errors import NoKey
from qepa_qkd.privacy_amplification import ROUNDING_GUARD, error_bound, seed_bits, toeplitz_hash


def direct(bits: np.ndarray, seed: np.ndarray, length: int) -> np.ndarray:
    """The product written out: T[i, j] = seed[i + n - 1 - j]."""
    n = len(bits)
    i, j = np.meshgrid(np.arange(length), np.arange(n), indexing="ij")
    return (seed[i + n - 1 - j].astype(np.int64) @ bits.astype(np.int64) % 2).astype(np.uint8)


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32))
def test_equals_the_direct_product(n: int, length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits, matrix = rng.integers(0, 2, n, dtype=np.uint8), rng.integers(0, 2, seed_bits(n, length), dtype=np.uint8)
    assert np.array_equal(toeplitz_hash(bits, matrix, length), direct(bits, matrix, length))


@pytest.mark.parametrize(
    ("n", "length"),
    [(120_000, 30_000), (1_000_000, 300_000), pytest.param(10_000_000, 3_000_000, marks=pytest.mark.slow)],
)
def test_full_size_agrees_with_direct_rows(n: int, length: int) -> None:
    rng = np.random.default_rng(n)
    bits, matrix = rng.integers(0, 2, n, dtype=np.uint8), rng.integers(0, 2, seed_bits(n, length), dtype=np.uint8)
    out = toeplitz_hash(bits, matrix, length)
    backwards = bits[::-1]
    for row in [0, 1, length - 1, *rng.integers(0, length, 40)]:
        assert out[row] == np.count_nonzero(matrix[row : row + n] & backwards) % 2
    assert abs(int(out.sum()) - length / 2) < 5 * length**0.5


@pytest.mark.parametrize("n", [120_000, 1_000_000])
def test_is_exact_at_full_block_size_and_worst_weight(n: int) -> None:
    length = 1000
    ones = np.ones(n, np.uint8)
    matrix = np.ones(seed_bits(n, length), np.uint8)
    assert np.array_equal(toeplitz_hash(ones, matrix, length), np.full(length, n % 2, np.uint8))
    matrix[n - 1 + 7] = 0  # lies in rows 7 and later, and in them once
    expected = np.where(np.arange(length) < 7, n % 2, (n - 1) % 2)
    assert np.array_equal(toeplitz_hash(ones, matrix, length), expected)


def test_is_linear() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 2, (2, 5000), dtype=np.uint8)
    matrix = rng.integers(0, 2, seed_bits(5000, 700), dtype=np.uint8)
    both = toeplitz_hash(a ^ b, matrix, 700)
    assert np.array_equal(both, toeplitz_hash(a, matrix, 700) ^ toeplitz_hash(b, matrix, 700))


def test_the_proven_error_is_far_below_the_guard() -> None:
    assert error_bound(10_000_000, 10_000_000) < ROUNDING_GUARD / 10_000
    assert error_bound(1_000_000, 300_000) < error_bound(10_000_000, 3_000_000)


def test_the_rounding_guard_refuses_rather_than_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy_amplification, "ROUNDING_GUARD", 1e-18)
    rng = np.random.default_rng(3)
    with pytest.raises(NoKey, match="rounding"):
        toeplitz_hash(rng.integers(0, 2, 999, dtype=np.uint8), rng.integers(0, 2, 1997, dtype=np.uint8), 999)


@pytest.mark.parametrize(("n", "seed", "length"), [(10, 10, 2), (0, 1, 2), (10, 9, 0)])
def test_wrong_sizes_are_refused(n: int, seed: int, length: int) -> None:
    with pytest.raises(ValueError, match="Toeplitz"):
        toeplitz_hash(np.zeros(n, np.uint8), np.zeros(seed, np.uint8), length)
