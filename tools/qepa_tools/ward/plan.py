"""What a ward is made of, checked before anything starts."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import ToolError

MAX_BOARDS = 300
MAX_GATEWAYS = 16
MAX_HIDDEN = 10  # 224 words of at most 240


@dataclass(frozen=True, slots=True)
class Unplug:
    """Board number ``board`` (from 1) loses power in round ``round`` (from 1) of this run and comes back after it."""

    board: int
    round: int

    @classmethod
    def parse(cls, text: str) -> "Unplug":
        """Parse ``BOARD@ROUND``."""
        match = re.fullmatch(r"(\d+)@(\d+)", text)
        if match is None:
            raise ToolError(f"--unplug takes BOARD@ROUND, such as 3@2, not {text!r}")
        return cls(int(match[1]), int(match[2]))


@dataclass(frozen=True, slots=True)
class WardPlan:
    """A ward. ``rounds`` 0 runs until stopped; ``period_s`` is ward time between rounds, not wall time.

    ``hidden``: units of the model's hidden layer, 0 for softmax regression.
    """

    boards: int = 12
    gateways: int = 1
    rounds: int = 0
    speed: float = 1.0
    data: Path | None = None
    seed: int = 1
    period_s: float = 30.0
    page_port: int | None = 8470
    state: Path | None = None
    unplug: Unplug | None = None
    pads_per_board: int = 8
    block_bytes: int = 512  # of the one-time block that the dock keeps on each board, twelve alerts' worth
    rekey_s: int = 30
    mains_hz: int = 60
    hidden: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.boards <= MAX_BOARDS:
            raise ToolError(f"--boards must be 1 to {MAX_BOARDS}, not {self.boards}")
        if not 1 <= self.gateways <= min(MAX_GATEWAYS, self.boards):
            raise ToolError(f"--gateways must be 1 to {min(MAX_GATEWAYS, self.boards)}, not {self.gateways}")
        if not 0.1 <= self.speed <= 100:
            raise ToolError(f"--speed must be 0.1 to 100, not {self.speed}")
        if self.rounds < 0:
            raise ToolError(f"--rounds must not be negative, it is {self.rounds}")
        if self.mains_hz not in (50, 60):
            raise ToolError(f"--mains is 50 or 60 Hz, not {self.mains_hz}")
        if not 0 <= self.hidden <= MAX_HIDDEN:
            raise ToolError(f"--hidden must be 0 to {MAX_HIDDEN}, not {self.hidden}")
        if self.unplug and self.unplug.board > self.boards:
            raise ToolError(f"--unplug names board {self.unplug.board}, but there are {self.boards}")

    @property
    def directory(self) -> Path:
        """Where this ward keeps what must survive a restart: one folder for each make of ward."""
        if self.state is not None:
            return self.state
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        source = "" if self.data is None else "-" + self.data.resolve().name
        layer = f"-hidden{self.hidden}" if self.hidden else ""
        return base / "qepa" / f"ward-{self.boards}x{self.gateways}-seed{self.seed}{layer}{source}"

    def gateway_names(self) -> list[str]:
        """Names of the gateways."""
        return [f"gw-{i}" for i in range(1, self.gateways + 1)]

    def gateway_of(self, board: int) -> str:
        """The gateway of board number ``board`` (from 1): neighbouring beds share one."""
        return f"gw-{(board - 1) * self.gateways // self.boards + 1}"
