"""Who may stand between transmitter and receiver, what each changes, and what it leaves behind in the counts.

- intercept-resend (Bennett et al. 1992) on a fraction f: the QBER becomes e0 + f / 4 - f e0 / 2.
- photon-number splitting (Brassard et al. 2000): single photons are missing, so the weak decoy's gain falls short of
  what the signal's lets expect (Lo, Ma, Chen 2005).
- blinding with faked states (Lydersen et al. 2010; with passive choice of basis Gerhardt et al. 2011): no noise clicks;
  double clicks where the splitting ratio is uneven, none at all where it is even.
- time shift (Qi et al. 2007) where detectors respond at different times: tags leave the middle of the gate, and one
  detector of a basis counts more than the other.
"""

import re
from dataclasses import dataclass, fields
from math import exp, factorial

from qepa_tools.bench.light import BLINDED, INTERCEPTED, SHIFTED, SPLIT, UNDISTURBED
from qepa_tools.bench.settings import BenchSettings, PulseSettings

_MOST_PHOTONS = 20


@dataclass(frozen=True, slots=True)
class Effect:
    """An attacker as the kernels of `light` know it.

    Photons are drawn after a transmittance of `sampled`; an undisturbed one is then seen with probability `passing`.
    """

    kind: int
    sampled: float
    passing: float = 1.0
    fraction: float = 1.0
    numbers: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class InterceptResend:
    """Measures a share of the pulses in a random basis and sends on what it saw, as bright as it came."""

    fraction: float = 1.0

    def effect(self, settings: BenchSettings, _: PulseSettings) -> Effect:
        """Return what `light` needs to know."""
        return Effect(INTERCEPTED, transmittance(settings), fraction=self.fraction)


@dataclass(frozen=True, slots=True)
class PhotonNumberSplitting:
    """Counts photons without disturbing them, keeps one of several, and replaces the channel by one without loss."""

    fraction: float = 1.0
    block: float = -1.0
    """Share of the single photons that are stopped; negative: as many as keep the signal's gain where it was."""

    def effect(self, settings: BenchSettings, pulses: PulseSettings) -> Effect:
        """Return what `light` needs to know."""
        block, passing = splitting_that_keeps_the_gain(settings, max(pulses.intensities))
        if self.block >= 0:
            block, passing = self.block, settings.receiver_efficiency
        return Effect(SPLIT, 1.0, transmittance(settings), self.fraction, (block, passing))


@dataclass(frozen=True, slots=True)
class Blinding:
    """Bright light turns the diodes into classical detectors; Eve measures every pulse and makes them click as she saw.

    She divides her measurements between the bases as the receiver does. `power` is the light that reaches the right
    detector, in units of the threshold above which a blinded detector clicks.
    """

    power: float = 1.1
    efficiency: float = -1.0
    """Of Eve's own measurement; negative: what keeps the receiver's rate where it was."""

    def effect(self, settings: BenchSettings, _: PulseSettings) -> Effect:
        """Return what `light` needs to know."""
        efficiency = self.efficiency if self.efficiency >= 0 else transmittance(settings)
        return Effect(BLINDED, efficiency, numbers=(self.power, 0.0))


@dataclass(frozen=True, slots=True)
class TimeShift:
    """Lets pulses arrive early or late, where one detector of each basis sees better than the other."""

    shift_ps: float = 1000.0
    early: float = 0.5
    """Share of the shifted pulses that arrive early rather than late."""
    fraction: float = 1.0

    def effect(self, settings: BenchSettings, _: PulseSettings) -> Effect:
        """Return what `light` needs to know."""
        return Effect(SHIFTED, transmittance(settings), 1.0, self.fraction, (self.shift_ps, self.early))


Attack = InterceptResend | PhotonNumberSplitting | Blinding | TimeShift

ATTACKS: dict[str, type[Attack]] = {
    "intercept-resend": InterceptResend,
    "photon-number-splitting": PhotonNumberSplitting,
    "blinding": Blinding,
    "time-shift": TimeShift,
}
"""By the names that commands use."""


def parse_attack(text: str) -> Attack | None:
    """Return the attack named by `text`, as in `intercept-resend fraction=0.3`; None for `none`.

    Raises ValueError, in one sentence, on an unknown attacker, parameter or value.
    """
    name, *parameters = text.split() or [""]
    if name == "none" and not parameters:
        return None
    if name not in ATTACKS:
        raise ValueError(f"there is no attacker {name!r}; there are {', '.join(ATTACKS)} and none")
    kind = ATTACKS[name]
    known = [field.name for field in fields(kind)]
    values: dict[str, float] = {}
    for parameter in parameters:
        found = re.fullmatch(r"([a-z_]+)=(-?\d+(\.\d*)?([eE]-?\d+)?)", parameter)
        if found is None or found[1] not in known:
            raise ValueError(f"{name} has no parameter {parameter!r}; it has {', '.join(f'{k}=NUMBER' for k in known)}")
        values[found[1]] = float(found[2])
    for share in ("fraction", "early"):
        if not 0 <= values.get(share, 0.0) <= 1:
            raise ValueError(f"{share} lies between 0 and 1")
    if values.get("block", 0.0) > 1 or values.get("efficiency", 0.0) > 1 or values.get("power", 0.0) < 0:
        raise ValueError("block and efficiency are at most 1, power is not negative")
    return kind(**values)


def describe(attack: Attack | None) -> str:
    """Return `attack` as `parse_attack` reads it."""
    if attack is None:
        return "none"
    (name,) = (name for name, kind in ATTACKS.items() if isinstance(attack, kind))
    return " ".join([name, *(f"{field.name}={getattr(attack, field.name):g}" for field in fields(attack))])


def no_attack(settings: BenchSettings) -> Effect:
    """Return the effect of nobody."""
    return Effect(UNDISTURBED, transmittance(settings))


def transmittance(settings: BenchSettings) -> float:
    """From the transmitter's aperture to a click in the best detector."""
    return settings.channel_transmittance * settings.receiver_efficiency


def splitting_that_keeps_the_gain(settings: BenchSettings, mu: float) -> tuple[float, float]:
    """Return (share of single photons to stop, transmittance for the rest) that keep the gain of pulses of mean `mu`.

    Gain without Eve: 1 - exp(-eta mu). With her: the sum of p_n Y_n, Y_1 = (1 - b) t and Y_n = 1 - (1 - t)^(n - 1),
    where t is the receiver alone; on a channel so lossy that several photons suffice, b is 1 and t is less. Noise is
    left out on both sides.
    """
    poisson = [exp(-mu) * mu**n / factorial(n) for n in range(_MOST_PHOTONS)]
    wanted = 1 - exp(-transmittance(settings) * mu)

    def of_several(t: float) -> float:
        return sum(p * (1 - (1 - t) ** (n - 1)) for n, p in enumerate(poisson) if n > 1)

    low, high = 0.0, settings.receiver_efficiency
    single = poisson[1] * high
    if of_several(high) <= wanted:
        return (max(0.0, 1 - (wanted - of_several(high)) / single) if single else 0.0), high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if of_several(middle) < wanted else (low, middle)
    return 1.0, high
