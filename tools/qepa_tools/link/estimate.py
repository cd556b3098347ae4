"""The channel as a finished block saw it: counts of its passport put into the model of `channel_model`.

A block of N pulses detects intensity k, in X and Z together, with the gain Q_k = n_k / (p_k N s), s being the share
of photons whose bases agree; Q_k = 1 - (1 - Y0) exp(-eta mu_k) (Lo, Ma, Chen 2005, eqs. 5 to 8). N is the time the
block took to fill times the pulse rate, so pauses make the loss look larger.
"""

from dataclasses import dataclass
from math import log, log10
from typing import Any, Final

from qepa_qkd.channel_model import Channel
from qepa_qkd.config import ProtocolSection

GATE_NS: Final = 100.0
"""Only background times gate is known; this says it as a rate."""


@dataclass(frozen=True, slots=True)
class SeenChannel:
    """A channel, and what of it was measured."""

    channel: Channel
    loss_db: float


def seen_channel(passport: dict[str, Any], seconds: float, protocol: ProtocolSection) -> SeenChannel | None:
    """Return the channel of a verified passport whose block filled in `seconds`; None if its counts allow none."""
    counts, source = passport["counts"], passport["source"]
    sent_x = protocol.key_basis_probability
    x, z = sum(counts["n_x"]), sum(counts["n_z"])
    pulses = seconds * protocol.pulse_rate_hz
    if not x or not z or pulses <= 0:
        return None
    ratio = x / z * (1 - sent_x) / sent_x
    receiver = ratio / (1 + ratio)
    agree = sent_x * receiver + (1 - sent_x) * (1 - receiver)
    gains = [
        (mu, (n + m) / (p * pulses * agree))
        for mu, p, n, m in zip(
            source["intensities"], source["probabilities"], counts["n_x"], counts["n_z"], strict=True
        )
        if p > 0
    ]
    (bright, most), (dim, least) = gains[0], gains[-1]
    if not 0 < least <= most < 1:
        return None
    eta = log((1 - least) / (1 - most)) / (bright - dim)
    if not 0 < eta <= 1:
        return None
    vacuum = max(0.0, least - eta * dim) * agree / 0.5  # noise falls on both bases alike
    tested, noise = z / (pulses * (1 - sent_x)), vacuum / 2
    misalignment = max(0.0, (passport["qber_z"] * tested - noise / 2) / max(tested - noise, 1e-12))
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
