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


class Alerts:
    """Active alerts by board and kind, for the bedside; durable reports for the server."""

    def __init__(self, spool: Spool, link: ServerLink, clock: Clock) -> None:
        self._spool = spool
        self._link = link
        self._clock = clock
        self._active: dict[tuple[int, int], ActiveAlert] = {}
        sealed = spool.get(_ACTIVE)
        if sealed is not None:
            for board, kind, since_ms in json.loads(spool.vault.open(sealed, _ACTIVE)):
                self._active[board, kind] = _active(kind, since_ms)

    def take(self, board: Board, keys: EpochKeys, frame: Frame) -> None:
        """Handle an authentic ALERT frame; raises WireError for what does not decode."""
        alert = unmask_alert(frame) if frame.suite == SUITE_OTP else decode_alert(keys.alert, frame.seq, frame.payload)
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
            self._active.setdefault((board.number, alert.kind), _active(alert.kind, now_ms))
        else:
            self._active.pop((board.number, alert.kind), None)
        record = [[board_, kind, active.since_ms] for (board_, kind), active in self._active.items()]
        self._spool.set(_ACTIVE, self._spool.vault.seal(json.dumps(record).encode(), _ACTIVE))

    def of(self, board: int) -> list[ActiveAlert]:
        """Active alerts of a board."""
        return [alert for (number, _), alert in sorted(self._active.items()) if number == board]


def _active(kind: int, since_ms: int) -> ActiveAlert:
    return ActiveAlert(KIND_NAMES.get(kind, str(kind)), since_ms)
