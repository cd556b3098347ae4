"""Lower bounds on epsilon from trials of an attack: a claim below them is refuted, at the confidence stated.

Both use limits of Clopper and Pearson on the rates of false alarms and of misses, on trials that did not choose the
threshold; the confidence is divided among the limits (Bonferroni).

- Of any mechanism: (epsilon, delta) forces FPR + e^eps FNR >= 1 - delta and the same with both exchanged (Kairouz, Oh
  and Viswanath, ICML 2015), so that epsilon >= log((1 - delta - FNR) / FPR). Jagielski, Ullman and Oprea, NeurIPS 2020.
  n trials show no more than about log n.
- Of a Gaussian mechanism: mu >= Phi^-1(1 - FPR) - Phi^-1(FNR), and mu gives epsilon at delta (Dong, Roth and Su,
  Gaussian Differential Privacy, 2022, corollary 2.13). Nasr et al., Tight Auditing of Differentially Private Machine
  Learning, USENIX Security 2023. It takes the noise's shape for granted, which is checked here by nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, log

import numpy as np
from scipy.stats import norm

from .canary import Trials
from .rates import CONFIDENCE, clopper_pearson

_CANDIDATES = 33


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerBound:
    """``epsilon`` of any mechanism, ``epsilon_gaussian`` and ``mu`` of a Gaussian one; 0 where trials show nothing."""

    epsilon: float
    epsilon_gaussian: float
    mu: float
    trials: int


def lower_bound(trials: Trials, delta: float, confidence: float = CONFIDENCE) -> LowerBound:
    """Return what holds with ``confidence``, both bounds together.

    A quarter of the trials chooses thresholds, the rest judges. Raises ValueError for fewer than 40 of either kind.
    """
    n = min(len(trials.present), len(trials.absent))
    if n < 40:
        raise ValueError("a lower bound needs at least 40 trials of each kind")
    choose = n // 4
    first, rest = (Trials(present=trials.present[part], absent=trials.absent[part]) for part in _parts(choose, n))
    middle = (first.present.mean() + first.absent.mean()) / 2
    spread = max(float(first.absent.std()), 1e-9)
    candidates = middle + spread * np.linspace(-2, 2, _CANDIDATES)
    # Four limits hold at once, each above with (1 - confidence) / 4: two rates at two thresholds.
    each = 1 - (1 - confidence) / 2
    best = max(candidates, key=lambda threshold: _any_mechanism(*_errors(first, threshold, each), delta))
    epsilon = _any_mechanism(*_errors(rest, float(best), each), delta)
    fpr, fnr = _errors(rest, float(middle), each)
    mu = max(0.0, float(norm.ppf(1 - fpr) - norm.ppf(fnr))) if fpr < 1 and fnr < 1 else 0.0
    return LowerBound(epsilon=epsilon, epsilon_gaussian=gaussian_epsilon(mu, delta), mu=mu, trials=n)


def _parts(choose: int, n: int) -> tuple[slice, slice]:
    return slice(0, choose), slice(choose, n)


def _errors(trials: Trials, threshold: float, confidence: float) -> tuple[float, float]:
    """Upper limits of FPR and FNR where what is above the threshold speaks for the canary."""
    alarms, misses = int((trials.absent > threshold).sum()), int((trials.present <= threshold).sum())
    return (
        clopper_pearson(alarms, len(trials.absent), confidence)[1],
        clopper_pearson(misses, len(trials.present), confidence)[1],
    )


def _any_mechanism(fpr: float, fnr: float, delta: float) -> float:
    found = 0.0
    for error, other in ((fpr, fnr), (fnr, fpr)):
        if 1 - delta - other > 0:
            found = max(found, log((1 - delta - other) / error))
    return found


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the epsilon at ``delta`` of mu-GDP.

    >>> round(gaussian_epsilon(1.0, 1e-5), 2), gaussian_epsilon(0.0, 1e-5)
    (4.38, 0.0)
    """
    if mu <= 0:
        return 0.0

    def delta_of(epsilon: float) -> float:
        return float(norm.cdf(mu / 2 - epsilon / mu) - exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu)))

    return _root(delta_of, delta)


def _root(falling: Callable[[float], float], target: float) -> float:
    low, high = 0.0, 1.0
    if falling(low) <= target:
        return 0.0
    while falling(high) > target:
        low, high = high, 2 * high
        if high > 500:
            return inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > target else (low, middle)
    return low
