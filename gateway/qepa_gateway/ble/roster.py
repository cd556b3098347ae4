"""Which devices hold the adapter's few connections: sightings and ends in, connections to make and to give up out.

Pure; times are ms of a clock that nobody sets. An advertisement tells nothing of a board, so whoever advertises the
service is connected once: what it then says it is decides whether it is a board of ours, and whether its frames are
answered, which takes their keys, decides whether it has proven it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

FRESH_MS: Final = 30_000
"""Who has not advertised for longer is away, or with another gateway."""
GRACE_MS: Final = 15_000
"""For so long a connection without an answered frame is left its place while others wait."""
STEADY_MS: Final = 3_600_000
"""Who was answered within this time is expected back."""
MAX_DEVICES: Final = 256

_AGAIN_MS, _AGAIN_LONGEST_MS = 500, 60_000
_STRANGER_MS, _STRANGER_LONGEST_MS = 60_000, 900_000
_PUNISHED_MS, _PUNISHED_LONGEST_MS = 10_000, 300_000
_MOST_DOUBLINGS = 12

ROTATION: Final = "rotation"
STRANGER: Final = "unknown_board"
PUNISHED: Final = frozenset({"flood", "garbage", "unanswered", "info"})
"""Ends that only a device that misbehaves causes."""


class Phase(Enum):
    """Of a device; all but IDLE take one of the adapter's connections."""

    IDLE = auto()
    CONNECTING = auto()
    OPEN = auto()
    CLOSING = auto()


