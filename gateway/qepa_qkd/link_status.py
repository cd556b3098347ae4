"""What a link end says of itself: its state, error rates, alarms and counters. Written by the program, read by the KME.

Threat level and stock give the recommended time between two rekeyings (`rekey_interval_s`) for gateway and boards.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from qepa_qkd.alarms import ATTACKS, Alarms

ThreatLevel = Literal["normal", "elevated", "high"]

REMEMBERED_S: Final = 600.0
"""How long after the last alarm the threat level stays elevated."""
REKEY_S: Final = {"normal": 30.0, "elevated": 15.0, "high": 10.0}
"""Key in stock was made before the alarm: the less each key protects, the less a compromise found late is worth."""
LONGEST_REKEY_S: Final = 300.0


@dataclass(slots=True)
class LinkStatus:
    """Live figures of one end. `state` is "starting", "running", "idle: <why>" or "no key: <reason>"."""

    state: str = "starting"
    qber: float | None = None
    """Error rate of the key basis in the newest block that was corrected, else of its test basis."""
    qber_key: float | None = None
    """Of the newest block that was corrected."""
    qber_test: float | None = None
    """Of the newest block that was sifted."""
    blocks: int = 0
    blocks_without_key: int = 0
    last_reason: str | None = None
    """Why the newest block without key ended so."""
    frames_lost: int = 0
    authentication_origin: Literal["courier", "pqc"] = "courier"
    """How the initial secret came."""
    now_s: Callable[[], float] = time.monotonic
    alarms: Alarms = field(init=False)
    """The program's own, and what the peer's blocks ended with."""

    def __post_init__(self) -> None:
        """Begin without alarms."""
        self.alarms = Alarms(self.now_s)

    def authentication(self, renewed_since: int | None) -> Literal["information-theoretic", "computational"]:
        """What the newest keys' authentication rests on; `renewed_since`: as `PadStore` has it."""
        return (
            "computational"
            if self.authentication_origin == "pqc" and renewed_since is None
            else "information-theoretic"
        )

    def threat_level(self) -> ThreatLevel:
        """High while an alarm stands that points to an attack, elevated during others and `REMEMBERED_S` after any."""
        if any(kind in self.alarms.active for kind in ATTACKS):
            return "high"
        last_s = self.alarms.last_s
        return "elevated" if last_s is not None and self.now_s() - last_s < REMEMBERED_S else "normal"

    def rekey_interval_s(self, stock_bits: int, capacity_bits: int) -> float:
        """Recommended seconds between two rekeyings.

        The threat level's, while the stock is at least half of its capacity; below that longer as the stock falls, so
        that alerts still find key, and `LONGEST_REKEY_S` when nothing is left.
        """
        shortest = REKEY_S[self.threat_level()]
        if 2 * stock_bits >= capacity_bits:
            return shortest
        return min(LONGEST_REKEY_S, shortest * capacity_bits / (2 * max(1, stock_bits)))
