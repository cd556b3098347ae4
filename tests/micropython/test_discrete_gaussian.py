"""The sampler on real MicroPython: the same draws from the same bits as on CPython, and as often as they should be."""

import json
import math
from collections import Counter

from qepa_wire.discrete_gaussian import DiscreteGaussian

# A generator both sides can run: 32-bit xorshift (Marsaglia 2003), a byte or less of it at a time.
BITS = """
class Bits:
    def __init__(self, seed):
        self.state = seed

    def __call__(self, n):
        value = 0
        for _ in range((n + 7) // 8):
            x = self.state
            x ^= (x << 13) & 0xFFFFFFFF
            x ^= x >> 17
            x ^= (x << 5) & 0xFFFFFFFF
            self.state = x
            value = value << 8 | (x >> 12) & 0xFF
        return value & ((1 << n) - 1)
"""
RUN = """
import json
from qepa_wire.discrete_gaussian import DiscreteGaussian
drawn = {}
for noise_q8 in (64, 2304, 4294967295):
    gaussian = DiscreteGaussian(noise_q8, Bits(noise_q8 ^ 0x5EED))
    drawn[str(noise_q8)] = [gaussian.sample() for _ in range(1500)]
print(json.dumps(drawn))
"""


def test_micropython_draws_what_cpython_draws_and_as_often_as_it_should(micropython_run):
    drawn = json.loads(micropython_run(BITS + RUN))
    space: dict = {}
    exec(BITS, space)  # noqa: S102  the same source on both sides
    for name, values in drawn.items():
        noise_q8 = int(name)
        gaussian = DiscreteGaussian(noise_q8, space["Bits"](noise_q8 ^ 0x5EED))
        assert values == [gaussian.sample() for _ in values]
    zeros = Counter(drawn["2304"])[0]
    expected = len(drawn["2304"]) / math.fsum(math.exp(-x * x / 18) for x in range(-60, 61))
    assert abs(zeros - expected) < 5 * math.sqrt(expected)
