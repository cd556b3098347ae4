"""Data of patients, in memory only: each item for as long as the consent that it came under covers its board."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from .consents import ConsentDesk

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    consent_id: bytes
    item: T


class CareMemory(Generic[T]):
    """One item of each board. A reader never gets one that is not covered; :meth:`forget_uncovered` asks no reader."""

    def __init__(self, consents: ConsentDesk) -> None:
        self._consents = consents
        self._held: dict[int, _Held[T]] = {}

    def put(self, board: int, consent_id: bytes, item: T) -> None:
        """Hold ``item`` in place of the board's last one."""
        self._held[board] = _Held(consent_id, item)

    def get(self, board: int, now_ms: int, *, consent_id: bytes | None = None) -> T | None:
        """The item of ``board``; None without one that is covered, or if it came under another than ``consent_id``."""
        held = self._held.get(board)
        if held is None:
            return None
        if not self._consents.covers(held.consent_id, board, now_ms):
            del self._held[board]
            return None
        return held.item if consent_id in (None, held.consent_id) else None

    def items(self, now_ms: int) -> dict[int, T]:
        """All that is covered, by board."""
        self.forget_uncovered(now_ms)
        return {board: held.item for board, held in self._held.items()}

    def drop(self, board: int) -> None:
        """Nothing of ``board`` stays."""
        self._held.pop(board, None)

    def forget_uncovered(self, now_ms: int) -> None:
        """What has no consent any more goes: withdrawn, run out, or its board is elsewhere or another patient's."""
        for board, held in list(self._held.items()):
            if not self._consents.covers(held.consent_id, board, now_ms):
                del self._held[board]
