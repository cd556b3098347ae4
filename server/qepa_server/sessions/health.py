"""What the audit log keeps of heartbeats: boards in trouble."""

from qepa_uplink.messages import Status

from ..audit import chain
from ..store.database import Store
from .presence import Heartbeat

_UNASKED_RESETS = frozenset({"watchdog", "brown_out"})


def note_health(store: Store, last: Heartbeat | None, status: Status, now_ms: int) -> None:
    """Note boards that enter or leave safe mode or a trial of firmware since ``last``, and resets nobody asked for."""
    before = {} if last is None else {item.board: (item.mode, item.reset_cause) for item in last.status.boards}
    for item in status.boards:
        mode, cause = before.get(item.board, ("normal", "unknown"))
        if item.mode == mode and (item.reset_cause == cause or item.reset_cause not in _UNASKED_RESETS):
            continue
        with store.write() as connection:
            chain.append(
                connection, now_ms, "board.health", board=item.board, mode=item.mode, reset_cause=item.reset_cause
            )
