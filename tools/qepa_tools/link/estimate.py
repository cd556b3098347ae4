"""The channel as finished blocks saw it: counts of their passports put into the model of `channel_model`.

N pulses give of intensity k, in X and Z together, n_k detections whose bases agree: the gain Q_k = n_k / (p_k N s), s
being the share of photons that find the basis they were sent in; Q_k = 1 - (1 - Y0) exp(-eta mu_k) (Lo, Ma, Chen
2005, eqs. 5 to 8). N is the time the blocks took to fill times the pulse rate, so pauses make the loss look larger.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log, log2, log10
from typing import Any, Final

from qepa_qkd.channel_model import Channel
from qepa_qkd.config import ProtocolSection
from qepa_qkd.decoy import PROOFS, BlockCounts, EpsilonBudget, KeyLength, SourceSettings
from qepa_qkd.verification import TAG_BITS

GATE_NS: Final = 100.0
"""Only background times gate is known; this says it as a rate."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """Several blocks as one."""

    counts: BlockCounts
    source: SourceSettings
    leak_bits: int
    seconds: float

    @property
    def qber(self) -> float:
        """Error rate of all sifted bits, of both bases."""
        wrong = sum(self.counts.m_z) + sum(self.counts.m_x or ())
        return wrong / (sum(self.counts.n_x) + sum(self.counts.n_z))

    @property
    def qber_x(self) -> float:
        """Error rate of the key basis."""
        return sum(self.counts.m_x or ()) / sum(self.counts.n_x)

    @property
    def efficiency(self) -> float:
        """Of error correction: leak over n h(Q); 1 where there was nothing to correct."""
        q = self.qber_x
        if not 0 < q < 1:
            return 1.0
        entropy = -q * log2(q) - (1 - q) * log2(1 - q)
        return max(1.0, self.leak_bits / (sum(self.counts.n_x) * entropy))

    def scaled(self, sifted_bits: int, proof: str, epsilon: EpsilonBudget) -> KeyLength:
        """What `proof` would grant a block of `sifted_bits` with counts and leak in these proportions."""
        factor = sifted_bits / sum(self.counts.n_x)
        x, z, wrong_z, wrong_x = (
            (round(factor * a), round(factor * b), round(factor * c))
            for a, b, c in (self.counts.n_x, self.counts.n_z, self.counts.m_z, self.counts.m_x or (0, 0, 0))
        )
        counts = BlockCounts(x, z, wrong_z, wrong_x)
        return PROOFS[proof].key_length(counts, self.source, epsilon, round(factor * self.leak_bits), TAG_BITS)


def pool(passports: Iterable[tuple[dict[str, Any], float]]) -> Pooled | None:
    """Add up verified passports of one source, each with the seconds its block took; None if there are none."""
    blocks = list(passports)
    if not blocks:
        return None
    newest = blocks[-1][0]["source"]
    blocks = [(passport, seconds) for passport, seconds in blocks if passport["source"] == newest]
    sums = {
        name: tuple(sum(passport["counts"][name][k] for passport, _ in blocks) for k in range(3))
        for name in ("n_x", "n_z", "m_z", "m_x")
    }
    return Pooled(
        counts=BlockCounts(**sums),
        source=SourceSettings(tuple(newest["intensities"]), tuple(newest["probabilities"])),
        leak_bits=sum(passport["leak_bits"] for passport, _ in blocks),
        seconds=sum(seconds for _, seconds in blocks),
    )


@dataclass(frozen=True, slots=True)
class SeenChannel:
    """A channel, and its loss in dB."""

    channel: Channel
    loss_db: float


def seen_channel(pooled: Pooled, protocol: ProtocolSection) -> SeenChannel | None:
    """Return the channel that gave these counts; None if none could."""
    counts, source = pooled.counts, pooled.source
    sent_x = protocol.key_basis_probability
    x, z = sum(counts.n_x), sum(counts.n_z)
    pulses = pooled.seconds * protocol.pulse_rate_hz
    if not x or not z or pulses <= 0:
        return None
    ratio = x / z * (1 - sent_x) / sent_x
    receiver = ratio / (1 + ratio)
    agree = sent_x * receiver + (1 - sent_x) * (1 - receiver)
    used = 2 if source.one_decoy else 3
    gains = [
        (n + m) / (p * pulses * agree)
        for p, n, m in zip(source.probabilities[:used], counts.n_x, counts.n_z, strict=False)
    ]
    bright, dim, most, least = source.intensities[0], source.intensities[used - 1], gains[0], gains[-1]
    if not 0 < least <= most < 1:
        return None
    eta = log((1 - least) / (1 - most)) / (bright - dim)
    if not 0 < eta <= 1:
        return None
    vacuum = max(0.0, least - eta * dim) * agree / 0.5  # noise falls on both bases alike
    sifted = (x + z) / pulses
    misalignment = max(0.0, (pooled.qber * sifted - vacuum / 4) / max(sifted - vacuum / 2, 1e-12))
    channel = Channel(
        transmittance=eta,
        background_hz=vacuum / (GATE_NS * 1e-9),
        misalignment=min(0.5, misalignment),
        pulse_rate_hz=protocol.pulse_rate_hz,
        gate_ns=GATE_NS,
        dead_time_ns=0.0,
        receiver_key_basis_probability=receiver,
    )
    return SeenChannel(channel, -10 * log10(eta))
