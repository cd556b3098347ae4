"""From numbers to LightHE words: clip to +-bound, scale, round; refuse what could overflow a sum."""

from .errors import WireError

try:
    from collections.abc import Callable
except ImportError:  # MicroPython: the annotation stays a string
    pass

NEAREST = 0  # ties to even
STOCHASTIC = 1  # up with probability of the fraction: unbiased

SUM_LIMIT = 1 << 31


class Quantizer:
    """Maps integers in [-bound, bound] onto [-q_max, q_max].

    ``random_bits(n)`` returns n uniform bits as an int and is needed for stochastic rounding only.
    Raises WireError("quantizer") for settings under which a sum of ``n_max`` vectors could wrap.
    """

    def __init__(
        self,
        bound: int,
        q_max: int,
        n_max: int,
        rounding: int = NEAREST,
        random_bits: "Callable[[int], int] | None" = None,
    ) -> None:
        if bound < 1 or q_max < 1 or n_max < 1:
            raise WireError("quantizer", "bound, q_max and n_max must be at least 1")
        if n_max * q_max >= SUM_LIMIT:
            raise WireError(
                "quantizer",
                "n_max * q_max = %d * %d = %d is not below 2^31 = %d: a sum could wrap; lower q_max to %d"
                % (n_max, q_max, n_max * q_max, SUM_LIMIT, (SUM_LIMIT - 1) // n_max),
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
