"""What a model found, and what reads the care stream to find it."""

from dataclasses import dataclass
from typing import Literal, Protocol

Reading = tuple[int, int, int]  # code of qepa_uplink/readings.py, quality in percent or reason, value


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Of one board, by one model. t_ms: the board's time since boot ``boots`` that it is about."""

    model: str
    version: int
    boots: int
    t_ms: int
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a beat of one board got its class, in the units of ExplainedBeat (qepa_uplink/messages/care.py).

    after_ms: how much of the signal after its R peak was here by then.
    """

    model: str
    version: int
    boots: int
    t_ms: int
    after_ms: int
    answer: Literal["S", "V", "F"]
    probabilities: tuple[int, ...]
    shares: tuple[int, ...]
    numbers: tuple[int, ...]
    beat: bytes
    usual: bytes


class Reader(Protocol):
    """Turns the care stream of boards into findings. It sees only boards with a consent in force."""

    def work(self) -> None:
        """Do a bounded part of what is due; called some ten times a second. Raises nothing."""

    def findings(self, board: int) -> tuple[Finding, ...]:
        """What is known now, unknown values with their reason; () where nothing was ever heard."""

    def forget(self, board: int) -> None:
        """The consent is over: nothing of this board stays."""