@dataclass(slots=True)
class Device:
    """What is known of one address."""

    address: str
    seen_ms: int
    waits_since_ms: int
    due_ms: int
    phase: Phase = Phase.IDLE
    board: int | None = None  # what it said it is
    opened_ms: int = 0
    answered: bool = False  # in this connection
    answered_ms: int | None = None
    strikes: int = 0  # ends in a row without an answered frame, or with a fault of its own
    stranger: bool = False  # what it said it is, is not of ours


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to ``address`` now."""

    address: str


@dataclass(frozen=True, slots=True)
class Close:
    """Give the connection up, for ``reason``."""

    address: str
    reason: str


class Roster:
    """At most ``most`` connections, each for at least ``hold_ms`` if it is of use, to those who waited longest.

    serves: whether a board number is in the directory; uniform: jitter in [0, 1).
    """

    def __init__(self, *, most: int, hold_ms: int, serves: Callable[[int], bool], uniform: Callable[[], float]) -> None:
        self._most = most
        self._hold_ms = hold_ms
        self._serves = serves
        self._uniform = uniform
        self._devices: dict[str, Device] = {}
        self._strangers_turn = False

    def __len__(self) -> int:
        return len(self._devices)

    @property
    def connections(self) -> int:
        """Those that stand, begin or end."""
        return sum(device.phase is not Phase.IDLE for device in self._devices.values())

    @property
    def open(self) -> int:
        """Those that stand."""
        return sum(device.phase is Phase.OPEN for device in self._devices.values())

    def expects_boards(self, now_ms: int) -> bool:
        """Whether some board was here lately."""
        return any(
            device.answered_ms is not None and now_ms - device.answered_ms < STEADY_MS
            for device in self._devices.values()
        )

    def sighted(self, address: str, now_ms: int) -> None:
        """``address`` advertises our service. Beyond MAX_DEVICES new ones push out who is of least use."""
        device = self._devices.get(address)
        if device is not None:
            if device.phase is Phase.IDLE and now_ms - device.seen_ms >= FRESH_MS:
                device.waits_since_ms = now_ms
            device.seen_ms = now_ms
            return
        if len(self._devices) >= MAX_DEVICES:
            idle = [each for each in self._devices.values() if each.phase is Phase.IDLE]
            least = min(idle, key=lambda each: (each.answered_ms is not None, each.seen_ms, each.address))
            del self._devices[least.address]
        self._devices[address] = Device(address, now_ms, now_ms, now_ms)

    def has_work(self, now_ms: int) -> bool:
        """Whether somebody waits for whom there is a place."""
        return self.connections < self._most and self._choose(now_ms) is not None

    def plan(self, now_ms: int) -> Connect | Close | None:
        """Return the next thing to do, taken as begun; None if there is nothing."""
        for device in self._devices.values():
            if device.phase is Phase.OPEN and device.board is not None and not self._serves(device.board):
                device.phase = Phase.CLOSING
                return Close(device.address, STRANGER)
        chosen = self._choose(now_ms)
        if chosen is None:
            return None
        if self.connections < self._most:
            chosen.phase, chosen.answered = Phase.CONNECTING, False
            self._strangers_turn = chosen.answered_ms is not None
            return Connect(chosen.address)
        if any(device.phase is Phase.CLOSING for device in self._devices.values()):
            return None
        victim = self._victim(now_ms)
        if victim is None:
            return None
        victim.phase = Phase.CLOSING
        return Close(victim.address, ROTATION)

    def _choose(self, now_ms: int) -> Device | None:
        ready = [device for device in self._devices.values() if self._is_ready(device, now_ms)]
        # By turns, so that neither addresses made up by the thousand keep boards away, nor boards a new one.
        proven = [device for device in ready if device.answered_ms is not None]
        others = [device for device in ready if device.answered_ms is None]
        first, second = (others, proven) if self._strangers_turn else (proven, others)
        return min(first or second, key=lambda each: (each.waits_since_ms, each.address), default=None)

    def _is_ready(self, device: Device, now_ms: int) -> bool:
        if device.phase is not Phase.IDLE or now_ms - device.seen_ms >= FRESH_MS:
            return False
        # A board that is adopted meanwhile need not wait.
        adopted = device.stranger and device.board is not None and self._serves(device.board)
        return adopted or now_ms >= device.due_ms

    def _victim(self, now_ms: int) -> Device | None:
        """Who gives way: who has been of no use, then who was connected longest."""
        idlers: list[Device] = []
        others: list[Device] = []
        for device in self._devices.values():
            if device.phase is not Phase.OPEN:
                continue
            held_ms = now_ms - device.opened_ms
            if held_ms >= self._hold_ms:
                (others if device.answered else idlers).append(device)
            elif not device.answered and held_ms >= GRACE_MS:
                idlers.append(device)
        return min(idlers or others, key=lambda each: (each.opened_ms, each.address), default=None)

    def opened(self, address: str, board: int, now_ms: int) -> None:
        """The connection stands, to who says to be ``board`` of ours."""
        device = self._devices[address]
        device.phase, device.board, device.opened_ms = Phase.OPEN, board, now_ms
        device.stranger = False

    def answered(self, address: str, now_ms: int) -> None:
        """A frame that came from there was authentic."""
        device = self._devices[address]
        device.answered, device.answered_ms = True, now_ms

    def closed(self, address: str, now_ms: int, reason: str, board: int | None = None) -> None:
        """The connection has ended or did not come to stand; ``board`` is who it said to be, if it said so."""
        device = self._devices[address]
        answered, device.answered, device.phase = device.answered, False, Phase.IDLE
        device.waits_since_ms = now_ms
        if board is not None:
            device.board = board
        device.stranger = reason == STRANGER
        if reason == ROTATION:
            device.due_ms = now_ms
            return
        if reason == STRANGER:
            first_ms, longest_ms = _STRANGER_MS, _STRANGER_LONGEST_MS
        elif reason in PUNISHED:
            first_ms, longest_ms = _PUNISHED_MS, _PUNISHED_LONGEST_MS
        else:
            first_ms, longest_ms = _AGAIN_MS, _AGAIN_LONGEST_MS
            if answered:
                device.strikes = 0
        delay_ms = min(first_ms << min(device.strikes, _MOST_DOUBLINGS), longest_ms)
        device.strikes += 1
        device.due_ms = now_ms + round(delay_ms * (1 + self._uniform()) / 2)

    def forgive(self, now_ms: int) -> None:
        """Begin anew: nobody has to wait because of what was."""
        for device in self._devices.values():
            device.strikes, device.due_ms = 0, now_ms
