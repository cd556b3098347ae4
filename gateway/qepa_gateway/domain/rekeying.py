"""How often a board changes its link key: the KME's advice, spread over the pads that the board holds.

The KME recommends a time between two rekeyings by its stock and its threat level (qepa_qkd/link_status.py). A ratchet
step costs no key, so a board takes one that often. Pads came with the board from the dock and must last until it is
there again: what is left, but for a few that later boots need, is spread over that time.
"""

from dataclasses import dataclass
from typing import Final

from qepa_wire.payloads import MAX_RATCHET_STEPS, NO_REKEY

USUAL_S: Final = 30
"""What a KME at rest recommends; shorter means a threat, and pads then go as much faster."""
SHORTEST_S: Final = 5
LONGEST_S: Final = 300
RESERVED_PADS: Final = 2
"""Left to boots, each of which takes one."""
_RESERVED_STEPS: Final = 1024
"""Left to boots without a pad: a board that has none at all is silent until it is at the dock."""
_SAME: Final = 5, 4
"""Ages whose ratio is within 5 : 4 are the same: not every change of the stock is worth a frame."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds after which a key is ratcheted, and after which a pad is replaced by the next; NO_REKEY is never."""

    step_s: int
    pad_s: int

    def resembles(self, other: "Schedule") -> bool:
        """Whether it makes no difference worth telling."""
        return _near(self.step_s, other.step_s) and _near(self.pad_s, other.pad_s)


def schedule(advised_s: float | None, *, pads: int, steps: int, starved: bool, between_docks_s: int) -> Schedule:
    """Return how often a board with ``pads`` left, ``steps`` ratchet steps on from its last one, changes its key.

    ``advised_s``: the KME's advice, None while it does not answer: then no pad is begun, because its HELLO would wait.
    ``starved``: the key was ratcheted for want of a pad: one that came since is taken soon.
    """
    every_s = LONGEST_S if advised_s is None else min(LONGEST_S, max(SHORTEST_S, round(advised_s)))
    step_s = every_s if steps < MAX_RATCHET_STEPS - _RESERVED_STEPS else NO_REKEY
    spare = pads - RESERVED_PADS
    if advised_s is None or pads == 0:
        pad_s = NO_REKEY
    elif starved:
        pad_s = every_s
    elif spare <= 0:
        pad_s = NO_REKEY
    else:
        pad_s = max(every_s, between_docks_s * every_s // (USUAL_S * spare))
    return Schedule(step_s, pad_s)


def _near(a: int, b: int) -> bool:
    most, least = _SAME
    return least * max(a, b) <= most * min(a, b)
