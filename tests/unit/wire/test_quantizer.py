"""Quantizer laws: half a step at most, unbiased where stochastic, no setting under which a sum could wrap."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qepa_wire.discrete_gaussian import tail
from qepa_wire.errors import WireError
from qepa_wire.quantizer import STOCHASTIC, Quantizer, clip_l2

bounds = st.integers(1, 2**32 - 1)
values = st.integers(-(2**40), 2**40)


def exact(bound: int, q_max: int, value: int) -> Fraction:
    return Fraction(max(-bound, min(bound, value)) * q_max, bound)


@given(bounds, st.integers(1, 2**31 - 1), values)
def test_nearest_is_within_half_a_step_and_breaks_ties_to_even(bound, q_max, value):
    word = Quantizer(bound, q_max, 1).quantize(value)
    error = abs(word - exact(bound, q_max, value))
    assert error <= Fraction(1, 2)
    assert error < Fraction(1, 2) or word % 2 == 0
    assert abs(word) <= q_max


@given(bounds, st.integers(1, 2**31 - 1), values)
def test_nearest_is_odd_and_monotonic(bound, q_max, value):
    quantize = Quantizer(bound, q_max, 1).quantize
    assert quantize(-value) == -quantize(value)
    assert quantize(value) <= quantize(value + 1)


@given(bounds, st.integers(1, 2**31 - 1), values)
def test_stochastic_expectation_is_exact_to_2_to_the_minus_64(bound, q_max, value):
    """The word falls in steps of one as the 64 bits r rise, so bisection over r gives P(up) exactly."""
    bits = 0
    quantizer = Quantizer(bound, q_max, 1, STOCHASTIC, lambda _: bits)
    low = exact(bound, q_max, value).__floor__()
    ups, end = 0, 2**64  # r below ``ups`` rounds up, r from ``end`` on rounds down
    while ups < end:
        bits = (ups + end) // 2
        word = quantizer.quantize(value)
        assert word in (low, low + 1)
        assert abs(word) <= q_max
        if word > low:
            ups = bits + 1
        else:
            end = bits
    bias = low + Fraction(ups, 2**64) - exact(bound, q_max, value)
    assert 0 <= bias < Fraction(1, 2**64)


def test_stochastic_asks_for_64_bits_each_time():
    asked = []
    quantizer = Quantizer(3, 1, 1, STOCHASTIC, lambda n: asked.append(n) or 0)
    assert [quantizer.quantize(1), quantizer.quantize(-1)] == [1, 0]
    assert asked == [64, 64]


@given(st.integers(1, 2**20), st.integers(1, 2**31 - 1))
def test_a_sum_that_could_wrap_is_refused_with_the_arithmetic(n_max, q_max):
    if n_max * q_max < 2**31:
        assert abs(n_max * Quantizer(5, q_max, n_max).quantize(-9)) < 2**31
        return
    with pytest.raises(WireError) as refused:
        Quantizer(5, q_max, n_max)
    assert refused.value.reason == "quantizer"
    assert f"{n_max} * {q_max} = {n_max * q_max} is not below 2^31 = {2**31}" in str(refused.value)
    advised = int(str(refused.value).rsplit(" ", 1)[1])
    assert n_max * advised < 2**31 <= n_max * (advised + 1)


@given(st.integers(1, 2**16), st.integers(1, 2**20), st.integers(1, 2**32 - 1))
def test_room_is_left_for_the_tail_of_the_noise(n_max, q_max, noise_q8):
    reach = q_max + tail(noise_q8)
    if n_max * reach < 2**31:
        Quantizer(5, q_max, n_max, noise_q8=noise_q8)
        return
    with pytest.raises(WireError, match=f"noise of {tail(noise_q8)}") as refused:
        Quantizer(5, q_max, n_max, noise_q8=noise_q8)
    assert refused.value.reason == "quantizer"


@given(st.lists(st.integers(-(2**31), 2**31), max_size=40), st.integers(0, 2**33))
def test_a_clipped_vector_keeps_its_norm_bound_and_its_direction(values, limit):
    clipped = clip_l2(values, limit)
    square = sum(value * value for value in values)
    assert sum(value * value for value in clipped) <= limit * limit
    if square <= limit * limit:
        assert list(clipped) == values
        return
    for before, after in zip(values, clipped, strict=True):
        assert before * after >= 0
        # towards 0, by less than one and what rounding the norm up costs
        exact_square = Fraction(before * before * limit * limit, square)
        assert after * after <= exact_square
        assert (abs(after) + 2) ** 2 > exact_square


def test_the_limit_itself_is_refused():
    Quantizer(1, 2**31 - 1, 1)
    with pytest.raises(WireError, match="could wrap"):
        Quantizer(1, 2**20, 2**11)


@pytest.mark.parametrize("setting", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1), (1, 1, 1, 2), (1, 1, 1, STOCHASTIC)])
def test_settings_without_sense_are_refused(setting):
    with pytest.raises(WireError) as refused:
        Quantizer(*setting)
    assert refused.value.reason == "quantizer"
