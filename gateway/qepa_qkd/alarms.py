"""Alarms: what must not be while key is made, told from counts. Sans-IO.

`ClickMonitor` judges what Bob's detectors do, window by window, before any basis is named; `judge_block` judges what a
sifted block says of source and channel, at both ends alike. While an alarm stands, blocks end without key; each
clears by itself once its cause is gone. Every test asks for a deviation of `SIGMAS` standard deviations beside its
limit: on an undisturbed link one test raises a false alarm with a probability of at most 3e-7, in a window of
5,000 detections less often than once in ten days at 55,000 detections a second (eight tests a window).

QBER
    the error rate of a basis is over its threshold (`distillation.check_error_rate`)
rate
    detections per pulse leave the level they had by more than `rate_step` either way; a new level that lasts is adopted
saturation
    more detections than the pulses hold photons, which no channel can give
blinding
    coincidences of detectors are far from those of faint light
mismatch
    one detector of a basis counts more than the other by `mismatch` of their sum
splitting
    decoys are seen less often than light of a common loss would be: photon-number splitting
intensity
    the faintest pulses are seen almost as often as the brightest: whoever answers looks at none
bias
    ones among an end's key bits leave one half by `bias`
timing
    clock recovery is lost (`clock_recovery`), or the ends' bits are unrelated: their slots have shifted

Alarms of clicks clear after three good windows, those of blocks with the next good block, timing with the next lock.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import exp, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.decoy import BlockCounts, SourceSettings
from qepa_qkd.serial_protocol import Nibbles, Slots

logger = logging.getLogger(__name__)

SIGMAS: Final = 5.0
WINDOW_DETECTIONS: Final = 5_000
LEAST_DETECTIONS: Final = 500
"""With fewer, the end of a block is not judged apart."""
LEAST_COINCIDENCES: Final = 60.0
"""Coincidences to expect before their number is judged: chance makes 24 of 60 with a probability below 3e-7."""
CLEAR_WINDOWS: Final = 3
STEADY_WINDOWS: Final = 100
"""Windows after which a new rate that stays is the rate."""

CLICK_KINDS: Final = ("rate", "saturation", "blinding", "mismatch")
BLOCK_KINDS: Final = ("QBER", "splitting", "intensity", "bias")
KINDS: Final = (*CLICK_KINDS, *BLOCK_KINDS, "timing")
ATTACKS: Final = ("QBER", "blinding", "saturation", "splitting", "intensity", "mismatch")
"""Kinds that point to somebody rather than to something."""

Verdicts = Mapping[str, str | None]
"""For each kind that was judged, a sentence without its full stop if it is to be raised."""


@dataclass(frozen=True, slots=True)
class AlarmLimits:
    """What a link tolerates beside chance."""

    rate_step: float = 0.6
    """Of the rate: 0.6 allows 1 / 1.6 to 1.6 times the level of before."""
    mismatch: float = 0.1
    """Difference of a basis's two detectors over their sum; the proofs assume none."""
    coincidences_low: float = 0.4
    coincidences_high: float = 3.0
    """Coincidences over those of independent clicks; wandering light brings more, never fewer."""
    splitting: float = 0.8
    """Gain of the decoy over what the signal's lets expect."""
    bias: float = 0.03


NORMAL_LIMITS: Final = AlarmLimits()


class Alarms:
    """Which alarms stand. Changes are logged, and counted in `raised`."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._active: dict[str, str] = {}
        self._good: dict[str, int] = {}
        self.raised = 0
        self.last_s: float | None = None
        """When an alarm last stood, by the caller's clock."""

    @property
    def active(self) -> Mapping[str, str]:
        """Kind and sentence of each alarm that stands."""
        return self._active

    def reason(self, kinds: Iterable[str] = KINDS) -> str | None:
        """Why there is no key, if an alarm of one of `kinds` stands."""
        for kind in kinds:
            if kind in self._active:
                return reason(kind, self._active[kind])
        return None

    def update(self, verdicts: Verdicts, clear_after: int = 1) -> None:
        """Raise and renew alarms; one that found nothing `clear_after` times in a row is cleared."""
        for kind, sentence in verdicts.items():
            if sentence is not None:
                if kind not in self._active:
                    self.raised += 1
                    logger.warning("alarm raised: %s: %s", kind, sentence)
                self._active[kind], self._good[kind] = sentence, 0
                self.last_s = self._now_s()
            elif kind in self._active:
                self._good[kind] += 1
                self.last_s = self._now_s()
                if self._good[kind] >= clear_after:
                    del self._active[kind]
                    logger.warning("alarm cleared: %s", kind)


