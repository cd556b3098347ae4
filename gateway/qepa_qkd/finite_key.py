"""Finite-key curves: what a modelled channel is expected to give."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from qepa_qkd.advice import DEFAULTS, Constraints, evaluate
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
    """Return points for blocks of `block_bits` sifted bits when the channel lost `losses_db` in all."""
    points = []
    losses = list(losses_db)
    for proof in proofs:
        for loss in losses:
            lossy = replace(channel, transmittance=10 ** (-loss / 10))
            found = evaluate(lossy, constraints, proof, source, key_basis_probability, block_bits)
            per_bit = found.length.bits / max(1, found.block_bits)
            points.append(CurvePoint(proof, loss, per_bit, found.key_rate_bps))
    return points
