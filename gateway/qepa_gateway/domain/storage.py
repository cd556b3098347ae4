"""What the gateway still takes as the disk fills: what it cannot store it must not acknowledge; alerts come first."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from qepa_wire.frame import ALERT, HELLO, PADS


class Room(IntEnum):
    """Space left on the disk of the spool."""

    NONE = 0
    ALERTS = 1
    """Only for alerts, and the HELLO and PADS without which they cannot be read."""
    AMPLE = 2


ALERT_TYPES = (HELLO, ALERT, PADS)


@dataclass(frozen=True, slots=True)
class Limits:
    """``reserve_bytes`` of free space are left to alerts; the last quarter of them to the database itself.

    ``most_results`` and ``most_alerts`` bound what waits for the server.
    """

    reserve_bytes: int = 64 << 20
    most_results: int = 20_000
    most_alerts: int = 20_000


DEFAULT_LIMITS: Final = Limits()


def room(free_bytes: int, limits: Limits) -> Room:
    """Judge ``free_bytes`` of free disk."""
    if free_bytes < limits.reserve_bytes // 4:
        return Room.NONE
    return Room.ALERTS if free_bytes < limits.reserve_bytes else Room.AMPLE


def refusal(type_: int, space: Room, waiting_alerts: int, limits: Limits) -> str | None:
    """Return why a frame of ``type_`` is not taken, None if it is. Not acknowledged, its board sends it again."""
    if space is Room.NONE or (space is Room.ALERTS and type_ not in ALERT_TYPES):
        return "disk_full"
    if type_ == ALERT and waiting_alerts >= limits.most_alerts:
        return "spool_full"
    return None
