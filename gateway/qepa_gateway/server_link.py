"""The gateway's side of the uplink: session, directory, who may say what, and the outbox."""

import logging
from collections.abc import Callable
from typing import Any

from qepa_uplink import envelope, session
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Certificate, Identity, Subject, verify_certificate
from qepa_uplink.messages import (
    Ack,
    AlertReport,
    BedsideRelease,
    CareRevoke,
    Count,
    Directory,
    FirmwareRelease,
    Message,
    ModelRelease,
    PairOffer,
    PairWanted,
    RoundOpen,
    RoundStart,
    SessionUnknown,
    Welcome,
)
from qepa_uplink.topics import to_gateway, to_server

from .errors import Refused
from .refusals import Refusals
from .spool.database import Spool
from .spool.outbox import Outbox
from .spool.trust import TrustStore
from .transport import Clock, Outgoing, Send

_LOG = logging.getLogger(__name__)

FROM_SERVER = (
    Directory,
    RoundOpen,
    RoundStart,
    ModelRelease,
    BedsideRelease,
    FirmwareRelease,
    CareRevoke,
    SessionUnknown,
)
FROM_GATEWAYS = (PairOffer, PairWanted, Count)

Handle = Callable[[Any, str], None]  # (message, sender); the message has the type it is registered for

_REOPEN_FIRST_MS, _REOPEN_LONGEST_MS = 2000, 10_000
_QUIET_MS, _ASK_MS, _AWAY_MS = 60_000, 10_000, 90_000
"""So long without a word of the server it is asked for one, so often, and then it is away."""
_RESEND_MS = 2000
_RESEND_AT_ONCE = 32


