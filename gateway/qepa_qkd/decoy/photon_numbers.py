"""Decoy-state estimates: how many events of a basis came from vacuum and from one photon, and their errors.

Given the photon number of a pulse, its intensity is an independent draw with known odds, whatever happens in the
channel. So Hoeffding's inequality ties the counts of each intensity to sums over photon numbers, and combinations of
counts bound single terms of these sums.
"""

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from math import factorial

from qepa_qkd.decoy.quantities import BlockCounts, SourceSettings
from qepa_qkd.decoy.statistics import CONTEXT, TWO, ZERO, exact, exponential, hoeffding


@dataclass(frozen=True, slots=True)
class PhotonBounds:
    """Vacuum and single-photon events in the key basis (lower bounds), singles in the test basis, their errors."""

    vacuum_x: Decimal
    single_x: Decimal
    single_z: Decimal
    errors_z: Decimal
    """Upper bound."""
    possible: bool
    """False when there would be more such events than events: somebody tells intensities apart."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Constants of the source: intensities, e^mu / p of each, tau0 and tau1."""

    mu: tuple[Decimal, ...]
    scale: tuple[Decimal, ...]
    tau0: Decimal
    tau1: Decimal


@cache
def _source(source: SourceSettings, intensities: int) -> _Source:
    """Take the first `intensities` of the source; pulses of others are left out, so probabilities are of the rest."""
    mu = tuple(exact(m) for m in source.intensities[:intensities])
    weight = tuple(exact(p) for p in source.probabilities[:intensities])
    total = CONTEXT.create_decimal(sum(weight))
    p = tuple(CONTEXT.divide(w, total) for w in weight)
    scale = tuple(CONTEXT.divide(exponential(m), q) for m, q in zip(source.intensities, p, strict=False))
    tau0, tau1 = (
        sum((CONTEXT.divide(m**n, s * factorial(n)) for m, s in zip(mu, scale, strict=True)), ZERO) for n in (0, 1)
    )
    return _Source(mu, scale, tau0, tau1)


class _Scaled:
    """n-minus and n-plus of each intensity: e^mu / p (n_mu -+ Hoeffding), never below 0."""

    def __init__(self, events: tuple[int, ...], source: _Source, epsilon: Decimal) -> None:
        self.total = Decimal(sum(events))
        width = hoeffding(self.total, epsilon)
        pairs = list(zip(source.scale, events, strict=True))
        self.low = [scale * max(ZERO, n - width) for scale, n in pairs]
        self.high = [scale * (n + width) for scale, n in pairs]


def two_decoys(counts: BlockCounts, source: SourceSettings, epsilon: Decimal) -> PhotonBounds:
    """C. C. W. Lim et al., Phys. Rev. A 89, 022307 (2014), equations (2), (3) and (4)."""
    s = _source(source, 3)
    mu1, mu2, mu3 = s.mu
    vacuum, single, possible = [], [], True
    for events in (counts.n_x, counts.n_z):
        n = _Scaled(events, s, epsilon)
        s0 = max(ZERO, s.tau0 * (mu2 * n.low[2] - mu3 * n.high[1]) / (mu2 - mu3))
        rest = (mu2**2 - mu3**2) / mu1**2 * (n.high[0] - s0 / s.tau0)
        s1 = s.tau1 * mu1 * (n.low[1] - n.high[2] - rest) / (mu1 * (mu2 - mu3) - mu2**2 + mu3**2)
        vacuum.append(s0)
        single.append(max(ZERO, s1))
        possible = possible and s0 + single[-1] <= n.total
    m = _Scaled(counts.m_z, s, epsilon)
    errors = s.tau1 * (m.high[1] - m.low[2]) / (mu2 - mu3)
    return PhotonBounds(vacuum[0], single[0], single[1], errors, possible)


def one_decoy(counts: BlockCounts, source: SourceSettings, epsilon: Decimal) -> PhotonBounds:
    """D. Rusca et al., Appl. Phys. Lett. 112, 171104 (2018), appendix: vacuum from the errors it makes half the time.

    Uses the two strongest intensities; where a weakest one is sent too, its events count as known to the eavesdropper.
    """
    if counts.m_x is None:
        raise ValueError("a one-decoy proof needs the errors of the key basis by intensity")
    s = _source(source, 2)
    mu1, mu2 = s.mu
    vacuum, single, possible = [], [], True
    for events, wrong in ((counts.n_x, counts.m_x), (counts.n_z, counts.m_z)):
        n, m = _Scaled(events[:2], s, epsilon), _Scaled(wrong[:2], s, epsilon)
        s0_low = max(ZERO, s.tau0 * (mu1 * n.low[1] - mu2 * n.high[0]) / (mu1 - mu2))
        s0_high = min(n.total, TWO * (s.tau0 * m.high[1] + hoeffding(n.total, epsilon)))
        bracket = n.low[1] - (mu2 / mu1) ** 2 * n.high[0] - (mu1**2 - mu2**2) / mu1**2 * s0_high / s.tau0
        vacuum.append(s0_low)
        single.append(max(ZERO, s.tau1 * mu1 / (mu2 * (mu1 - mu2)) * bracket))
        possible = possible and single[-1] <= n.total and s0_low <= s0_high
    m = _Scaled(counts.m_z[:2], s, epsilon)
    errors = s.tau1 * (m.high[0] - m.low[1]) / (mu1 - mu2)
    return PhotonBounds(vacuum[0], single[0], single[1], errors, possible)
