"""From bytes on a topic to a decision: whose frame is it, is it authentic, was it there before."""

import re
from dataclasses import dataclass
from typing import Final

from qepa_wire.frame import MAC_BYTES, UP_TYPES, Frame, authenticate, parse
from qepa_wire.topics import board_up

from ..errors import Refused
from .keyring import EpochKeys
from .replay import Verdict, Window

_BOARD: Final = re.compile(r"/([0-9a-f]{8})/up\Z")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A parsed frame with the bytes its MAC covers; not yet authenticated."""

    frame: Frame
    data: bytes

    @property
    def mark(self) -> bytes:
        """The frame's MAC: what tells a duplicate from other bytes under the same number."""
        return self.data[-MAC_BYTES:]


def address(topic: str, data: bytes, gateway: str) -> Arrival:
    """Parse a frame from ``topic``; raises WireError, or Refused("topic") where topic and header disagree."""
    frame = parse(data, UP_TYPES)
    match = _BOARD.search(topic)
    if match is None or topic != board_up(gateway, int(match[1], 16)) or int(match[1], 16) != frame.board:
        raise Refused("topic", "board in the header is not the topic's")
    return Arrival(frame, data)


def admit(arrival: Arrival, keys: EpochKeys, window: Window) -> Verdict:
    """Return NEW or DUPLICATE for an authentic frame of ``keys``' epoch.

    Raises WireError("mac"), Refused("replay") for a number left of the window, Refused("seq") for other bytes under a
    number seen before.
    """
    authenticate(arrival.data, keys.mac_up)
    verdict = window.judge(arrival.frame.seq, arrival.mark)
    if verdict is Verdict.TOO_OLD:
        raise Refused("replay", f"seq {arrival.frame.seq}, highest {window.highest}")
    if verdict is Verdict.CONFLICT:
        raise Refused("seq", f"other bytes under seq {arrival.frame.seq}")
    return verdict
