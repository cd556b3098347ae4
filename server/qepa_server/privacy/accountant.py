"""What one stream of one round costs one patient, in zero-concentrated differential privacy (zCDP). Pure arithmetic.

Neighbouring wards differ in the data of one patient: all of it, or zeros in its place (zero-out; Kairouz et al.,
Practical and Private (Deep) Learning without Sampling or Shuffling, ICML 2021). Who took part is no secret. To have
one patient's data replaced by other data doubles the sensitivity. All boards of a patient are in one cell, so a round
shows a patient in one sum a stream, and cells compose in parallel.

A sum of n shares of N_Z(0, s2) is not a discrete Gaussian; its divergence is bounded by Proposition 14 of Kairouz, Liu
and Steinke, The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation, ICML 2021
(arXiv:2102.06387, "KLS21" below). Rounds compose by adding rho, also where they are chosen adaptively and up to a
budget fixed beforehand (Feldman and Zrnic, Individual Privacy Accounting via a Renyi Filter, NeurIPS 2021).
"""

from collections.abc import Sequence
from functools import cache
from math import exp, inf, pi, sqrt

from dp_accounting import ZCDpEvent
from dp_accounting.rdp import RdpAccountant

from qepa_uplink.messages import StreamSpec
from qepa_wire.discrete_gaussian import Q8
from qepa_wire.quantizer import NEAREST

_LEAST_SHARE_Q8 = Q8 // 4  # KLS21 needs a standard deviation of at least 1/2 in each share


def sensitivity(spec: StreamSpec, told: Sequence[int]) -> float:
    """Return the largest Euclidean norm of one patient's words together, noise aside, in quantizer steps.

    ``told`` has one entry for each of the patient's boards: how many boards it was told the patient wears
    (PROTOCOL.md, section 7). A board keeps floor(clip_norm / told). Its words are then rounded: by nothing where a
    step divides the unit, to nearest by at most 1/2 each, stochastically by less than 1. KLS21 bound the last better
    (Proposition 22) for senders that draw again when a vector got too long; boards do not, so it does not apply.
    """
    root = sqrt(spec.n_words)
    rounding = 0.0 if spec.q_max % spec.bound == 0 else root / 2 if spec.rounding == NEAREST else root
    largest = root * spec.q_max
    if not spec.clip_norm:
        return len(told) * largest
    return sum(min(largest, (spec.clip_norm // boards) * spec.q_max / spec.bound + rounding) for boards in told)


@cache
def _tau(share_q8: int, shares: int) -> float:
    """KLS21, Proposition 14: how far a sum of ``shares`` discrete Gaussians is from one, word by word."""
    exponent = 2 * pi * pi * share_q8 / Q8
    return 10 * sum(exp(-exponent * k / (k + 1)) for k in range(1, shares))


def cost(spec: StreamSpec, told: Sequence[int], shares: int) -> float:
    """Return the rho of zCDP for one patient in a sum with the noise of ``shares`` boards; inf where there is no bound.

    The divergence of order a is at most a rho for all a >= 1, by the least of the three bounds of the proposition; the
    first of them, a Delta^2 / (2 n s2) + tau d, is at most a times its value at a = 1.

    >>> spec = StreamSpec(stream=2, n_words=72, bound=64, q_max=64, rounding=0, noise_q8=256 * 10**6, clip_norm=300)
    >>> round(cost(spec, [1], 10), 6), 300**2 / (2 * 10 * 10**6)
    (0.0045, 0.0045)
    """
    if spec.noise_q8 < _LEAST_SHARE_Q8 or shares < 1:
        return inf
    norm = sensitivity(spec, told)
    scale = sqrt(shares * spec.noise_q8 / Q8)
    tau, words = _tau(spec.noise_q8, shares), spec.n_words
    # Words are integers, so the sum of their absolute values is at most that of their squares.
    norm_1 = min(sqrt(words) * norm, norm * norm)
    ratio = norm / scale
    return min(
        ratio * ratio / 2 + tau * words,
        (ratio * ratio + 2 * norm_1 / scale * tau + tau * tau * words) / 2,
        (ratio + tau * sqrt(words)) ** 2 / 2,
    )


def epsilon(rho: float, delta: float) -> float:
    """Return the epsilon at ``delta`` of all that cost ``rho`` together (dp-accounting, by Renyi divergences)."""
    if rho == inf:
        return inf
    accountant = RdpAccountant()
    accountant.compose(ZCDpEvent(rho))
    return float(accountant.get_epsilon(delta))


@cache
def rho_within(epsilon_limit: float, delta: float) -> float:
    """Return the largest rho, to one part in 10^9, that keeps (epsilon_limit, delta).

    >>> epsilon(rho_within(1.0, 1e-6), 1e-6) <= 1.0
    True
    """
    low, high = 0.0, epsilon_limit  # epsilon exceeds rho: a rho of epsilon is too much
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        if epsilon(middle, delta) <= epsilon_limit:
            low = middle
        else:
            high = middle
    return low


def share_q8(spec: StreamSpec, told: Sequence[int], shares: int, rho: float) -> int:
    """Return the least noise_q8 of a share with which a sum of ``shares`` of them costs a patient at most ``rho``.

    Raises ValueError where no share that the wire can carry is enough.
    """

    def enough(noise_q8: int) -> bool:
        return cost(spec.model_copy(update={"noise_q8": noise_q8}), told, shares) <= rho

    low, high = _LEAST_SHARE_Q8 - 1, 2**32 - 1
    if not enough(high):
        raise ValueError(f"no noise that {shares} boards can add keeps rho {rho:.3g}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
