"""Budgets: how much of a patient each purpose may show."""

from dataclasses import dataclass
from math import inf

from qepa_uplink.messages import Purpose
from qepa_wire.keystream import STREAM_STATISTICS, STREAM_UPDATE

from .accountant import rho_within

PURPOSES: dict[int, Purpose] = {STREAM_STATISTICS: "statistics", STREAM_UPDATE: "learning"}


@dataclass(frozen=True, slots=True)
class Budget:
    """(epsilon, delta) of a patient for one purpose in each period. ``epsilon`` 0: counted, not limited.

    Periods are counted from the Unix epoch; ``period_ms`` 0 is one that never ends. A patient who stays for k periods
    is protected by k budgets together, not by one.
    """

    epsilon: float
    delta: float
    period_ms: int

    @property
    def rho(self) -> float:
        """The budget as zCDP; inf if there is no limit."""
        return rho_within(self.epsilon, self.delta) if self.epsilon else inf

    def period(self, now_ms: int) -> int:
        """Return the number of the present period."""
        return now_ms // self.period_ms if self.period_ms else 0
