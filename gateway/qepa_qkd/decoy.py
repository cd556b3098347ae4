"""How many secret bits a block holds: finite-key decoy-state bounds behind a pluggable proof.

`Lim2014` follows C. C. W. Lim, M. Curty, N. Walenta, F. Xu, H. Zbinden, "Concise security bounds for practical
decoy-state quantum key distribution", Phys. Rev. A 89, 022307 (2014), equations (1) to (5). Key comes from basis X,
basis Z estimates the phase error. The proof assumes that basis and intensity choices are independent of the channel,
that phases are random and that detection efficiency does not depend on the basis.
"""

from dataclasses import dataclass
from math import ceil, exp, factorial, floor, inf, log, log2, sqrt
from typing import ClassVar, Protocol


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Mean photon numbers mu1 > mu2 + mu3, mu2 > mu3 >= 0 (signal, decoy, weakest) and how often each is sent."""

    intensities: tuple[float, float, float]
    probabilities: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Refuse settings for which the bounds of Lim et al. do not hold."""
        mu1, mu2, mu3 = self.intensities
        if not (mu1 > mu2 + mu3 and mu2 > mu3 >= 0):
            raise ValueError("intensities need mu1 > mu2 + mu3 and mu2 > mu3 >= 0")
        if min(self.probabilities) <= 0 or abs(sum(self.probabilities) - 1) > 1e-9:
            raise ValueError("intensity probabilities are positive and sum to 1")


@dataclass(frozen=True, slots=True)
class BlockCounts:
    """What was counted in one block, by intensity: sifted X bits, sifted Z bits, errors among the Z bits."""

    n_x: tuple[int, int, int]
    n_z: tuple[int, int, int]
    m_z: tuple[int, int, int]

    @property
    def qber_z(self) -> float:
        """Error rate of the test basis over all intensities; 0.5 when nothing was counted."""
        total = sum(self.n_z)
        return sum(self.m_z) / total if total else 0.5


@dataclass(frozen=True, slots=True)
class EpsilonBudget:
    """Failure probabilities allowed to one block: the key is `correctness + secrecy`-secure."""

    correctness: float = 1e-15
    secrecy: float = 1e-10


@dataclass(frozen=True, slots=True)
class KeyLength:
    """Result of a proof: `bits` that may be kept (0 is no key) and the bounds that led there, for the passport."""

    bits: int
    vacuum_events: float
    single_photon_events: float
    phase_error: float


class KeyLengthProof(Protocol):
    """A security proof as the link uses it: pure, deterministic, same answer at both ends."""

    name: ClassVar[str]

    def key_length(
        self,
        counts: BlockCounts,
        source: SourceSettings,
        epsilon: EpsilonBudget,
        leak_bits: int,
        verification_bits: int,
    ) -> KeyLength:
        """Return how many bits are secret after `leak_bits` of error correction and `verification_bits` of hash."""
        ...