class ServerLink:
    """Authenticates what comes, hands it to ``handlers`` by type, repeats what must arrive."""

    def __init__(
        self,
        identity: Identity,
        server: Subject,
        root_key: bytes,
        spool: Spool,
        send: Send,
        refusals: Refusals,
        clock: Clock,
        *,
        most_results: int,
    ) -> None:
        self.identity = identity
        self.root_key = root_key
        self._server = server
        self._spool = spool
        self._trust = TrustStore(spool)
        self.outbox = Outbox(spool, most_results)
        self._send = send
        self._refusals = refusals
        self._clock = clock
        self._certificates: dict[str, tuple[Certificate, Subject]] = {}
        for certificate in self._trust.certificates().values():
            try:
                self._learn(certificate)
            except UplinkError as error:  # it has expired since it was stored
                refusals.count(error.reason, "directory")
        self._session: session.Session | None = None
        self._welcomed = False
        self._reopen_at_ms = 0
        self._opened_at_ms = 0
        self._opening = b""
        self._heard_at_ms = self._asked_at_ms = clock()
        self._reopen_in_ms = _REOPEN_FIRST_MS
        self._sent_at_ms: dict[str, int] = {}
        self.handlers: dict[type[Message], Handle] = {
            Directory: self._take_directory,
            SessionUnknown: self._take_unknown,
            Ack: self._take_ack,
        }

    @property
    def welcomed(self) -> bool:
        """Whether the server has answered in the current session."""
        return self._welcomed

    @property
    def away(self) -> bool:
        """Whether the server has not answered, or is silent although it was asked."""
        return not self._welcomed or not 0 <= self._clock() - self._heard_at_ms < _AWAY_MS

    def receive(self, data: bytes) -> None:
        """Take one message; whatever is refused is counted."""
        try:
            if session.is_sealed(data):
                self._take_sealed(data)
            else:
                self._take_signed(data)
        except (UplinkError, Refused) as error:
            self._refusals.count(error.reason, "uplink")

    def subject(self, gateway: str) -> Subject:
        """The certified gateway of that name; raises Refused("certificate")."""
        if gateway == self.identity.name:
            return self.identity.subject
        known = self._certificates.get(gateway)
        if known is None or known[1].not_after_s * 1000 < self._clock():
            raise Refused("certificate", f"none of {gateway}")
        return known[1]

    def open_from(self, parsed: envelope.Envelope) -> Message:
        """Return the message of an envelope by a certified gateway; raises UplinkError or Refused."""
        return envelope.open_signed(parsed, self.subject(parsed.sender).sign_key)

    def renew(self) -> None:
        """Open a new session soon: its answer brings the directory, which a broker may have lost before."""
        if self._welcomed:
            self._welcomed = False
            self._reopen_at_ms = max(self._opened_at_ms + _REOPEN_FIRST_MS, self._clock())

    def sign(self, message: Message) -> bytes:
        """Return a signed envelope."""
        return envelope.sign(self.identity, message)

    def send_server(self, data: bytes) -> None:
        """Queue signed bytes for the server."""
        self._send(Outgoing(to_server(self.identity.name), data))

    def send_gateway(self, gateway: str, data: bytes) -> None:
        """Queue signed bytes for another gateway."""
        self._send(Outgoing(to_gateway(gateway), data))

    def send_sealed(self, message: Message) -> bool:
        """Queue a message under the session; False if there is none yet."""
        if self._session is None or not self._welcomed:
            return False
        self._send(Outgoing(to_server(self.identity.name), self._session.seal(message)))
        return True

    def submit(self, id_: str, message: Message) -> None:
        """Sign a durable message, store it, send it until the server acknowledges it."""
        self.outbox.put(id_, self.sign(message), alert=False, now_ms=self._clock())

    def report(self, report: AlertReport) -> None:
        """Store an alert, send it until the server acknowledges it."""
        self.outbox.put(report.id, report.model_dump_json().encode(), alert=True, now_ms=self._clock())

    def tick(self) -> None:
        """Open a session if there is none; send what waits."""
        now_ms = self._clock()
        if not self._welcomed and now_ms >= self._reopen_at_ms:
            self._open_session()
        elif self._welcomed and min(now_ms - self._heard_at_ms - _QUIET_MS, now_ms - self._asked_at_ms - _ASK_MS) >= 0:
            self._asked_at_ms = now_ms
            self.send_server(self._opening)  # of the session that is open: the server says Welcome once more
        for id_, is_alert in self.outbox.waiting(_RESEND_AT_ONCE):
            last_ms = self._sent_at_ms.get(id_)
            if last_ms is not None and 0 <= now_ms - last_ms < _RESEND_MS:
                continue
            if not is_alert:
                self.send_server(self.outbox.body(id_))
            elif not self.send_sealed(AlertReport.model_validate_json(self.outbox.body(id_))):
                continue
            self._sent_at_ms[id_] = now_ms

    def _open_session(self) -> None:
        number = int(self._spool.get("session_number") or 0) + 1
        self._spool.set("session_number", number)
        message, self._session = session.offer(self.identity, self._server.name, self._server.seal_key, number)
        self._opening = self.sign(message)
        self.send_server(self._opening)
        self._opened_at_ms = self._clock()
        self._reopen_at_ms = self._opened_at_ms + self._reopen_in_ms
        self._reopen_in_ms = min(2 * self._reopen_in_ms, _REOPEN_LONGEST_MS)

    def _take_sealed(self, data: bytes) -> None:
        if self._session is None:
            raise Refused("session", "none is open")
        message = self._session.open(data)
        self._heard_at_ms = self._clock()  # signed words prove less: whoever kept one may say it again
        if isinstance(message, Welcome):
            if not self._welcomed:
                _LOG.info("session open boards=%d", len(message.boards))
            self._welcomed = True
            self._reopen_in_ms = _REOPEN_FIRST_MS
        self._handle(message, self._server.name)

    def _take_signed(self, data: bytes) -> None:
        parsed = envelope.parse(data)
        if parsed.sender == self._server.name:
            message: Message = envelope.open_signed(parsed, self._server.sign_key)
            allowed: tuple[type[Message], ...] = FROM_SERVER
        else:
            message = self.open_from(parsed)
            allowed = FROM_GATEWAYS
        if not isinstance(message, allowed):
            raise Refused("role", f"{type(message).__name__} of {parsed.sender}")
        self._handle(message, parsed.sender)

    def _handle(self, message: Message, sender: str) -> None:
        handler = self.handlers.get(type(message))
        if handler is None:
            raise Refused("role", f"{type(message).__name__} of {sender}")
        handler(message, sender)

    def _take_unknown(self, message: SessionUnknown, _sender: str) -> None:
        if self._session is None or message.session != self._session.id:
            return  # about a session that is over
        self._welcomed = False
        self._reopen_at_ms = 0

    def _take_ack(self, message: Ack, _sender: str) -> None:
        with self._spool.transaction():
            self.outbox.drop(message.ids)
        for id_ in message.ids:
            self._sent_at_ms.pop(id_, None)

    def _take_directory(self, message: Directory, _sender: str) -> None:
        for certificate in message.certificates:
            try:
                known = self._certificates.get(self._name(certificate))
                if known is None or known[0].body != certificate.body:
                    self._learn(certificate)
            except UplinkError as error:
                self._refusals.count(error.reason, "directory")

    @staticmethod
    def _name(certificate: Certificate) -> str:
        # Unauthenticated: only to skip a certificate that is known byte by byte.
        try:
            return Subject.model_validate_json(certificate.body).name
        except ValueError as error:
            raise UplinkError("certificate", "body has another shape") from error

    def _learn(self, certificate: Certificate) -> None:
        subject = verify_certificate(certificate, self.root_key, role="gateway", now_s=self._clock() / 1000)
        known = self._certificates.get(subject.name)
        # An old directory sent again must not bring an older certificate back.
        if known is None or subject.not_after_s > known[1].not_after_s:
            self._certificates[subject.name] = (certificate, subject)
            self._trust.save_certificate(subject.name, certificate)
