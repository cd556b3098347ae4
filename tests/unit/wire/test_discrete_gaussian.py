"""The sampler draws from the discrete Gaussian itself: counts against exact probabilities, bits from a fixed seed."""

import math
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from scipy.stats import chi2

from qepa_wire.discrete_gaussian import DiscreteGaussian, isqrt, tail
from qepa_wire.errors import WireError

DRAWS = 60_000
NO_CHANCE = 1e-5  # a p-value below it is no accident; seeds are fixed, so a test that passes once passes always
VARIANCES_Q8 = [1, 64, 256, 300, 9 * 256, 100 * 256 + 77]


class Bits:
    """Uniform bits from a seed, counted."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.drawn = 0

    def __call__(self, n: int) -> int:
        self.drawn += n
        return self._random.getrandbits(n)


def probabilities(noise_q8: int) -> dict[int, float]:
    """P(x) for every x that a test can meet."""
    reach = tail(noise_q8)
    weights = {x: math.exp(-128 * x * x / noise_q8) for x in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


def p_value(counts: Counter[int], expected: dict[int, float]) -> float:
    """Pearson's chi-square; values expected fewer than ten times are taken together."""
    n = counts.total()
    rare = {x for x, p in expected.items() if n * p < 10}
    cells = [(counts[x], n * p) for x, p in expected.items() if x not in rare]
    others = n - sum(count for count, _ in cells)
    rest = n * math.fsum(expected[x] for x in rare)
    if rest >= 10:
        cells.append((others, rest))
    elif others > 10 + 10 * rest:
        return 0.0
    if len(cells) == 1:
        return 1.0
    statistic = math.fsum((count - mean) ** 2 / mean for count, mean in cells)
    return float(chi2.sf(statistic, len(cells) - 1))


def draw(noise_q8: int, seed: int) -> list[int]:
    gaussian = DiscreteGaussian(noise_q8, Bits(seed))
    return [gaussian.sample() for _ in range(DRAWS)]


@pytest.mark.parametrize("noise_q8", VARIANCES_Q8)
def test_draws_have_the_exact_probabilities(noise_q8):
    assert p_value(Counter(draw(noise_q8, noise_q8)), probabilities(noise_q8)) > NO_CHANCE


def test_the_same_test_tells_a_rounded_gaussian_apart():
    """At this variance rounding a continuous draw is another distribution, which is what the test has to see."""
    source = random.Random(1)
    rounded = Counter(round(source.gauss(0, 0.5)) for _ in range(DRAWS))
    assert p_value(rounded, probabilities(64)) < NO_CHANCE


def test_draws_do_not_depend_on_the_one_before():
    """Signs of neighbours that are not 0 agree as often as not."""
    signs = [value > 0 for value in draw(9 * 256, 7) if value]
    agreeing = sum(a == b for a, b in pairwise(signs))
    n = len(signs) - 1
    assert abs(agreeing - n / 2) < 5 * math.sqrt(n) / 2


@pytest.mark.parametrize("noise_q8", [*VARIANCES_Q8, 2**24, 2**32 - 1])
def test_a_draw_costs_a_hundred_bits_or_so(noise_q8):
    """80 to 105 bits a draw on average (2000 draws each), whatever the variance."""
    bits = Bits(3)
    gaussian = DiscreteGaussian(noise_q8, bits)
    values = [gaussian.sample() for _ in range(2000)]
    assert 64 < bits.drawn / len(values) < 128
    variance = sum(value * value for value in values) / len(values)
    # the variance of a discrete Gaussian is at most its parameter, and all but equal to it from about 1 on
    assert variance < noise_q8 / 256 * 1.2
    if noise_q8 >= 256:
        assert variance > noise_q8 / 256 * 0.8


@pytest.mark.parametrize("noise_q8", [1, 64, 256, 2304, 25600])
def test_the_tail_bound_holds(noise_q8):
    """P(|X| >= T), summed exactly enough, is at most 2^-64."""
    reach = tail(noise_q8)
    weight = lambda x: math.exp(-128 * x * x / noise_q8)  # noqa: E731
    total = 1 + 2 * math.fsum(weight(x) for x in range(1, reach))
    beyond = 2 * math.fsum(weight(x) for x in range(reach, reach + 200))
    assert beyond / total <= 2**-64


def test_noise_of_no_variance_has_no_tail():
    assert tail(0) == 0


@pytest.mark.parametrize("noise_q8", [0, -1, 2**32])
def test_variances_without_sense_are_refused(noise_q8):
    no_bits: Callable[[int], int] = lambda _: 0  # noqa: E731
    with pytest.raises(WireError) as refused:
        DiscreteGaussian(noise_q8, no_bits)
    assert refused.value.reason == "quantizer"


@pytest.mark.parametrize("value", [*range(70), 2**31 - 1, 2**31, 10**18, 10**18 - 1, 2**64 - 1])
def test_isqrt_is_the_floor(value):
    assert isqrt(value) == math.isqrt(value)
