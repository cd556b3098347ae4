"""Exact samples of the discrete Gaussian, in integers only.

N_Z(0, s2) gives the integer x with probability proportional to exp(-x^2 / (2 s2)): Canonne, Kamath and Steinke, The
Discrete Gaussian for Differential Privacy, NeurIPS 2020 (arXiv:2004.00010), Algorithms 1 to 3. No number here is
rounded, so no floating-point artefact tells a value (Mironov 2012). A draw takes 80 to 105 random bits on average
(tests/unit/wire/test_discrete_gaussian.py); how long it takes depends on what is drawn.

Variances are given as ``noise_q8``: s2 times 256, in words squared.
"""

from .errors import WireError

try:
    from collections.abc import Callable
except ImportError:  # MicroPython: the annotation stays a string
    pass

Q8 = 256
MAX_NOISE_Q8 = 0xFFFFFFFF
# 130 ln 2 = 90.10913..., rounded up: see tail()
_TAIL_NUMERATOR, _TAIL_DENOMINATOR = 9011, 100


def isqrt(value: int) -> int:
    """Floor of the square root of a non-negative int (MicroPython's math has none), by Newton's method from above."""
    if value < 2:
        return value
    root, rest = 1, value
    while rest:
        rest >>= 2
        root <<= 1
    while True:
        better = (root + value // root) >> 1
        if better >= root:
            return root
        root = better


def tail(noise_q8: int) -> int:
    """Return the least T that the bound gives with P(|X| >= T) <= 2^-64 for X from N_Z(0, noise_q8 / 256).

    X is subgaussian, as the cited paper shows: completing the square, E exp(u X) is exp(u^2 s2 / 2) times a sum over
    the integers of a Gaussian centred on u s2, over the same centred on 0, which is the largest. So P(|X| >= T) is at
    most 2 exp(-T^2 / (2 s2)), and that is 2^-64 at T^2 = 130 ln 2 s2.
    """
    if not noise_q8:
        return 0
    return isqrt((_TAIL_NUMERATOR * noise_q8 - 1) // (_TAIL_DENOMINATOR * Q8)) + 1


class DiscreteGaussian:
    """Draws from N_Z(0, noise_q8 / 256); ``random_bits(n)`` returns n uniform bits as an int.

    Raises WireError("quantizer") for a variance that is not in 1 to 2^32 - 1.
    """

    def __init__(self, noise_q8: int, random_bits: "Callable[[int], int]") -> None:
        if not 0 < noise_q8 <= MAX_NOISE_Q8:
            raise WireError("quantizer", "a noise variance of %d / 256" % noise_q8)
        self._bits = random_bits
        self._s2 = noise_q8  # times Q8
        self._t = isqrt(noise_q8 // Q8) + 1  # floor of the standard deviation, plus 1
        width = 0
        while self._t - 1 >> width:
            width += 1
        self._width = width

    def sample(self) -> int:
        """Return one draw (Algorithm 3): a discrete Laplace draw y, kept with P = exp(-(|y| - s2 / t)^2 / (2 s2))."""
        centre, step = self._s2, Q8 * self._t
        divisor = 2 * self._s2 * self._t * step
        while True:
            y = self._laplace()
            off = abs(y) * step - centre
            # (|y| - s2 / t)^2 / (2 s2), both sides times (256 t)^2
            if self._bernoulli_exp(off * off, divisor):
                return y

    def _laplace(self) -> int:
        """Discrete Laplace with scale t: P(y) proportional to exp(-|y| / t) (Algorithm 2 with s = 1)."""
        t = self._t
        while True:
            u = self._below(t)
            if u and not self._bernoulli_exp(u, t):
                continue
            v = 0
            while self._bernoulli_exp(1, 1):
                v += 1
            magnitude = u + t * v
            if self._bits(1):
                if magnitude:
                    return -magnitude
            else:
                return magnitude

    def _below(self, n: int) -> int:
        """Uniform in 0 to n - 1, by rejection; n is t."""
        while True:
            draw = self._bits(self._width) if self._width else 0
            if draw < n:
                return draw

    def _bernoulli_exp(self, a: int, b: int) -> bool:
        """True with probability exp(-a / b) (Algorithm 1), for a >= 0, b > 0."""
        while a > b:
            if not self._bernoulli_exp(1, 1):
                return False
            a -= b
        k = 1
        while self._bernoulli(a, b * k):
            k += 1
        return k % 2 == 1

    def _bernoulli(self, a: int, b: int) -> bool:
        """True with probability a / b <= 1: a uniform number below a / b, both written out a byte at a time."""
        if a >= b:
            return True
        while a:
            digit, a = divmod(a << 8, b)
            draw = self._bits(8)
            if draw != digit:
                return draw < digit
        return False
