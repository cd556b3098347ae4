"""Best settings for a channel: intensities, probabilities, basis bias and block size by the key rate they would give.

The optimum is of the expected counts, so real blocks scatter about it. Settings are chosen before a run: choosing a
proof after seeing its counts would be no proof.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import product
from math import exp, log
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from qepa_qkd.channel_model import Channel, SiftedRates, background_share, leak_bits, sifted_rates
from qepa_qkd.decoy import PROOFS, EpsilonBudget, KeyLength, KeyLengthProof, SourceSettings
from qepa_qkd.verification import TAG_BITS

RECOMMENDED: Final = ("Lim2014-chernoff", "Rusca2018-chernoff")
_ASYMPTOTIC: Final = 10**6
_EVALUATIONS: Final = 320
_STRONGEST: Final = 1.2
# Shares as `_settings` takes them: signal, decoy, key basis, how often the signal, and of the rest the decoy.
_GUESSES: Final = tuple(
    (0.42, decoy, basis, signal, 0.6) for decoy, basis, signal in product((0.2, 0.4), (0.6, 0.8, 0.95), (0.3, 0.6, 0.9))
)


@dataclass(frozen=True, slots=True)
class Constraints:
    """What may not be chosen."""

    seconds: float = 30.0
    """How long a block may take to fill."""
    most_block_bits: int = 4_000_000
    weakest_intensity: float = 0.002
    """Mean photon number that the modulator lets through at its darkest."""
    efficiency: float = 1.05
    """Of error correction: leak over n h(Q)."""
    epsilon: EpsilonBudget = field(default_factory=EpsilonBudget)


DEFAULTS: Final = Constraints()


@dataclass(frozen=True, slots=True)
class Share:
    """Where a part of the sifted bits goes; `remedy` says what would give some of it back, empty if nothing would."""

    what: str
    share: float
    remedy: str


@dataclass(frozen=True, slots=True)
class Advice:
    """Best settings under one proof, and what they would give. `key_rate_bps` 0: no key on this channel."""

    proof: str
    source: SourceSettings
    key_basis_probability: float
    block_bits: int
    block_seconds: float
    sifted_rate_bps: float
    qber_x: float
    qber_z: float
    length: KeyLength
    key_rate_bps: float
    shares: tuple[Share, ...]
    """Largest first; with the key itself they sum to one."""

    @property
    def limit(self) -> str:
        """What limits the rate most of all that can be mended, and how."""
        first = next(share for share in self.shares if share.remedy)
        if self.length.bits == 0:
            return f"No key: {self.length.reason}. {first.remedy}"
        return f"{first.what} takes {100 * first.share:.0f} % of the sifted bits. {first.remedy}"


def advise(
    channel: Channel,
    constraints: Constraints = DEFAULTS,
    *,
    proofs: Iterable[str] = RECOMMENDED,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Advice]:
    """Return the best settings under each of `proofs`, best rate first; `progress(proof, done, total)` is told.

    Raises KeyError for a proof that does not exist.
    """
    found = [_best(channel, constraints, PROOFS[name], progress) for name in proofs]
    return sorted(found, key=lambda one: -one.length.unrounded_bits / one.block_seconds)


def seconds_to_a_key(
    channel: Channel,
    constraints: Constraints = DEFAULTS,
    *,
    proof: str = RECOMMENDED[0],
    at_most_s: float = 86_400,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> float | None:
    """Return how long a block has to fill for some key at best settings, in steps of two; None: not within a day."""
    seconds = constraints.seconds
    while seconds <= at_most_s:
        longer = replace(constraints, seconds=seconds)
        best = _best(channel, longer, PROOFS[proof], progress)
        if best.length.bits:
            return seconds
        if best.block_seconds < seconds / 2:
            break
        seconds *= 2
    return None


def evaluate(
    channel: Channel,
    constraints: Constraints,
    proof: str,
    source: SourceSettings,
    key_basis_probability: float,
    block_bits: int | None = None,
) -> Advice:
    """Return what given settings would give; `block_bits` is what fills in time unless it is given."""
    rates = sifted_rates(channel, source, key_basis_probability)
    pulses = _pulses(channel, constraints, rates) if block_bits is None else block_bits / sum(rates.x)
    length = _length(rates, pulses, source, PROOFS[proof], constraints)
    seconds = pulses / channel.pulse_rate_hz
    return Advice(
        proof=proof,
        source=source,
        key_basis_probability=key_basis_probability,
        block_bits=round(pulses * sum(rates.x)),
        block_seconds=seconds,
        sifted_rate_bps=channel.pulse_rate_hz * sum(rates.x),
        qber_x=rates.qber_x,
        qber_z=rates.qber_z,
        length=length,
        key_rate_bps=length.bits / seconds,
        shares=_shares(channel, constraints, proof, source, key_basis_probability, rates, pulses, length),
    )


def _best(
    channel: Channel, constraints: Constraints, proof: KeyLengthProof, progress: Callable[[str, int, int], None]
) -> Advice:
    one_decoy = proof.needs_key_basis_errors
    done = 0

    def loss(x: npt.NDArray[np.float64]) -> float:
        nonlocal done
        done += 1
        progress(proof.name, min(done, _EVALUATIONS), _EVALUATIONS)
        source, key_basis_probability = _settings(x, constraints, one_decoy=one_decoy)
        rates = sifted_rates(channel, source, key_basis_probability)
        pulses = _pulses(channel, constraints, rates)
        length = _length(rates, pulses, source, proof, constraints)
        if length.unrounded_bits > 0:
            return -length.unrounded_bits / pulses / channel.transmittance
        # Where there is no key the way to one is more certain single photons, then a lower phase error.
        return 1 + length.phase_error - length.single_photon_events / max(1.0, pulses * sum(rates.x))

    starts = [_variables(guess if not one_decoy else guess[:4]) for guess in _GUESSES]
    start = min(starts, key=loss)
    simplex = np.vstack([start, start + 0.4 * np.eye(len(start))])
    options = {"maxfev": _EVALUATIONS - done, "xatol": 1e-2, "fatol": 1e-4, "initial_simplex": simplex}
    result = minimize(loss, start, method="Nelder-Mead", options=options)
    progress(proof.name, _EVALUATIONS, _EVALUATIONS)
    source, key_basis_probability = _settings(result.x, constraints, one_decoy=one_decoy)
    return evaluate(channel, constraints, proof.name, _rounded(source), round(key_basis_probability, 3))


def _length(
    rates: SiftedRates,
    pulses: float,
    source: SourceSettings,
    proof: KeyLengthProof,
    constraints: Constraints,
    scale: int = 1,
) -> KeyLength:
    counts = rates.counts(pulses * scale)
    leak = leak_bits(sum(counts.n_x), rates.qber_x, constraints.efficiency)
    return proof.key_length(counts, source, constraints.epsilon, leak, TAG_BITS)


def _pulses(channel: Channel, constraints: Constraints, rates: SiftedRates) -> float:
    return min(constraints.seconds * channel.pulse_rate_hz, constraints.most_block_bits / sum(rates.x))


def _settings(x: npt.NDArray[np.float64], constraints: Constraints, *, one_decoy: bool) -> tuple[SourceSettings, float]:
    """Take free variables to settings: each is a share between 0 and 1 of what the ones before leave."""
    share = [1 / (1 + exp(-min(30.0, max(-30.0, float(v))))) for v in x]
    weakest = 0.0 if one_decoy else constraints.weakest_intensity
    mu1 = 2.1 * weakest + 0.01 + (_STRONGEST - 2.1 * weakest - 0.01) * share[0]
    mu2 = weakest + 1e-3 + (mu1 - 2 * weakest - 2e-3) * share[1]
    q = 0.02 + 0.96 * share[2]
    p1 = 0.01 + 0.97 * share[3]
    if one_decoy:
        return SourceSettings((mu1, mu2, 0.0), (p1, 1 - p1, 0.0)), q
    p2 = (1 - p1) * (0.01 + 0.98 * share[4])
    return SourceSettings((mu1, mu2, weakest), (p1, p2, 1 - p1 - p2)), q


def _variables(shares: tuple[float, ...]) -> npt.NDArray[np.float64]:
    return np.array([log(share / (1 - share)) for share in shares])


def _rounded(source: SourceSettings) -> SourceSettings:
    """Three digits: what a modulator can be set to, and what a person can type."""
    mu1, mu2, mu3 = (round(mu, 3) for mu in source.intensities)
    p1, p2 = (round(p, 3) for p in source.probabilities[:2])
    if source.one_decoy:
        return SourceSettings((mu1, mu2, 0.0), (p1, round(1 - p1, 3), 0.0))
    return SourceSettings((mu1, mu2, mu3), (p1, p2, round(1 - p1 - p2, 3)))


def _shares(
    channel: Channel,
    constraints: Constraints,
    proof: str,
    source: SourceSettings,
    key_basis_probability: float,
    rates: SiftedRates,
    pulses: float,
    length: KeyLength,
) -> tuple[Share, ...]:
    """Split the sifted bits of an endless block, and call the rest what finite statistics cost."""
    sifted = pulses * sum(rates.x)
    endless = _length(rates, pulses, source, PROOFS[proof], constraints, _ASYMPTOTIC)
    per_bit = 1 / (sifted * _ASYMPTOTIC)
    finite = endless.unrounded_bits * per_bit - length.unrounded_bits / sifted
    background = background_share(channel, source, key_basis_probability)
    clean = (
        f"Background makes {100 * background:.0f} % of the errors: darker surroundings, a filter, a shorter gate."
        if background > 0.5
        else f"Misalignment makes {100 - 100 * background:.0f} % of the errors: turn the wave plates (qepa link align)."
    )
    shares = [
        Share("Pulses not proved to hold one photon", 1 - endless.single_photon_events * per_bit, ""),
        Share("The phase error", endless.costs.phase_error * per_bit, clean),
        Share("Error correction", endless.costs.leak * per_bit, clean),
        Share(
            "Finite statistics",
            finite,
            f"A longer block than {pulses / channel.pulse_rate_hz:.1f} s, less loss or a higher pulse rate.",
        ),
    ]
    return tuple(sorted(shares, key=lambda one: -one.share))
