"""Tells boards how often to change their link key (qepa_wire/PROTOCOL.md, section 10.9), and watches that they do."""

from dataclasses import dataclass

from qepa_wire.frame import REKEY
from qepa_wire.payloads import NO_REKEY, encode_rekey

from .boards import Board, Boards
from .domain.rekeying import Schedule, schedule
from .transport import Clock

BETWEEN_DOCKS_S = 16 * 3600
_CHECK_EVERY_MS = 1000
_AGAIN_AFTER_MS = 60_000
"""An epoch this much older than its board was told to let it grow: what was said may be lost."""


@dataclass(slots=True)
class _Told:
    schedule: Schedule
    at_ms: int


class Rekeying:
    """Follows ``advised_s``, the KME's recommended seconds between two rekeyings; None while it does not answer."""

    def __init__(self, boards: Boards, clock: Clock, *, between_docks_s: int = BETWEEN_DOCKS_S) -> None:
        self._boards = boards
        self._clock = clock
        self._between_docks_s = between_docks_s
        self._told: dict[int, _Told] = {}
        self._begun_ms: dict[int, tuple[int, int]] = {}  # board: epoch, since when this process knows it
        self._checked_ms = 0
        self._linked = False
        self.advised_s: float | None = None
        self.epochs = 0
        """Epochs that boards began since this process started."""

    def greet(self, board: Board) -> None:
        """A board said HELLO. After a boot it has forgotten what it was told."""
        current = board.ring.current
        if current is None:
            return
        epoch, _ = self._begun_ms.get(board.number, (0, 0))
        if epoch != current.epoch:
            self.epochs += 1
            self._begun_ms[board.number] = current.epoch, self._clock()
        if board.booted:
            board.booted = False
            self._told.pop(board.number, None)
        self._judge(board)
        self._tell(board)

    def tick(self) -> None:
        """Tell boards whose schedule is another now, or who do not keep to it."""
        now_ms = self._clock()
        if 0 <= now_ms - self._checked_ms < _CHECK_EVERY_MS:
            return
        self._checked_ms = now_ms
        self._linked = self._linked or self.advised_s is not None
        for board in self._boards.served():
            self._judge(board)
            if board.is_online(now_ms):
                self._tell(board)

    def schedule_of(self, board: int) -> Schedule | None:
        """What a board was told last."""
        told = self._told.get(board)
        return None if told is None else told.schedule

    def _judge(self, board: Board) -> None:
        current = board.ring.current
        steps = 0 if current is None else current.reference.steps
        if not steps:
            board.starved = False
        elif not board.row.pads:
            board.starved = True
        board.ratchets_by_plan = self.advised_s is not None and not board.starved

    def _tell(self, board: Board) -> None:
        current, now_ms = board.ring.current, self._clock()
        if current is None or not self._linked:
            return  # a gateway that never had a link leaves boards to what the dock set
        wanted = schedule(
            self.advised_s,
            pads=board.row.pads,
            steps=current.reference.steps,
            starved=board.starved,
            between_docks_s=self._between_docks_s,
        )
        told = self._told.get(board.number)
        if told is not None and wanted.resembles(told.schedule) and not self._is_overdue(board, told, now_ms):
            return
        self._told[board.number] = _Told(wanted, now_ms)
        self._boards.send_down(board, REKEY, encode_rekey(wanted.step_s, wanted.pad_s))

    def _is_overdue(self, board: Board, told: _Told, now_ms: int) -> bool:
        _, begun_ms = self._begun_ms.setdefault(board.number, (board.ring.highest, now_ms))
        if told.schedule.step_s == NO_REKEY:
            return False
        limit_ms = 2000 * told.schedule.step_s + _AGAIN_AFTER_MS
        return now_ms - max(begun_ms, told.at_ms) > limit_ms
