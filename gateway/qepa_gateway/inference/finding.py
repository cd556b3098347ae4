"""What a model found, and what reads the care stream to find it."""

from dataclasses import dataclass
from typing import Protocol

Reading = tuple[int, int, int]  # code of qepa_uplink/readings.py, quality in percent or reason, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Of one board, by one model. t_ms: the board's time since boot ``boots`` that it is about."""

    model: str
    version: int
    boots: int
    t_ms: int
    readings: tuple[Reading, ...]


class Reader(Protocol):
    """Turns the care stream of boards into findings. It sees only boards with a consent in force."""

    def work(self) -> None:
        """Do a bounded part of what is due; called some ten times a second. Raises nothing."""

    def findings(self, board: int) -> tuple[Finding, ...]:
        """What is known now, unknown values with their reason; () where nothing was ever heard."""

    def forget(self, board: int) -> None:
        """The consent is over: nothing of this board stays."""
