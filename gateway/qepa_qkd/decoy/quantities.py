"""What goes into a key-length proof and what comes out."""

from dataclasses import dataclass
from typing import Protocol

Triple = tuple[float, float, float]
Counts = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Mean photon numbers (signal, decoy, weakest) and how often each is sent; weakest never sent: one decoy only."""

    intensities: Triple
    probabilities: Triple

    def __post_init__(self) -> None:
        """Refuse settings that no proof here covers; each proof's `check` asks for the rest."""
        mu1, mu2, mu3 = self.intensities
        if not (mu1 > mu2 > mu3 >= 0 and (mu1 > mu2 + mu3 or self.one_decoy)):
            raise ValueError("intensities need mu1 > mu2 + mu3 and mu2 > mu3 >= 0")
        if min(self.probabilities[:2]) <= 0 or self.probabilities[2] < 0 or abs(sum(self.probabilities) - 1) > 1e-9:
            raise ValueError("intensity probabilities are positive (0 for an unused weakest one) and sum to 1")

    @property
    def one_decoy(self) -> bool:
        """Whether the weakest intensity is never sent."""
        return self.probabilities[2] == 0


@dataclass(frozen=True, slots=True)
class BlockCounts:
    """What was counted in one block, by intensity: sifted X bits, sifted Z bits, errors among them."""

    n_x: Counts
    n_z: Counts
    m_z: Counts
    m_x: Counts | None = None
    """Errors in the key basis, known once they are corrected; None before."""

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
class EpsilonItems:
    """Where a budget goes. The first three sum to the secrecy, `verification` is the correctness."""

    parameter_estimation: float
    """All Hoeffding bounds on counts together."""
    smoothing: float
    """Random sampling of the phase error, and smooth entropies."""
    privacy_amplification: float
    verification: float

    @property
    def total(self) -> float:
        """The key differs from an ideal one with at most this probability."""
        return self.parameter_estimation + self.smoothing + self.privacy_amplification + self.verification


@dataclass(frozen=True, slots=True)
class Costs:
    """Bits taken off the single-photon (and vacuum) events."""

    phase_error: float
    leak: int
    verification: int
    secrecy: float


@dataclass(frozen=True, slots=True)
class KeyLength:
    """Result of a proof: `bits` that may be kept (0 is no key) and the bounds that led there, for the passport."""

    bits: int
    vacuum_events: float
    """Lower bound; counted as key only where the error pattern stays secret."""
    single_photon_events: float
    phase_error: float
    unrounded_bits: float
    """Negative: how many bits are missing."""
    costs: Costs
    epsilons: EpsilonItems
    reason: str | None = None
    """Why there is no key, in one sentence without its full stop."""


class KeyLengthProof(Protocol):
    """A security proof as the link uses it: pure, deterministic, same answer at both ends."""

    @property
    def name(self) -> str:
        """Its name in configurations and passports."""
        ...

    @property
    def needs_key_basis_errors(self) -> bool:
        """Whether `BlockCounts.m_x` has to be known."""
        ...

    def check(self, source: SourceSettings) -> None:
        """Raise ValueError when the proof does not cover `source`."""
        ...

    def key_length(
        self,
        counts: BlockCounts,
        source: SourceSettings,
        epsilon: EpsilonBudget,
        leak_bits: int,
        verification_bits: int,
        *,
        errors_public: bool = True,
    ) -> KeyLength:
        """Return how many bits are secret after `leak_bits` of error correction and `verification_bits` of hash.

        `errors_public` is True unless error correction is one-way and says nothing about where errors were.
        """
        ...