class Lim2014:
    """Two decoys, Hoeffding's inequality for the counts, 21 error terms."""

    name: ClassVar[str] = "Lim2014"

    def key_length(
        self,
        counts: BlockCounts,
        source: SourceSettings,
        epsilon: EpsilonBudget,
        leak_bits: int,
        verification_bits: int,
    ) -> KeyLength:
        """Equation (1). The hash seen on the wire is charged instead of log2(2/eps_cor) where it is longer."""
        s_x0, s_x1 = self._vacuum_and_single(counts.n_x, source, epsilon.secrecy)
        s_z0, s_z1 = self._vacuum_and_single(counts.n_z, source, epsilon.secrecy)
        if s_x0 + s_x1 > sum(counts.n_x) or s_z0 + s_z1 > sum(counts.n_z):
            # More events of these kinds than events at all: such counts do not come from this source, so somebody
            # tells intensities apart and nothing the bounds say can be believed.
            return KeyLength(0, s_x0, s_x1, 0.5)
        phase_error = self._phase_error(counts, source, epsilon.secrecy, s_x1, s_z1)
        if phase_error >= 0.5:
            return KeyLength(0, s_x0, s_x1, 0.5)
        bits = (
            s_x0
            + s_x1 * (1 - _binary_entropy(phase_error))
            - leak_bits
            - 6 * log2(21 / epsilon.secrecy)
            - max(verification_bits, ceil(log2(2 / epsilon.correctness)))
        )
        return KeyLength(max(0, floor(bits)), s_x0, s_x1, phase_error)

    @staticmethod
    def _vacuum_and_single(
        events: tuple[int, int, int], source: SourceSettings, eps_secrecy: float
    ) -> tuple[float, float]:
        """Lower bounds on the events of one basis that came from vacuum, equation (2), and from one photon, (3)."""
        mu1, mu2, mu3 = source.intensities
        tau0, tau1 = _tau(0, source), _tau(1, source)
        low, high = _bounds(events, source, eps_secrecy)
        vacuum = max(0.0, tau0 * (mu2 * low[2] - mu3 * high[1]) / (mu2 - mu3))
        single = (
            tau1
            * mu1
            * (low[1] - high[2] - (mu2**2 - mu3**2) / mu1**2 * (high[0] - vacuum / tau0))
            / (mu1 * (mu2 - mu3) - mu2**2 + mu3**2)
        )
        return vacuum, max(0.0, single)

    @staticmethod
    def _phase_error(
        counts: BlockCounts, source: SourceSettings, eps_secrecy: float, s_x1: float, s_z1: float
    ) -> float:
        """Equations (4) and (5): single-photon errors seen in Z, carried over to X by random sampling."""
        if s_x1 < 1 or s_z1 < 1:
            return 0.5
        _, mu2, mu3 = source.intensities
        low, high = _bounds(counts.m_z, source, eps_secrecy)
        errors = _tau(1, source) * (high[1] - low[2]) / (mu2 - mu3)
        # An error rate of exactly 0 has no logarithm in gamma; one error is the honest smallest value above it.
        rate = max(errors, 1.0) / s_z1
        if rate >= 0.5:
            return 0.5
        return min(0.5, rate + _gamma(eps_secrecy, rate, s_z1, s_x1))


PROOFS: dict[str, KeyLengthProof] = {Lim2014.name: Lim2014()}
"""Proofs by the name that configurations and passports use."""


def _tau(photons: int, source: SourceSettings) -> float:
    """Probability that a pulse holds `photons` photons, whatever its intensity."""
    return sum(
        exp(-mu) * mu**photons * p / factorial(photons)
        for mu, p in zip(source.intensities, source.probabilities, strict=True)
    )


def _bounds(
    events: tuple[int, int, int], source: SourceSettings, eps_secrecy: float
) -> tuple[list[float], list[float]]:
    """n-minus and n-plus of each intensity: e^mu / p (n_mu -+ sqrt(n / 2 ln(21 / eps))), never below 0."""
    width = sqrt(sum(events) / 2 * log(21 / eps_secrecy))
    scales = [exp(mu) / p for mu, p in zip(source.intensities, source.probabilities, strict=True)]
    low = [scale * max(0.0, n - width) for scale, n in zip(scales, events, strict=True)]
    high = [scale * (n + width) for scale, n in zip(scales, events, strict=True)]
    return low, high


def _gamma(a: float, b: float, c: float, d: float) -> float:
    """Deviation of a rate `b` sampled on `c` events from that on `d` others, except with probability ~a."""
    if not 0 < b < 1:
        return inf
    spread = (c + d) * (1 - b) * b / (c * d * log(2))
    return sqrt(spread * max(0.0, log2((c + d) / (c * d * (1 - b) * b) * 21**2 / a**2)))


def _binary_entropy(p: float) -> float:
    return 0.0 if p <= 0 or p >= 1 else -p * log2(p) - (1 - p) * log2(1 - p)
