"""Statistics of the proofs, in decimal arithmetic.

Both ends must find the same whole number of bits, on whatever machine. Floats can't promise that: exp and log differ
in the last place between C libraries. `decimal` specifies exp, ln and sqrt as correctly rounded, so 40 digits of it
are the same everywhere; the rounding error of a key length stays below 10^-25 bits.
"""

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cache

CONTEXT = Context(prec=40, rounding=ROUND_HALF_EVEN, Emin=-9999, Emax=9999)
ZERO, HALF, ONE, TWO = Decimal(0), Decimal("0.5"), Decimal(1), Decimal(2)

with localcontext(CONTEXT):
    _LN2 = TWO.ln()

Sampling = Callable[[Decimal, Decimal, Decimal, Decimal], Decimal]
"""(epsilon, rate in the sample, size of the rest, size of the sample) -> upper bound on the rate in the rest."""


@cache
def exact(value: float) -> Decimal:
    """A float or int as the decimal it is."""
    return Decimal(value)


@cache
def exponential(value: float) -> Decimal:
    """exp(value) to 40 digits."""
    return exact(value).exp(CONTEXT)


@cache
def log_inverse(epsilon: Decimal) -> Decimal:
    """ln(1 / epsilon)."""
    return -epsilon.ln(CONTEXT)


def log2(value: Decimal) -> Decimal:
    """Logarithm to base 2."""
    return value.ln() / _LN2


def binary_entropy(p: Decimal) -> Decimal:
    """h(p) in bits."""
    return ZERO if p <= 0 or p >= 1 else -p * log2(p) - (1 - p) * log2(1 - p)


def hoeffding(n: Decimal, epsilon: Decimal) -> Decimal:
    """How far a sum of `n` independent values in [0, 1] lies from its mean, one-sided, except with `epsilon`.

    W. Hoeffding, J. Am. Stat. Assoc. 58, 13 (1963), theorem 2: sqrt(n / 2 ln(1 / epsilon)).
    """
    return (n / 2 * log_inverse(epsilon)).sqrt()


def fung(epsilon: Decimal, rate: Decimal, rest: Decimal, sample: Decimal) -> Decimal:
    """Random sampling as in C.-H. F. Fung, X. Ma, H. F. Chau, Phys. Rev. A 81, 012318 (2010): `gamma` of Lim et al.

    Fails with about `epsilon`, measured against the exact distribution a little more (`test_decoy.py`); smoothing an
    entropy by epsilon wants epsilon squared, which the two bounds below keep.
    """
    if rate >= 1:
        return ONE
    spread = (rest + sample) * (1 - rate) * rate / (rest * sample)
    # With c = rest, d = sample: sqrt(spread / ln 2 * log2((c + d) / (c d (1 - b) b) / epsilon^2)), written with ln.
    inner = ((rest + sample) / (rest * sample * (1 - rate) * rate)).ln() + 2 * log_inverse(epsilon)
    return rate + (spread * max(ZERO, inner)).sqrt() / _LN2


def serfling(epsilon: Decimal, rate: Decimal, rest: Decimal, sample: Decimal) -> Decimal:
    """Random sampling after R. J. Serfling, Ann. Stat. 2, 39 (1974), corollary 1.1; fails with epsilon squared.

    The form of M. Tomamichel et al., Nat. Commun. 3, 634 (2012).
    """
    return rate + ((rest + sample) * (sample + 1) / (rest * sample * sample) * log_inverse(epsilon)).sqrt()


def chernoff(epsilon: Decimal, rate: Decimal, rest: Decimal, sample: Decimal) -> Decimal:
    """Random sampling by Chernoff's bound, closer than Serfling's where errors are rare; fails with epsilon squared.

    Drawing without replacement deviates no more than with it (Hoeffding 1963, section 6). With it, `sample` draws at
    rate p show v errors or fewer with at most exp(-d), d = v ln(v / l) + l - v, l = p sample > v: the divergence of
    binomials is at least that of Poissonians, because x ln(x / y) >= x - y. So l at which d = 2 ln(1 / epsilon) bounds
    p, and the rest holds at most l / sample (rest + sample) - v errors. As a rate that shrinks with either size and
    grows with v, so bounds may stand in for v and the sizes.
    """
    seen, wanted = rate * sample, 2 * log_inverse(epsilon)
    expected = seen + wanted + (wanted * (wanted + 2 * seen)).sqrt()
    # d is convex in l and at the start already larger than wanted: Newton's steps stay above the root.
    for _ in range(8):
        divergence = expected - seen + (seen * (seen / expected).ln() if seen else ZERO)
        expected -= (divergence - wanted) / (1 - seen / expected)
    return expected / sample + (expected - seen) / rest
