"""The server as a whole, without sockets: messages and time in, messages out."""

import logging
from collections.abc import Iterable

from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import (
    Ack,
    AlertReport,
    AuditKept,
    CareRecord,
    CellVoid,
    ExplainedBeat,
    Findings,
    Partial,
    Ready,
    SessionOpen,
    Status,
    WaveRecord,
)
from qepa_uplink.releases import QuarantineOrder, SignedOrder
from qepa_wire.errors import WireError
from qepa_wire.payloads import care_consent

from .audit import chain
from .errors import RefusedError, ServerError
from .parts import Parts
from .sessions.hub import Received

_LOG = logging.getLogger(__name__)
_CARE_TICK_MS = 1000


class Hospital(Parts):
    """Routes what gateways say to the parts it concerns, and tells them that time passes."""

    _care_ticked_ms = 0

    def receive(self, gateway: str, data: bytes) -> None:
        """Take bytes from ``gateway``'s topic. Whatever they are, nothing is raised: it is done or counted."""
        try:
            received = self.hub.receive(gateway, data)
            if received is not None:
                self._route(received)
        except (UplinkError, WireError, ServerError) as error:
            self.refused[error.reason] += 1
            total = self.refused[error.reason]
            if total == 10 ** (len(str(total)) - 1):  # a flood does not fill the log; nor does what a record said
                _LOG.info("refused from %r: %s, %d by now", gateway[:32], error.reason, total)

    def receive_all(self, arrivals: Iterable[tuple[str, bytes]]) -> None:
        """Take several messages as :meth:`receive` does, in one transaction: a commit costs more than most messages."""
        with self.outbox.together():
            for gateway, data in arrivals:
                self.receive(gateway, data)

    def tick(self) -> None:
        """Do what time asks for; call it about ten times a second."""
        with self.outbox.together():
            self._tick()

    def _tick(self) -> None:
        self.hub.tick()
        self.rounds.tick()
        now_ms = self.clock_ms()
        if not 0 <= now_ms - self._care_ticked_ms < _CARE_TICK_MS:  # also when the clock was set back
            self._care_ticked_ms = now_ms
            self.care_keys.tick()
            self.tick_care()
            self.witnesses.tick(self.hub.connected)
            if self.warden.look(now_ms):
                self.ward.tell_parts()

    def end_quarantine(self, signed: SignedOrder) -> QuarantineOrder:
        """Carry out a person's order to let somebody into sums again, and return it.

        Raises UplinkError (certificate, signature, schema) or RefusedError (replay, time, older, quarantine).
        """
        given, now_ms = self.orders.open(signed, QuarantineOrder), self.clock_ms()
        order = given.order
        with self.store.write() as connection:
            self.orders.spend(connection, given)
            self.quarantine.end(connection, order.kind, order.name, now_ms, by=given.by, reason=order.reason)
        self.quarantine.drop(order.kind, order.name, now_ms)
        self.warden.forget()
        self.ward.tell_parts()
        return order

    def _route(self, received: Received) -> None:
        gateway, message = received.gateway, received.message
        match message:
            case SessionOpen():
                self.ward.welcome(gateway)
                self.care_keys.greet(gateway)
                self.witnesses.greet(gateway)
                self.delivery.greet(gateway)
                self.rounds.greet(gateway)
            case Status():
                self._on_status(gateway, message)
            case Ready():
                self.rounds.on_ready(gateway, message, received.raw)
            case Partial():
                self.rounds.on_partial(gateway, message, received.raw)
                self._acknowledge(gateway, message.id)
                self.rounds.advance()
            case CellVoid():
                self.rounds.on_cell_void(gateway, message)
                self._acknowledge(gateway, message.id)
                self.rounds.advance()
            case CareRecord():
                self._on_care(gateway, message)
            case WaveRecord():
                self.waves.accept(gateway, message)
            case Findings():
                self.findings.accept(gateway, message)
                self.foreseen.note(message)
            case ExplainedBeat():
                self.explained.accept(gateway, message)
            case AuditKept():
                self.witnesses.accept(gateway, message)
            case AlertReport():
                self._on_alert(gateway, message)
            case _:
                raise RefusedError("type", f"{message.type} is not for the server")

    def _acknowledge(self, gateway: str, message_id: str) -> None:
        self.hub.seal(gateway, Ack(ids=(message_id,)))

    def _on_status(self, gateway: str, status: Status) -> None:
        now_ms = self.clock_ms()
        self.health.note(gateway, status, now_ms)
        self.presence.note(gateway, status, now_ms)
        self.firmware.on_status(gateway, status)
        self.releases.on_status(gateway, status)
        self.ward.on_status(gateway, status)
        self.delivery.on_status(gateway, status)

    def _on_alert(self, gateway: str, report: AlertReport) -> None:
        try:
            self.alarms.accept(gateway, report)
        except RefusedError:
            self._acknowledge(gateway, report.id)  # in the audit: sending it again would change nothing
            raise
        self._acknowledge(gateway, report.id)

    def _on_care(self, gateway: str, record: CareRecord) -> None:
        consent_id = care_consent(record.payload)
        try:
            care = self.vitals.accept(gateway, record)
        except RefusedError as error:
            consent = self.consents.find(consent_id)
            if error.reason == "consent" and consent is not None and consent.has_ended(self.clock_ms()):
                self.care_keys.revoke(gateway, consent_id)
            raise
        self.beat_minutes.note(record.board, consent_id, care)
        self.care_keys.heard(gateway, consent_id, record.board)


def audit_head(hospital: Hospital) -> str:
    """Return the audit log's head as SEQ:HASH after verifying the chain; raises AuditError."""
    with hospital.store.read() as connection:
        chain.verify(connection)
        head = chain.head(connection)
    return f"{head.seq}:{head.hash.hex()}"
