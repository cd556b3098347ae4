"""Who speaks: authenticates every message of a gateway, keeps its session and certificate.

Transport and clock are passed in; nothing here knows what the messages mean beyond SessionOpen.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from qepa_uplink.envelope import Envelope, open_signed, peek, sign
from qepa_uplink.envelope import parse as parse_envelope
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Certificate, Identity, Subject, verify_certificate
from qepa_uplink.messages import Directory, Message, Sealed, SessionOpen, SessionUnknown, Signed
from qepa_uplink.session import Session, accept, is_sealed, session_id
from qepa_wire.primitives import equal, sha256

from ..audit import chain
from ..parsing import parse
from ..store.database import Store
from ..store.schema import gateways

Send = Callable[[str, bytes], None]
_DIRECTORY_EVERY_MS = 2000  # it is long, and goes to everyone: gateways that come one after another share one
_UNKNOWN_EVERY_MS = 1000  # a SessionUnknown costs a signature: not one for each message of a flood


@dataclass(frozen=True, slots=True)
class Received:
    """An authenticated message of ``gateway``; ``raw`` are its bytes, evidence where it was signed."""

    gateway: str
    message: Signed | Sealed
    raw: bytes


@dataclass(slots=True)
class _Gateway:
    certificate: Certificate
    subject: Subject
    number: int
    digest: bytes
    session: Session | None = None


class GatewayHub:
    """Sessions of all gateways. Numbers of sessions rise for ever, also over restarts of the server."""

    def __init__(
        self, *, store: Store, identity: Identity, root_key: bytes, clock_ms: Callable[[], int], send: Send
    ) -> None:
        self._store = store
        self._identity = identity
        self._root_key = root_key
        self._clock_ms = clock_ms
        self._send = send
        self._gateways: dict[str, _Gateway] = {}
        self._unknown_sent_ms: dict[str, int] = {}
        self._uninformed = False  # some gateways have an older directory
        self._informed_ms = -_DIRECTORY_EVERY_MS
        with store.read() as connection:
            for row in connection.execute(select(gateways)):
                certificate = Certificate.model_validate_json(row.certificate)
                subject = parse(Subject, certificate.body)
                self._gateways[row.name] = _Gateway(certificate, subject, row.session_number, row.session_digest)

    @property
    def names(self) -> tuple[str, ...]:
        """Every gateway that ever opened a session."""
        return tuple(sorted(self._gateways))

    @property
    def connected(self) -> frozenset[str]:
        """Gateways with a session since this start."""
        return frozenset(name for name, gateway in self._gateways.items() if gateway.session is not None)

    def holder(self, gateway: str) -> tuple[Certificate, Subject]:
        """The certificate of a gateway that ever opened a session, and what it says; raises UplinkError("sender")."""
        known = self._gateways.get(gateway)
        if known is None:
            raise UplinkError("sender", "not a gateway that opened a session")
        return known.certificate, known.subject

    def seal(self, gateway: str, message: Message) -> bool:
        """Send ``message`` sealed; returns False where there is no session (it will be sent when there is one)."""
        known = self._gateways.get(gateway)
        if known is None or known.session is None:
            return False
        self._send(gateway, known.session.seal(message))
        return True

    def receive(self, gateway: str, data: bytes) -> Received | None:
        """Return the authenticated message that came on ``gateway``'s topic.

        A SessionOpen is returned when it began a session, None when there is nothing to do. Raises UplinkError.
        """
        if is_sealed(data):
            return self._receive_sealed(gateway, data)
        envelope = parse_envelope(data)
        if envelope.sender != gateway:
            raise UplinkError("sender", "a signed message on another gateway's topic")
        known = self._gateways.get(gateway)
        if _claims_session_open(envelope):
            return self._open_session(gateway, envelope, data)
        if known is None:
            raise UplinkError("sender", "not a gateway that opened a session")
        if self._clock_ms() / 1000 > known.subject.not_after_s:
            raise UplinkError("certificate", f"that of {gateway} has expired")
        return Received(gateway, open_signed(envelope, known.subject.sign_key), data)

    def verify(self, envelope_bytes: bytes) -> Signed:
        """Return the message in a stored envelope of a known gateway, verified again."""
        envelope = parse_envelope(envelope_bytes)
        known = self._gateways.get(envelope.sender)
        if known is None:
            raise UplinkError("sender")
        return open_signed(envelope, known.subject.sign_key)

    def directory(self) -> bytes:
        """The signed Directory of all gateways."""
        certificates = tuple(self._gateways[name].certificate for name in self.names)
        return sign(self._identity, Directory(certificates=certificates))

    def _receive_sealed(self, gateway: str, data: bytes) -> Received:
        claimed = session_id(data)
        known = self._gateways.get(gateway)
        if known is None or known.session is None or not equal(known.session.id, claimed):
            if known is not None:
                self._say_unknown(gateway, claimed)
            raise UplinkError("session", f"{gateway} uses a session that is not held here")
        return Received(gateway, known.session.open(data), data)

    def _say_unknown(self, gateway: str, claimed: bytes) -> None:
        now_ms = self._clock_ms()
        if not 0 <= now_ms - self._unknown_sent_ms.get(gateway, -_UNKNOWN_EVERY_MS) < _UNKNOWN_EVERY_MS:
            self._unknown_sent_ms[gateway] = now_ms
            self._send(gateway, sign(self._identity, SessionUnknown(session=claimed)))

    def _open_session(self, gateway: str, envelope: Envelope, data: bytes) -> Received | None:
        claimed = peek(envelope)
        if not isinstance(claimed, SessionOpen):
            raise UplinkError("schema", "not a session opening")
        subject = verify_certificate(claimed.certificate, self._root_key, role="gateway", now_s=self._clock_ms() / 1000)
        if subject.name != gateway:
            raise UplinkError("certificate", f"{subject.name} speaks on the topic of {gateway}")
        message = open_signed(envelope, subject.sign_key)
        if not isinstance(message, SessionOpen):
            raise UplinkError("schema", "not a session opening")
        digest = sha256(data)
        known = self._gateways.get(gateway)
        if known is not None and message.number <= known.number:
            return self._repeated(gateway, known, message, digest, data)
        session = accept(self._identity, gateway, message)
        with self._store.write() as connection:
            values = {
                "certificate": message.certificate.model_dump_json(),
                "session_number": message.number,
                "session_digest": digest,
            }
            if known is None:
                connection.execute(insert(gateways).values(name=gateway, **values))
                chain.append(connection, self._clock_ms(), "gateway.first_session", gateway=gateway)
            else:
                connection.execute(update(gateways).where(gateways.c.name == gateway).values(**values))
        self._gateways[gateway] = _Gateway(message.certificate, subject, message.number, digest, session)
        self._send(gateway, self.directory())
        self._uninformed = self._uninformed or known is None or known.certificate != message.certificate
        return Received(gateway, message, data)

    def _repeated(
        self, gateway: str, known: _Gateway, message: SessionOpen, digest: bytes, data: bytes
    ) -> Received | None:
        """Judge a SessionOpen whose number is not new.

        A session is never accepted twice, because its counters would begin again under the same key. A live one is
        welcomed once more; one that a restart of the server has forgotten is answered by SessionUnknown.
        """
        if message.number < known.number or not equal(digest, known.digest):
            raise UplinkError("replay", f"session {message.number} of {gateway} is not new")
        if known.session is not None:
            self._send(gateway, self.directory())
            return Received(gateway, message, data)
        self._say_unknown(gateway, accept(self._identity, gateway, message).id)
        return None

    def tick(self) -> None:
        """Send everyone the directory if it has changed; call it often."""
        now_ms = self._clock_ms()
        if self._uninformed and not 0 <= now_ms - self._informed_ms < _DIRECTORY_EVERY_MS:
            self._uninformed, self._informed_ms = False, now_ms
            directory = self.directory()
            for name in self.names:
                self._send(name, directory)


def _claims_session_open(envelope: Envelope) -> bool:
    # A cheap look before a certificate is parsed; what it decides is only whose key to take.
    return envelope.body.startswith(b'{"type":"session_open"')
