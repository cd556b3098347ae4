"""What holds for everything that gateways bring of patients: in which order it counts, and who speaks in it."""

from qepa_uplink.messages import ExplainedBeat, Findings

from ..errors import RefusedError


class SequenceGuard:
    """Sealed records count once: their numbers rise for each board and consent."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, bytes], int] = {}

    def take(self, board: int, consent_id: bytes, seq: int) -> None:
        """Take the number of an authentic record; raises RefusedError("replay")."""
        if seq <= self._last.get((board, consent_id), -1):
            raise RefusedError("replay", f"record {seq} of {board:08x}")
        self._last[board, consent_id] = seq


def comes_late(received_ms: int, last_ms: int, now_ms: int) -> bool:
    """Tell whether a gateway had a message before its last one. A last one from ahead of the clock proves nothing."""
    return received_ms < last_ms <= now_ms


def source_of(message: Findings | ExplainedBeat) -> str:
    """Whose word it is, as it is shown and noted."""
    return f"gateway model {message.model} v{message.version}"
