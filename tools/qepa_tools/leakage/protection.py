"""What a ward is configured to: no privacy, or noise and clipping for a budget, as `qepa privacy plan` finds them."""

from dataclasses import dataclass
from math import ceil, expm1, sqrt

import numpy as np
from scipy.stats import norm

from qepa_server.config import LearningConfig
from qepa_server.privacy.accountant import cost
from qepa_server.privacy.accountant import epsilon as epsilon_of
from qepa_uplink.messages import StreamSpec
from qepa_wire.discrete_gaussian import Q8
from qepa_wire.keystream import STREAM_UPDATE
from qepa_wire.quantizer import NEAREST

from ..attacks.batch_learning import Ints, clip_l2_rows
from ..errors import ToolError
from ..privacy.plan import choices
from .membership import Floats

DELTA = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """Settings of the update stream; ``epsilon`` 0: neither noise nor a bound on a patient, as wards begin.

    ``epsilon``: budget at DELTA for all rounds, in the smallest cell that opens. ``noise_q8``: variance of one board's
    share, times 256, in quantizer steps.
    """

    epsilon: float
    rounds: int
    min_group: int
    q_max: int
    clip_norm: int
    noise_q8: int

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"epsilon {self.epsilon:g}" if self.epsilon else "none"

    @property
    def spec(self) -> StreamSpec:
        """The stream as a round announces it."""
        learning = LearningConfig()
        return StreamSpec(
            stream=STREAM_UPDATE,
            n_words=learning.n_words,
            bound=learning.bound,
            q_max=self.q_max,
            rounding=NEAREST,
            noise_q8=self.noise_q8,
            clip_norm=self.clip_norm,
        )

    @property
    def learning(self) -> LearningConfig:
        """The server's configuration of it."""
        return LearningConfig(q_max=self.q_max, clip_norm=self.clip_norm, noise_variance=self.noise_q8 / Q8)

    def rho(self, boards: int) -> float:
        """Return what all rounds cost a patient of one board in cells of ``boards``, in zCDP; inf without noise."""
        return self.rounds * cost(self.spec, [1], boards)

    def epsilon_charged(self, boards: int) -> float:
        """Return the accountant's epsilon at DELTA for that; inf without noise."""
        return epsilon_of(self.rho(boards), DELTA)

    def words(self, updates: Ints) -> Floats:
        """Return what boards would seal of updates (..., words), noise aside: clipped, in quantizer steps."""
        held = clip_l2_rows(updates, self.clip_norm) if self.clip_norm else updates
        words: Floats = np.rint(held * (self.q_max / LearningConfig().bound))
        return words

    def noise(self, boards: int, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """Return sums of the shares of ``boards``: normal and rounded, a stand-in for the boards' exact draws.

        At a standard deviation of hundreds no test of this size could tell the two.
        """
        if not self.noise_q8:
            return np.zeros(shape)
        return np.rint(rng.normal(0.0, sqrt(boards * self.noise_q8 / Q8), shape))


def protections(epsilons: list[float], rounds: int, min_group: int) -> list[Protection]:
    """Return the settings for each budget, 0 for none; ToolError where no noise that the wire carries keeps one."""
    made = []
    for budget in epsilons:
        if not budget:
            q_max = LearningConfig().q_max
            made.append(Protection(epsilon=0, rounds=rounds, min_group=min_group, q_max=q_max, clip_norm=0, noise_q8=0))
            continue
        (found,) = choices("learning", epsilon=budget, delta=DELTA, rounds=[rounds], groups=[min_group], patients=200)
        if not found.q_max:
            raise ToolError(f"No noise that the wire carries keeps epsilon {budget:g} over {rounds} rounds.")
        made.append(
            Protection(
                epsilon=budget,
                rounds=rounds,
                min_group=min_group,
                q_max=found.q_max,
                clip_norm=found.clip_norm,
                noise_q8=ceil(Q8 * found.noise_variance),
            )
        )
    return made


def largest_advantage(epsilon: float, delta: float = DELTA) -> float:
    """Return the largest TPR - FPR that (epsilon, delta) leaves anyone: (e^eps - 1 + 2 delta) / (e^eps + 1).

    Kairouz, Oh and Viswanath, The Composition Theorem for Differential Privacy, ICML 2015, from their region of
    error rates.

    >>> round(largest_advantage(1.0, 0.0), 4), largest_advantage(0.0, 0.0)
    (0.4621, 0.0)
    """
    if epsilon > 700:
        return 1.0
    return min(1.0, (expm1(epsilon) + 2 * delta) / (expm1(epsilon) + 2))


def gaussian_advantage(rho: float) -> float:
    """Return the largest TPR - FPR against a Gaussian mechanism that costs ``rho``: 2 Phi(mu / 2) - 1, mu^2 = 2 rho.

    Dong, Roth and Su, Gaussian Differential Privacy, 2022. The boards' noise is a sum of discrete Gaussians, as near to
    one as the accountant's bound to rho = Delta^2 / (2 sigma^2).
    """
    return float(2 * norm.cdf(sqrt(rho / 2)) - 1) if rho != float("inf") else 1.0
