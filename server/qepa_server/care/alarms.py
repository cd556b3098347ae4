"""Alarms, designed towards IEC 60601-1-8: durable, prioritised, and ended only by the report that ends them.

Acknowledging pauses the sound of an alarm and never ends it.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from qepa_uplink.messages import AlertReport
from qepa_wire.payloads import (
    ALERT_APNOEA,
    ALERT_ASYSTOLE,
    ALERT_BATTERY_LOW,
    ALERT_GLUCOSE_HIGH,
    ALERT_GLUCOSE_LOW,
    ALERT_LEAD_OFF,
    ALERT_LOW_SPO2,
    ALERT_SENSOR_FAULT,
)

from ..audit import chain
from ..enrolment.register import BoardRegister
from ..errors import RefusedError
from ..policy import BoardFacts, Stream, decide
from ..store.database import Store
from ..store.schema import alarms, alert_reports, is_key

HIGH, MEDIUM, LOW, TECHNICAL = RANKS = ("high", "medium", "low", "technical")
KINDS = {
    ALERT_ASYSTOLE: ("asystole", HIGH),
    ALERT_LEAD_OFF: ("lead_off", TECHNICAL),
    ALERT_LOW_SPO2: ("low_spo2", HIGH),
    ALERT_GLUCOSE_LOW: ("glucose_low", MEDIUM),  # high where it is severe
    ALERT_GLUCOSE_HIGH: ("glucose_high", MEDIUM),
    ALERT_BATTERY_LOW: ("battery_low", TECHNICAL),
    ALERT_SENSOR_FAULT: ("sensor_fault", TECHNICAL),
    ALERT_APNOEA: ("apnoea", HIGH),
}
GLUCOSE_LOW_SOON = "glucose_low_soon"  # foretold by a model at the bedside; nothing was measured yet
FORETOLD = {GLUCOSE_LOW_SOON: LOW}
# Level 2 hypoglycaemia: Battelino et al., Diabetes Care 2019; 42(8): 1593-1603 (below 3.0 mmol/L)
SEVERE_GLUCOSE_MG_DL = 54
SHOWN = 100
LATE_MS = 86_400_000  # by which a frame may have been overtaken
_PLACED = re.compile(r"a-[0-9a-f]{8}-(?:([0-9]{1,10})-)?([0-9]{1,10})")  # id of a report: board, epoch, frame


def ranked(report: AlertReport) -> tuple[str, str]:
    """Return (kind, priority) of a report of a kind that is known here; its value can raise the priority."""
    kind, priority = KINDS[report.kind]
    if report.kind == ALERT_GLUCOSE_LOW and report.active and report.value < SEVERE_GLUCOSE_MG_DL:
        priority = HIGH
    return kind, priority


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm; ``ended_ms`` is None while its cause lasts."""

    id: int
    board: int
    patient: str
    kind: str
    priority: str
    since_ms: int
    ended_ms: int | None
    acknowledged: bool


