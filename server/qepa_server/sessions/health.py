"""What the audit log keeps of heartbeats: boards in trouble."""

from collections.abc import Callable

from qepa_uplink.messages import BoardStatus, Status

from ..audit import chain
from ..store.database import Store

AGAIN_MS = 5000  # between two entries of one board: who says that it comes and goes does not fill the log
_UNASKED_RESETS = frozenset({"watchdog", "brown_out"})


class BoardHealth:
    """Notes boards that enter or leave safe mode or a trial of firmware, and resets nobody asked for.

    ``serves(gateway, board)``: whether the gateway may speak of that board.
    """

    def __init__(self, store: Store, serves: Callable[[str, int], bool]) -> None:
        self._store = store
        self._serves = serves
        self._known: dict[int, tuple[str, str]] = {}  # mode and cause of the last reset, as they were noted or not
        self._noted_ms: dict[int, int] = {}

    def note(self, gateway: str, status: Status, now_ms: int) -> None:
        """Take a heartbeat. What comes too soon after a board's last entry is noted when it still holds later."""
        for item in status.boards:
            if self._serves(gateway, item.board):
                self._note(item, now_ms)

    def _note(self, item: BoardStatus, now_ms: int) -> None:
        mode, cause = self._known.get(item.board, ("normal", "unknown"))
        if item.mode != mode or (item.reset_cause != cause and item.reset_cause in _UNASKED_RESETS):
            noted_ms = self._noted_ms.get(item.board)
            if noted_ms is not None and 0 <= now_ms - noted_ms < AGAIN_MS:
                return
            self._noted_ms[item.board] = now_ms
            with self._store.write() as connection:
                chain.append(
                    connection, now_ms, "board.health", board=item.board, mode=item.mode, reset_cause=item.reset_cause
                )
        self._known[item.board] = item.mode, item.reset_cause
