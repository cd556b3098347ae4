"""What a link may be expected to count: loss, background, misalignment, dead time and afterpulses in closed form.

A plan, not a measurement: nothing here is used to make keys. Weak coherent pulses split over four detectors are four
independent Poissonian numbers of photons, so clicks are independent; `sifting.squash` is a sum over their patterns.
"""

from dataclasses import dataclass, replace
from itertools import product
from math import exp, inf, log2

from qepa_qkd.decoy import BlockCounts, SourceSettings

Triple = tuple[float, float, float]
Pair = tuple[float, float]
_PATTERNS = [pattern for pattern in product((0, 1), repeat=4) if pattern[0] or pattern[1]]


@dataclass(frozen=True, slots=True)
class Channel:
    """Everything between the transmitter's aperture and the time tags. Raises ValueError on impossible values."""

    transmittance: float
    """From the aperture to a click: air, receiver optics and detector efficiency."""
    background_hz: float
    """Stray light and dark counts, all detectors together, as they are counted without a gate."""
    misalignment: float = 0.01
    """Probability that a photon goes to the wrong detector of the right basis."""
    pulse_rate_hz: float = 1e6
    gate_ns: float = 100.0
    dead_time_ns: float = 1200.0
    afterpulse_probability: float = 0.0
    receiver_key_basis_probability: float | None = 0.7
    """Splitting ratio of a passive receiver; None where the receiver chooses, and chooses as the transmitter does."""

    def __post_init__(self) -> None:
        """Check ranges."""
        chosen = self.receiver_key_basis_probability
        if not 0 < self.transmittance <= 1:
            raise ValueError("a transmittance lies above 0 and is at most 1")
        if min(self.background_hz, self.dead_time_ns, self.afterpulse_probability) < 0 or self.gate_ns <= 0:
            raise ValueError("background, dead time and afterpulses are not negative, a gate is longer than 0")
        if not 0 <= self.misalignment <= 0.5 or (chosen is not None and not 0 < chosen < 1):
            raise ValueError("misalignment is at most 0.5 and a splitting ratio lies between 0 and 1")
        if not 0 < self.pulse_rate_hz < inf:
            raise ValueError("a pulse rate is positive")

    @property
    def noise(self) -> float:
        """Background counts per detector and pulse inside the gate."""
        return self.background_hz / 4 * min(self.gate_ns * 1e-9, 1 / self.pulse_rate_hz)


@dataclass(frozen=True, slots=True)
class SiftedRates:
    """Sifted bits and errors per pulse sent, by intensity: the key basis X, the test basis Z."""

    x: Triple
    z: Triple
    wrong_x: Triple
    wrong_z: Triple

    @property
    def qber_x(self) -> float:
        """Error rate of the key basis."""
        return sum(self.wrong_x) / sum(self.x)

    @property
    def qber_z(self) -> float:
        """Error rate of the test basis."""
        return sum(self.wrong_z) / sum(self.z)

    def counts(self, pulses: float) -> BlockCounts:
        """Expected counts of a block of `pulses`, rounded."""

        def times(rates: Triple) -> tuple[int, int, int]:
            return round(rates[0] * pulses), round(rates[1] * pulses), round(rates[2] * pulses)

        return BlockCounts(times(self.x), times(self.z), times(self.wrong_z), times(self.wrong_x))


def sifted_rates(channel: Channel, source: SourceSettings, key_basis_probability: float) -> SiftedRates:
    """Return what the link sifts when the transmitter sends `source` and X with `key_basis_probability`."""
    p = key_basis_probability
    receiver = channel.receiver_key_basis_probability
    split = (p, 1 - p) if receiver is None else (receiver, 1 - receiver)
    noise, live = _detector_state(channel, source, split)
    right: list[list[float]] = [[], []]
    wrong: list[list[float]] = [[], []]
    for mu, weight in zip(source.intensities, source.probabilities, strict=True):
        light = channel.transmittance * mu
        for basis, sent in enumerate((p, 1 - p)):
            if receiver is None:
                correct, false = _active(light, channel.misalignment, noise, split[basis], live[basis])
            else:
                correct, false = _passive(light, channel.misalignment, noise, split, live, basis)
            right[basis].append(weight * sent * correct)
            wrong[basis].append(weight * sent * false)
    x, z = ([r + w for r, w in zip(right[basis], wrong[basis], strict=True)] for basis in (0, 1))
    return SiftedRates(_triple(x), _triple(z), _triple(wrong[0]), _triple(wrong[1]))


def leak_bits(bits: float, error_rate: float, efficiency: float) -> int:
    """What error correction tells about `bits`, f n h(Q), at an assumed efficiency f."""
    q = min(0.5, error_rate)
    entropy = 0.0 if q <= 0 else -q * log2(q) - (1 - q) * log2(1 - q)
    return round(efficiency * bits * entropy)


def background_share(channel: Channel, source: SourceSettings, key_basis_probability: float) -> float:
    """Which share of the errors in the key basis would be gone without background."""
    errors = sifted_rates(channel, source, key_basis_probability).qber_x
    dark = sifted_rates(replace(channel, background_hz=0.0), source, key_basis_probability).qber_x
    return 1 - dark / errors if errors else 0.0


def _detector_state(channel: Channel, source: SourceSettings, split: Pair) -> tuple[float, Pair]:
    """Noise per detector and pulse with afterpulses, and the share of slots in which a detector of X or Z is alive."""
    dead_slots = int(channel.dead_time_ns * 1e-9 * channel.pulse_rate_hz)
    mean = sum(m * q for m, q in zip(source.intensities, source.probabilities, strict=True))
    noise = channel.noise
    live = (1.0, 1.0)
    for _ in range(3):
        clicks = [channel.transmittance * mean * share / 2 + noise for share in split]
        noise = channel.noise + channel.afterpulse_probability * sum(clicks) / 2
        live = (1 / (1 + clicks[0] * dead_slots), 1 / (1 + clicks[1] * dead_slots))
    return noise, live


def _triple(values: list[float]) -> Triple:
    return values[0], values[1], values[2]


def _passive(
    light: float, misalignment: float, noise: float, split: Pair, live: Pair, basis: int
) -> tuple[float, float]:
    """Probability that the right, and the wrong, detector of `basis`, in which the pulse was sent, is reported."""
    own, other = light * split[basis], light * split[1 - basis] / 2
    means = (own * (1 - misalignment), own * misalignment, other, other)
    alive = (live[basis], live[basis], live[1 - basis], live[1 - basis])
    clicks = [fraction * (1 - exp(-mean - noise)) for mean, fraction in zip(means, alive, strict=True)]
    right = wrong = 0.0
    for pattern in _PATTERNS:
        chance = 1 / sum(pattern)
        for clicked, probability in zip(pattern, clicks, strict=True):
            chance *= probability if clicked else 1 - probability
        right += chance * pattern[0]
        wrong += chance * pattern[1]
    return right, wrong


def _active(light: float, misalignment: float, noise: float, chosen: float, live: float) -> tuple[float, float]:
    """Likewise where the receiver looks at one basis a slot, at `basis` with probability `chosen`."""
    right = live * (1 - exp(-light * (1 - misalignment) - noise))
    wrong = live * (1 - exp(-light * misalignment - noise))
    return chosen * right * (1 - wrong / 2), chosen * wrong * (1 - right / 2)
