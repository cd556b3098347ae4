"""What a simulated hospital is made of, checked before anything starts."""

import random
from dataclasses import dataclass
from pathlib import Path

from ..errors import ToolError

MAX_BOARDS = 20_000
MAX_GATEWAYS = 250
_LEAST_GROUP = 5
USUAL_GROUP, USUAL_CELL = 10, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationPlan:
    """``dropouts``: share of the boards that stay silent, drawn anew each round, from the first on.

    ``dead_gateways``: so many lose power when a round starts and come back after it, others each round.
    ``epsilon``: privacy budget of each patient and purpose, spent by ``rounds`` rounds; 0: no noise, no budget.
    """

    boards: int = 1500
    gateways: int = 50
    patients: int = 200
    rounds: int = 5
    dropouts: float = 0.0
    dead_gateways: int = 0
    epsilon: float = 0.0
    delta: float = 1e-6
    seed: int = 1
    period_s: float = 10.0
    collect_within_s: float = 20.0
    settle_within_s: float = 5.0
    gateway_processes: int = 0  # 0: one for each five gateways
    out: Path | None = None

    def __post_init__(self) -> None:
        for name, value, most in (
            ("boards", self.boards, MAX_BOARDS),
            ("gateways", self.gateways, min(MAX_GATEWAYS, self.patients)),
            ("patients", self.patients, self.boards),
        ):
            if not 1 <= value <= most:
                raise ToolError(f"--{name} must be 1 to {most}, not {value}")
        if self.patients < _LEAST_GROUP:
            raise ToolError(f"no sum shows fewer than {_LEAST_GROUP} patients, there are {self.patients}")
        if self.rounds < 1:
            raise ToolError(f"--rounds must be at least 1, it is {self.rounds}")
        if not 0 <= self.dropouts < 1:
            raise ToolError(f"--dropouts is a share of the boards, 0 to below 1, not {self.dropouts}")
        if not 0 <= self.dead_gateways < self.gateways:
            raise ToolError(f"--dead-gateways must leave one of {self.gateways} alive")
        if not 0 <= self.epsilon <= 100:
            raise ToolError(f"--epsilon must be 0 to 100, not {self.epsilon}")
        if not 0 <= self.gateway_processes <= self.gateways:
            raise ToolError(f"--gateway-processes must be 1 to {self.gateways}, not {self.gateway_processes}")

    @property
    def processes(self) -> int:
        """Processes that the gateways share: a few, since a daemon waits for its disk while it commits."""
        return self.gateway_processes or -(-self.gateways // 5)

    @property
    def min_group(self) -> int:
        """Patients of a sum at least: the usual ten, fewer only where there are no ten."""
        return min(USUAL_GROUP, self.patients)

    @property
    def cell_target(self) -> int:
        """Patients of a cell."""
        return max(self.min_group, min(USUAL_CELL, self.patients))

    @property
    def gateway_names(self) -> list[str]:
        """Names of the gateways."""
        return [f"gw-{i}" for i in range(1, self.gateways + 1)]

    def patient_of(self, board: int) -> int:
        """Patient (from 0) who wears board number ``board`` (from 1)."""
        return (board - 1) * self.patients // self.boards

    def gateway_of(self, patient: int) -> str:
        """The gateway of patient number ``patient`` (from 0): neighbouring beds share one."""
        return f"gw-{patient * self.gateways // self.patients + 1}"

    def boards_of_patients(self) -> list[int]:
        """How many boards each patient wears."""
        worn = [0] * self.patients
        for board in range(1, self.boards + 1):
            worn[self.patient_of(board)] += 1
        return worn

    def is_silent(self, board: int, round_: int) -> bool:
        """Whether ``board`` stays silent in ``round_``: of the seed alone, so every process draws the same."""
        return random.Random(f"silent {self.seed} {board} {round_}").random() < self.dropouts  # noqa: S311 (no secret)

    def dead_in(self, round_: int) -> frozenset[str]:
        """Gateways that lose power when ``round_`` starts."""
        draw = random.Random(f"dead {self.seed} {round_}")  # noqa: S311 (no secret)
        return frozenset(draw.sample(self.gateway_names, self.dead_gateways))
