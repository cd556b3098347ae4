"""Noise for a budget that is to last for a course of learning, by the server's own accountant."""

from dataclasses import replace

from qepa_server.planning import plan_rounds
from qepa_server.privacy.accountant import rho_within
from qepa_wire.discrete_gaussian import Q8

from ..errors import ToolError
from ..privacy.plan import COARSEST, finest_quantizer
from .training import Course

_INSIDE = 1 - 1e-6  # of the budget: the account adds floats


def under_budget(course: Course, epsilon: float, clip_norm: int) -> Course:
    """Return ``course`` with the least noise that keeps (epsilon, course.delta) over all its rounds.

    The unit is a patient with one board; the smallest cell that may open pays. Raises ToolError where no noise that the
    wire carries is enough.
    """
    rho = rho_within(epsilon, course.delta) / course.rounds * _INSIDE
    spec = plan_rounds(course.config).streams[1].model_copy(update={"clip_norm": clip_norm, "noise_q8": 0})
    found = finest_quantizer(spec, course.min_group, rho, finest=course.learning.bound, coarsest=COARSEST)
    if found is None:
        raise ToolError(f"No noise that the wire carries keeps epsilon {epsilon:g} for {course.rounds} rounds.")
    q_max, noise_q8 = found
    learning = course.learning.model_copy(
        update={"q_max": q_max, "clip_norm": clip_norm, "noise_variance": noise_q8 / Q8}
    )
    return replace(course, learning=learning, epsilon=epsilon)
