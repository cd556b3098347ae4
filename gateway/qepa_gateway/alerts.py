"""Alerts: opened, stored, acknowledged, reported until the server holds them."""

import json
from dataclasses import dataclass

from qepa_uplink.messages import AlertReport
from qepa_wire.frame import SUITE_OTP, Frame
from qepa_wire.one_time import unmask_alert
from qepa_wire.payloads import (
    ALERT_APNOEA,
    ALERT_ASYSTOLE,
    ALERT_BATTERY_LOW,
    ALERT_GLUCOSE_HIGH,
    ALERT_GLUCOSE_LOW,
    ALERT_LEAD_OFF,
    ALERT_LOW_SPO2,
    ALERT_SENSOR_FAULT,
    decode_alert,
)

from .boards import Board
from .domain.keyring import EpochKeys
from .server_link import ServerLink
from .spool.database import Spool
from .transport import Clock

KIND_NAMES = {
    ALERT_ASYSTOLE: "asystole",
    ALERT_LEAD_OFF: "lead_off",
    ALERT_LOW_SPO2: "low_spo2",
    ALERT_GLUCOSE_LOW: "glucose_low",
    ALERT_GLUCOSE_HIGH: "glucose_high",
    ALERT_BATTERY_LOW: "battery_low",
    ALERT_SENSOR_FAULT: "sensor_fault",
    ALERT_APNOEA: "apnoea",
}
_ACTIVE = "active_alerts"


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """What the bedside shows."""

    kind: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class _Told:
    """What a board told last of a kind, by the numbers of its frames; ``since_ms`` is None once it has ended."""

    since_ms: int | None
    epoch: int
    seq: int


class Alerts:
    """Active alerts by board and kind, for the bedside; durable reports for the server."""

    def __init__(self, spool: Spool, link: ServerLink, clock: Clock) -> None:
        self._spool = spool
        self._link = link
        self._clock = clock
        self._told: dict[tuple[int, int], _Told] = {}  # by board and kind
        sealed = spool.get(_ACTIVE)
        if sealed is not None:
            for board, kind, since_ms, *place in json.loads(spool.vault.open(sealed, _ACTIVE)):
                # Earlier releases kept no place: what they have is active, and any frame is newer.
                self._told[board, kind] = _Told(since_ms, *(place or (0, 0)))

    def take(self, board: Board, keys: EpochKeys, frame: Frame) -> None:
        """Handle an authentic ALERT frame; raises WireError for what does not decode."""
        alert = unmask_alert(frame) if frame.suite == SUITE_OTP else decode_alert(keys.alert, frame.seq, frame.payload)
        now_ms = self._clock()
        self._link.report(
            AlertReport(
                id=f"a-{board.number:08x}-{frame.epoch}-{frame.seq}",
                board=board.number,
                kind=alert.kind,
                active=bool(alert.active),
                value=alert.value,
                t_ms=alert.t_ms,
                received_ms=now_ms,
            )
        )
        before = self._told.get((board.number, alert.kind))
        if before is not None and (before.epoch, before.seq) > (frame.epoch, frame.seq):
            return  # the board has told otherwise since; this one was under way for longer
        since_ms = (before and before.since_ms) or now_ms
        self._told[board.number, alert.kind] = _Told(since_ms if alert.active else None, frame.epoch, frame.seq)
        self._keep()

    def forget(self, board: int) -> None:
        """The board is no longer served here, or has another patient: nothing that it told is shown any more."""
        kept = {place: told for place, told in self._told.items() if place[0] != board}
        if len(kept) < len(self._told):
            self._told = kept
            self._keep()

    def of(self, board: int) -> list[ActiveAlert]:
        """Active alerts of a board."""
        return [
            ActiveAlert(KIND_NAMES.get(kind, str(kind)), told.since_ms)
            for (number, kind), told in sorted(self._told.items())
            if number == board and told.since_ms is not None
        ]

    def _keep(self) -> None:
        record = [[*place, told.since_ms, told.epoch, told.seq] for place, told in self._told.items()]
        self._spool.set(_ACTIVE, self._spool.vault.seal(json.dumps(record).encode(), _ACTIVE))
