"""Finite-key curves: secret bits per sifted bit against block size and against loss, expected on a modelled channel."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from qepa_qkd.advice import DEFAULTS, Advice, Constraints, evaluate
from qepa_qkd.channel_model import Channel
from qepa_qkd.decoy import SourceSettings


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of a finite-key curve."""

    proof: str
    at: float
    """Sifted bits in a block, or loss in dB."""
    bits_per_sifted_bit: float
    key_rate_bps: float


def against_block_size(
    channel: Channel,
    source: SourceSettings,
    key_basis_probability: float,
    sizes: Iterable[int],
    *,
    proofs: Iterable[str],
    constraints: Constraints = DEFAULTS,
) -> list[CurvePoint]:
    """Return secret bits per sifted bit for blocks of `sizes` sifted bits, settings as they are."""
    return [
        _point(evaluate(channel, constraints, proof, source, key_basis_probability, size), float(size))
        for proof in proofs
        for size in sizes
    ]


def against_loss(
    channel: Channel,
    source: SourceSettings,
    key_basis_probability: float,
    losses_db: Iterable[float],
    *,
    block_bits: int,
    proofs: Iterable[str],
    constraints: Constraints = DEFAULTS,
) -> list[CurvePoint]:
    """Return the same for blocks of `block_bits` when the channel lost `losses_db` in all, settings as they are."""
    losses = list(losses_db)
    return [
        _point(
            evaluate(
                replace(channel, transmittance=10 ** (-loss / 10)),
                constraints,
                proof,
                source,
                key_basis_probability,
                block_bits,
            ),
            loss,
        )
        for proof in proofs
        for loss in losses
    ]


def _point(advice: Advice, at: float) -> CurvePoint:
    return CurvePoint(advice.proof, at, advice.length.bits / max(1, advice.block_bits), advice.key_rate_bps)