class AlarmLog:
    """All alarms, in the database."""

    def __init__(self, *, store: Store, register: BoardRegister, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._register = register
        self._clock_ms = clock_ms

    def accept(self, gateway: str, report: AlertReport) -> None:
        """Take a report; when this returns it is durable and can be acknowledged. Reports may come twice or swapped.

        Raises RefusedError("board" or "kind") for a report that this gateway can not make; that is in the audit then.
        """
        board = self._register.get(report.board)
        facts = None if board is None else BoardFacts(board.board, board.patient, board.gateway)
        verdict = decide(Stream.ALERT, "emergency", facts, (), self._clock_ms(), gateway=gateway)
        if board is None or not verdict.allowed:
            self._note_refused(gateway, report, "board")
            raise RefusedError("board", f"{report.board:08x} is not enrolled at {gateway}")
        if report.kind not in KINDS:
            self._note_refused(gateway, report, "kind")
            raise RefusedError("kind", f"alert of unknown kind {report.kind}")
        kind, priority = ranked(report)
        with self._store.write() as connection:
            key = (alert_reports.c.gateway == gateway) & (alert_reports.c.id == report.id)
            if connection.execute(select(alert_reports.c.id).where(key)).first():
                return
            connection.execute(
                insert(alert_reports).values(
                    gateway=gateway,
                    id=report.id,
                    board=report.board,
                    kind=kind,
                    active=report.active,
                    received_ms=report.received_ms,
                    t_ms=report.t_ms,
                )
            )
            if report.active:
                self._begin(connection, report, board.patient, kind, priority)
            else:
                self._end(connection, report, kind)

    def _note_refused(self, gateway: str, report: AlertReport, reason: str) -> None:
        with self._store.write() as connection:
            chain.append(
                connection,
                self._clock_ms(),
                "alert.refused",
                gateway=gateway,
                board=report.board,
                kind=report.kind,
                active=report.active,
                reason=reason,
            )

    def _begin(self, connection: Connection, report: AlertReport, patient: str, kind: str, priority: str) -> None:
        lasting = (alarms.c.board == report.board) & (alarms.c.kind == kind) & alarms.c.ended_ms.is_(None)
        known = connection.execute(select(alarms.c.id, alarms.c.priority).where(lasting)).first()
        if known is not None:
            if RANKS.index(priority) < RANKS.index(known.priority):
                self._raise(connection, known.id, report, kind, priority)
            return
        # The end may have come first: then this alarm is history at once, and shown as such.
        ended_ms = min(_told_later(connection, report, kind, active=False), default=None)
        result = connection.execute(
            insert(alarms)
            .values(
                board=report.board,
                patient=patient,
                kind=kind,
                priority=priority,
                since_ms=report.received_ms,
                ended_ms=ended_ms,
                acknowledged=False,
            )
            .returning(alarms.c.id)
        ).scalar_one()
        self._note(connection, "alarm.began", result, report, kind)

    def _raise(self, connection: Connection, number: int, report: AlertReport, kind: str, priority: str) -> None:
        """It has become worse: that is news, so it wants to be seen again."""
        connection.execute(update(alarms).where(alarms.c.id == number).values(priority=priority, acknowledged=False))
        self._note(connection, "alarm.raised", number, report, kind)

    def _end(self, connection: Connection, report: AlertReport, kind: str) -> None:
        if _told_later(connection, report, kind, active=True):
            return  # it has begun again since
        lasting = (alarms.c.board == report.board) & (alarms.c.kind == kind) & alarms.c.ended_ms.is_(None)
        for row in connection.execute(select(alarms.c.id, alarms.c.since_ms).where(lasting)).all():
            ended_ms = max(row.since_ms, report.received_ms)  # a gateway's clock may have been set back meanwhile
            connection.execute(update(alarms).where(alarms.c.id == row.id).values(ended_ms=ended_ms))
            self._note(connection, "alarm.ended", row.id, report, kind)

    def _note(self, connection: Connection, event: str, number: int, report: AlertReport, kind: str) -> None:
        chain.append(connection, self._clock_ms(), event, alarm=number, board=report.board, kind=kind, report=report.id)

    def lasting(self, kind: str) -> list[int]:
        """Boards with a lasting alarm of this kind."""
        with self._store.read() as connection:
            found = select(alarms.c.board).where((alarms.c.kind == kind) & alarms.c.ended_ms.is_(None))
            return list(connection.execute(found).scalars())

    def begin_foretold(self, board: int, kind: str, source: str) -> None:
        """Begin an alarm of a kind of FORETOLD, unless one lasts or the board is not enrolled."""
        now_ms = self._clock_ms()
        enrolled = self._register.get(board)
        if enrolled is None or board in self.lasting(kind):
            return
        with self._store.write() as connection:
            number = connection.execute(
                insert(alarms)
                .values(
                    board=board,
                    patient=enrolled.patient,
                    kind=kind,
                    priority=FORETOLD[kind],
                    since_ms=now_ms,
                    ended_ms=None,
                    acknowledged=False,
                )
                .returning(alarms.c.id)
            ).scalar_one()
            chain.append(connection, now_ms, "alarm.began", alarm=number, board=board, kind=kind, report=source)

    def end_foretold(self, board: int, kind: str, why: str) -> None:
        """End it, if one lasts."""
        now_ms = self._clock_ms()
        lasting = (alarms.c.board == board) & (alarms.c.kind == kind) & alarms.c.ended_ms.is_(None)
        with self._store.write() as connection:
            for number in connection.execute(select(alarms.c.id).where(lasting)).scalars().all():
                connection.execute(update(alarms).where(alarms.c.id == number).values(ended_ms=now_ms))
                chain.append(connection, now_ms, "alarm.ended", alarm=number, board=board, kind=kind, report=why)

    def end_all(self, connection: Connection, board: int, why: str) -> None:
        """End what lasts of a board that nobody wears any more, or another patient: no report of its can."""
        now_ms = self._clock_ms()
        lasting = (alarms.c.board == board) & alarms.c.ended_ms.is_(None)
        for row in connection.execute(select(alarms.c.id, alarms.c.kind).where(lasting)).all():
            connection.execute(update(alarms).where(alarms.c.id == row.id).values(ended_ms=now_ms))
            chain.append(connection, now_ms, "alarm.ended", alarm=row.id, board=board, kind=row.kind, report=why)

    def acknowledge(self, number: int) -> None:
        """Note that somebody saw the alarm; it lasts while its cause does. Raises RefusedError("alarm")."""
        with self._store.write() as connection:
            found = select(alarms).where(alarms.c.id == number)
            row = connection.execute(found).first() if is_key(number) else None
            if row is None:
                raise RefusedError("alarm", f"no alarm {number}")
            if not row.acknowledged:
                connection.execute(update(alarms).where(alarms.c.id == number).values(acknowledged=True))
                chain.append(connection, self._clock_ms(), "alarm.acknowledged", alarm=number, board=row.board)

    def newest(self) -> list[Alarm]:
        """All lasting alarms and the newest ended ones, newest first."""
        with self._store.read() as connection:
            lasting = select(alarms).where(alarms.c.ended_ms.is_(None))
            ended = select(alarms).where(alarms.c.ended_ms.is_not(None)).order_by(alarms.c.id.desc()).limit(SHOWN)
            rows = [*connection.execute(lasting), *connection.execute(ended)]
        found = [
            Alarm(r.id, r.board, r.patient, r.kind, r.priority, r.since_ms, r.ended_ms, r.acknowledged) for r in rows
        ]
        return sorted(found, key=lambda alarm: alarm.id, reverse=True)


def _told_later(connection: Connection, report: AlertReport, kind: str, *, active: bool) -> list[int]:
    """When the board was heard to begin or end (``active``) this kind after it told ``report``: ms.

    Its frames are numbered within epochs, and gateways put both numbers into a report's id: that order holds whatever
    clocks say, and though one came late because the board had to say it twice. A board whose counters began anew may
    have lower ones than before, so that what came long before does not count as later.
    """
    found = select(alert_reports.c.id, alert_reports.c.received_ms).where(
        alert_reports.c.board == report.board,
        alert_reports.c.kind == kind,
        alert_reports.c.active.is_(active),
        alert_reports.c.received_ms >= report.received_ms - LATE_MS,
    )
    mine = _place(report.id)
    return [
        row.received_ms
        for row in connection.execute(found)
        if _is_later(_place(row.id), mine, by_time=row.received_ms > report.received_ms)
    ]


def _is_later(place: tuple[int, int] | None, than: tuple[int, int] | None, *, by_time: bool) -> bool:
    return by_time if place is None or than is None else place > than


def _place(report_id: str) -> tuple[int, int] | None:
    """Epoch and number of the frame that a report was made of; earlier gateways named no epoch."""
    placed = _PLACED.fullmatch(report_id)
    return None if placed is None else (int(placed[1] or 0), int(placed[2]))