def reason(kind: str, sentence: str) -> str:
    """A block's reason for no key that names an alarm; `kind_of` reads it."""
    return f"{kind} alarm: {sentence}"


def kind_of(reason: str | None) -> str | None:
    """Kind of the alarm that made a block end, if one did."""
    return next((kind for kind in KINDS if reason and (reason.startswith((f"{kind} alarm: ", f"{kind} ")))), None)


def sentence_of(reason: str) -> str:
    """What was seen, of a block's reason that names an alarm."""
    return reason.partition(" alarm: ")[2] or reason


class ClickMonitor:
    """Judges what four detectors click, in windows of `WINDOW_DETECTIONS`."""

    def __init__(self, source: SourceSettings, limits: AlarmLimits) -> None:
        self._limits = limits
        sent = list(zip(source.intensities, source.probabilities, strict=True))
        mean = sum(mu * p for mu, p in sent)
        self._bunching = sum(mu * mu * p for mu, p in sent) / mean**2
        self._most = 1 - sum(p * exp(-mu) for mu, p in sent)
        self._window = _Clicks()
        self._pairs = _Clicks()
        self._rate: float | None = None
        self._strange_rates: list[float] = []

    def observe(self, pulses: int, slots: Slots, detectors: Nibbles) -> Verdicts:
        """Take the clicks of `pulses` more slots (several clicks a slot as they came); judge if a window is full."""
        for clicks in (self._window, self._pairs):
            clicks.add(pulses, slots, detectors)
        return self._judge() if self._window.total >= WINDOW_DETECTIONS else {}

    def flush(self) -> Verdicts:
        """Judge the rest: a block ends here."""
        return self._judge() if self._window.total >= LEAST_DETECTIONS else {}

    def forget(self) -> None:
        """Drop the window: what was counted is incomplete."""
        self._window, self._pairs = _Clicks(), _Clicks()

    def _judge(self) -> Verdicts:
        window, self._window = self._window, _Clicks()
        verdicts = {
            "rate": self._judge_rate(window),
            "saturation": self._judge_saturation(window),
            "mismatch": self._judge_mismatch(window),
        }
        if self._pairs.independent_pairs() >= LEAST_COINCIDENCES:
            verdicts["blinding"] = self._judge_coincidences(self._pairs)
            self._pairs = _Clicks()
        return verdicts

    def _judge_rate(self, window: "_Clicks") -> str | None:
        rate, sigma = window.total / window.pulses, sqrt(window.total) / window.pulses
        usual = self._rate
        if usual is None:
            self._rate = rate
            return None
        factor = 1 + self._limits.rate_step
        if rate - SIGMAS * sigma <= usual * factor and rate + SIGMAS * sigma >= usual / factor:
            self._rate = 0.98 * usual + 0.02 * rate
            self._strange_rates.clear()
            return None
        strange = self._strange_rates
        if strange and not strange[0] / factor <= rate <= strange[0] * factor:
            strange.clear()
        strange.append(rate)
        if len(strange) >= STEADY_WINDOWS:
            self._rate = sum(strange) / len(strange)
            strange.clear()
        return f"detections went from {100 * usual:.3g} to {100 * rate:.3g} in a hundred pulses"

    def _judge_saturation(self, window: "_Clicks") -> str | None:
        detections = window.total - window.coincidences
        if detections - SIGMAS * sqrt(window.total) <= self._most * window.pulses:
            return None
        return f"more than {100 * self._most:.0f} detections in a hundred pulses, which hold no more photons"

    def _judge_mismatch(self, window: "_Clicks") -> str | None:
        h, v, d, a = window.counts
        for basis, zero, one in (("key", h, v), ("test", d, a)):
            total = zero + one
            if abs(zero - one) > max(self._limits.mismatch * total, SIGMAS * sqrt(total)):
                return f"the two detectors of the {basis} basis count {zero} to {one}"
        return None

    def _judge_coincidences(self, pairs: "_Clicks") -> str | None:
        # Light that is split between the bases clicks in both independently, given its intensity: the coincidences of
        # the bases are those of independent clicks times <mu^2> / <mu>^2, or times 1 where the clicks are noise.
        expected = pairs.independent_pairs()
        if pairs.between_bases < self._limits.coincidences_low * expected:
            return (
                f"{pairs.between_bases} coincidences between the bases where faint light gives {expected:.0f} or more"
            )
        most = self._limits.coincidences_high * self._bunching * pairs.independent_pairs_of_all()
        if pairs.coincidences > most + SIGMAS * sqrt(most):
            return f"{pairs.coincidences} coincidences where faint light gives at most {most:.0f}"
        return None


