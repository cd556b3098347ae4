"""Noise that lets a budget last for the rounds of a simulation, by the server's own accountant."""

from collections.abc import Mapping
from dataclasses import dataclass

from qepa_server.config import BudgetConfig, LearningConfig, StatisticsConfig
from qepa_server.privacy.accountant import rho_within, share_q8
from qepa_uplink.messages import StreamSpec
from qepa_wire.keystream import STREAM_STATISTICS, STREAM_UPDATE
from qepa_wire.quantizer import NEAREST
from qepa_wire.statistics import SCALE, WORDS

from ..errors import ToolError
from ..privacy.plan import LEARNING_CLIP, STATISTICS_CLIP
from .plan import SimulationPlan

CLIP_NORMS = {STREAM_STATISTICS: STATISTICS_CLIP, STREAM_UPDATE: LEARNING_CLIP}


@dataclass(frozen=True, slots=True)
class Noise:
    """Sections of the server's configuration, as TOML tables."""

    statistics: Mapping[str, float]
    learning: Mapping[str, float]
    budget: Mapping[str, float]


def noise_for(plan: SimulationPlan) -> Noise | None:
    """Return the least noise with which ``rounds`` rounds keep the budget; None where there is no budget.

    Raises ToolError where the wire carries no such noise.
    """
    if not plan.epsilon:
        return None
    learning = LearningConfig()
    layout = {
        STREAM_STATISTICS: (WORDS, SCALE, SCALE),
        STREAM_UPDATE: (learning.n_words, learning.bound, learning.q_max),
    }
    # A bound that no patient's boards can miss by rounding: the most boards that one wears.
    most = max(plan.boards_of_patients())
    rho = rho_within(plan.epsilon, plan.delta) / plan.rounds
    sections: dict[int, dict[str, float]] = {}
    for stream, (n_words, bound, q_max) in layout.items():
        norm = CLIP_NORMS[stream]
        spec = StreamSpec(
            stream=stream, n_words=n_words, bound=bound, q_max=q_max, rounding=NEAREST, noise_q8=0, clip_norm=norm
        )
        try:
            share = share_q8(spec, [most] * most, plan.min_group, rho * (1 - 1e-6))
        except ValueError as error:
            raise ToolError(f"--epsilon {plan.epsilon:g} is too little for {plan.rounds} rounds: {error}") from error
        sections[stream] = {"noise_variance": share / 256, "clip_norm": norm}
    StatisticsConfig.model_validate(sections[STREAM_STATISTICS])
    LearningConfig.model_validate(sections[STREAM_UPDATE])
    budget = {"epsilon": plan.epsilon, "delta": plan.delta}
    BudgetConfig.model_validate(budget)
    return Noise(sections[STREAM_STATISTICS], sections[STREAM_UPDATE], budget)
