"""Alerts: opened, stored, acknowledged, reported until the server holds them."""

from dataclasses import dataclass

from qepa_uplink.messages import AlertReport
from qepa_wire.frame import Frame
from qepa_wire.payloads import decode_alert

from .boards import Board
from .domain.keyring import EpochKeys
from .server_link import ServerLink
from .transport import Clock

KIND_NAMES = {1: "asystole", 2: "lead_off"}


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """What the bedside shows."""

    kind: str
    since_ms: int


class Alerts:
    """Active alerts by board and kind, for the bedside; durable reports for the server."""

    def __init__(self, link: ServerLink, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._active: dict[tuple[int, int], ActiveAlert] = {}

    def take(self, board: Board, keys: EpochKeys, frame: Frame) -> None:
        """Handle an authentic ALERT frame; raises WireError for what does not decode."""
        alert = decode_alert(keys.alert, frame.seq, frame.payload)
        now_ms = self._clock()
        self._link.report(
            AlertReport(
                id=f"a-{board.number:08x}-{frame.seq}",
                board=board.number,
                kind=alert.kind,
                active=bool(alert.active),
                value=alert.value,
                t_ms=alert.t_ms,
                received_ms=now_ms,
            )
        )
        if alert.active:
            name = KIND_NAMES.get(alert.kind, str(alert.kind))
            self._active.setdefault((board.number, alert.kind), ActiveAlert(name, now_ms))
        else:
            self._active.pop((board.number, alert.kind), None)

    def of(self, board: int) -> list[ActiveAlert]:
        """Active alerts of a board."""
        return [alert for (number, _), alert in sorted(self._active.items()) if number == board]