class _Clicks:
    """Counts of some slots."""

    def __init__(self) -> None:
        self.pulses = 0
        self.counts: list[int] = [0, 0, 0, 0]
        self.coincidences = 0
        """Clicks beside the first of their slot."""
        self.between_bases = 0

    @property
    def total(self) -> int:
        """Clicks of all detectors."""
        return sum(self.counts)

    def add(self, pulses: int, slots: Slots, detectors: Nibbles) -> None:
        """`slots` must not decrease."""
        self.pulses += pulses
        self.counts = [a + int(b) for a, b in zip(self.counts, np.bincount(detectors, minlength=4), strict=True)]
        together = np.diff(slots) == 0
        self.coincidences += int(np.count_nonzero(together))
        self.between_bases += int(np.count_nonzero(together & ((detectors[1:] ^ detectors[:-1]) & 2 > 0)))

    def independent_pairs(self) -> float:
        """Coincidences of a detector of one basis with one of the other, did they click independently."""
        h, v, d, a = self.counts
        return (h + v) * (d + a) / self.pulses if self.pulses else 0.0

    def independent_pairs_of_all(self) -> float:
        """Coincidences of any two detectors, did they click independently."""
        total = self.total
        return (total * total - sum(n * n for n in self.counts)) / 2 / self.pulses if self.pulses else 0.0


def judge_block(
    counts: BlockCounts, source: SourceSettings, key_bits: npt.NDArray[np.uint8], limits: AlarmLimits
) -> Verdicts:
    """Judge a sifted block by its counts, which both ends have, and by one end's own bits."""
    return {
        "splitting": _judge_splitting(counts, source, limits),
        "intensity": _judge_intensity(counts, source),
        "bias": _judge_bias(key_bits, limits),
    }


def _judge_splitting(counts: BlockCounts, source: SourceSettings, limits: AlarmLimits) -> str | None:
    # Yields Y_n of n photons that do not fall with n give gains with Q(mu2) >= Q(mu1) mu2 / mu1; noise only adds.
    signal, decoy = (x + z for x, z in list(zip(counts.n_x, counts.n_z, strict=True))[:2])
    per_signal = source.intensities[1] * source.probabilities[1] / (source.intensities[0] * source.probabilities[0])
    expected = limits.splitting * per_signal * signal
    sigma = sqrt(decoy + (limits.splitting * per_signal) ** 2 * signal)
    if decoy + SIGMAS * sigma >= expected:
        return None
    return f"{decoy} detections of decoys where {per_signal * signal:.0f} were to be expected of any loss"


def _judge_intensity(counts: BlockCounts, source: SourceSettings) -> str | None:
    weakest = 1 if source.one_decoy else 2
    gains, sigmas = [], []
    for i in (0, weakest):
        seen = counts.n_x[i] + counts.n_z[i]
        gains.append(seen / source.probabilities[i])
        sigmas.append(sqrt(seen) / source.probabilities[i])
    share = (1 + source.intensities[weakest] / source.intensities[0]) / 2
    if gains[1] - share * gains[0] <= SIGMAS * sqrt(sigmas[1] ** 2 + (share * sigmas[0]) ** 2):
        return None
    return f"the faintest pulses are seen {gains[1] / gains[0]:.0%} as often as the brightest" if gains[0] else None


def _judge_bias(key_bits: npt.NDArray[np.uint8], limits: AlarmLimits) -> str | None:
    ones, n = int(np.count_nonzero(key_bits)), len(key_bits)
    if abs(2 * ones - n) <= max(2 * limits.bias * n, SIGMAS * sqrt(n)):
        return None
    return f"{ones} ones among {n} key bits"
