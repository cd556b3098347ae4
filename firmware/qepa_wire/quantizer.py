"""From numbers to LightHE words: clip to +-bound, scale, round; refuse what could overflow a sum."""

from .discrete_gaussian import isqrt, tail
from .errors import WireError

try:
    from collections.abc import Callable, Sequence
except ImportError:  # MicroPython: the annotation stays a string
    pass

NEAREST = 0  # ties to even
STOCHASTIC = 1  # up with probability of the fraction: unbiased

SUM_LIMIT = 1 << 31


def clip_l2(values: "Sequence[int]", limit: int) -> "Sequence[int]":
    """Return ``values``, shortened so that their Euclidean norm is at most ``limit``; rounding goes towards 0."""
    square = 0
    for value in values:
        square += value * value
    if square <= limit * limit:
        return values
    norm = isqrt(square - 1) + 1  # at least the true norm
    return [value * limit // norm if value > 0 else -(-value * limit // norm) for value in values]


class Quantizer:
    """Maps integers in [-bound, bound] onto [-q_max, q_max].

    ``random_bits(n)`` returns n uniform bits as an int and is needed for stochastic rounding only. ``noise_q8`` is the
    variance of the noise that is added to each word afterwards, times 256.
    Raises WireError("quantizer") for settings under which a sum of ``n_max`` vectors could wrap.
    """

    def __init__(
        self,
        bound: int,
        q_max: int,
        n_max: int,
        rounding: int = NEAREST,
        random_bits: "Callable[[int], int] | None" = None,
        noise_q8: int = 0,
    ) -> None:
        if bound < 1 or q_max < 1 or n_max < 1:
            raise WireError("quantizer", "bound, q_max and n_max must be at least 1")
        noise = tail(noise_q8)
        if n_max * (q_max + noise) >= SUM_LIMIT:
            raise WireError(
                "quantizer",
                "n_max * %s = %d * %d = %d is not below 2^31 = %d: a sum could wrap; lower q_max to %d"
                % (
                    "(q_max + noise of %d)" % noise if noise else "q_max",
                    n_max,
                    q_max + noise,
                    n_max * (q_max + noise),
                    SUM_LIMIT,
                    (SUM_LIMIT - 1) // n_max - noise,
                ),
            )
        if rounding not in (NEAREST, STOCHASTIC):
            raise WireError("quantizer", "unknown rounding %d" % rounding)
        if rounding == STOCHASTIC and random_bits is None:
            raise WireError("quantizer", "stochastic rounding needs a source of random bits")
        self.bound = bound
        self.q_max = q_max
        self.n_max = n_max
        self.rounding = rounding
        self.random_bits = random_bits

    def quantize(self, value: int) -> int:
        """Return the signed word for the integer ``value``; out of bounds is clipped."""
        bound = self.bound
        if value > bound:
            value = bound
        elif value < -bound:
            value = -bound
        whole, rest = divmod(value * self.q_max, bound)
        if self.rounding == STOCHASTIC and self.random_bits is not None:
            # multiply-shift: the bias against a uniform draw below bound is under bound / 2^64
            draw = (self.random_bits(64) * bound) >> 64
            return whole + (1 if draw < rest else 0)
        twice = 2 * rest
        if twice > bound or (twice == bound and whole & 1):
            whole += 1
        return whole
