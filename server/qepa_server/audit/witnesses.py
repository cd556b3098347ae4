"""Gateways keep the log's head: each is told how the log grew since the head it countersigned last.

A gateway that holds a head which is not in this log has seen another log than this one: the database was put back,
cut off or rewritten. That is noted, shown, and does not end by itself.
"""

import json
import logging
from collections.abc import Callable, Iterable

from sqlalchemy import Connection

from qepa_uplink.audit import ANCHOR_CONTEXT, GENESIS, MOST_LINKS, SEAL_CONTEXT, Head, anchor_text, head_bytes
from qepa_uplink.identity import Certificate, Identity, Subject, verify_signature
from qepa_uplink.messages import AuditHead, AuditKept

from ..errors import AuditError
from ..store import settings
from ..store.database import Store
from . import chain

_LOG = logging.getLogger(__name__)
ANCHOR_KEY = "audit anchor "  # then the gateway's name
EVERY_MS = 60_000  # the log grows with every round and alarm; a signature and a durable write for each are not needed
_AT_ONCE = 4  # gateways told in one tick: a round that ends must not wait for all of them
_NONE = Head(0, GENESIS)


class Witnesses:
    """``seal(gateway, message)`` sends; ``holder(gateway)`` is its certificate and what that says."""

    def __init__(
        self,
        *,
        store: Store,
        identity: Identity,
        clock_ms: Callable[[], int],
        seal: Callable[[str, AuditHead], bool],
        holder: Callable[[str], tuple[Certificate, Subject]],
    ) -> None:
        self._store = store
        self._identity = identity
        self._clock_ms = clock_ms
        self._seal = seal
        self._holder = holder
        self._sent_ms: dict[str, int] = {}
        self._noted_ms: dict[str, int] = {}  # when a gateway's contradiction was last put into the log
        self._signed = (_NONE, b"")  # the newest head that was signed: many gateways are told the same
        self._base: dict[str, Head] = {}  # what each gateway said last that it holds
        self.kept: dict[str, Head] = {}
        """The newest head in this log that each gateway countersigned."""
        self.contradicted: dict[str, Head] = {}
        """Heads that gateways hold and that are not in this log."""
        with store.read() as connection:
            for gateway, record in _anchors(connection):
                seq, _, digest = str(record["head"]).partition(":")
                head = Head(int(seq), bytes.fromhex(digest))
                self.kept[gateway] = self._base[gateway] = head
                self._compare(connection, gateway, head)

    def greet(self, gateway: str) -> None:
        """A session began: tell the gateway the head."""
        self._tell(gateway)

    def tick(self, gateways: Iterable[str]) -> None:
        """Tell those who hold an older head, not too often."""
        now_ms = self._clock_ms()
        due = [name for name in gateways if not 0 <= now_ms - self._sent_ms.get(name, -EVERY_MS) < EVERY_MS]
        if not due:
            return
        with self._store.read() as connection:
            newest = chain.head(connection)
        behind = [gateway for gateway in due if self._base.get(gateway) != newest]
        for gateway in behind[:_AT_ONCE]:
            self._tell(gateway)

    def accept(self, gateway: str, message: AuditKept) -> None:
        """Take what a gateway holds; raises UplinkError("signature"), AuditError for a head that is not in the log."""
        head = Head(message.seq, message.hash)
        certificate, subject = self._holder(gateway)
        verify_signature(subject.sign_key, message.signature, str(head).encode(), ANCHOR_CONTEXT)
        with self._store.read() as connection:
            newest = chain.head(connection)
            told = self.contradicted.get(gateway) == head
            known = self._compare(connection, gateway, head)
        if not known:
            self._note(gateway, head, told=told)
            raise AuditError("audit", f"{gateway} holds {head}, which is not in this log")
        before = self._base.get(gateway, _NONE)
        self._base[gateway] = head
        if head.seq > self.kept.get(gateway, _NONE).seq:
            self._keep(gateway, head, anchor_text(head, certificate, message.signature))
        if newest.seq > head.seq >= before.seq + MOST_LINKS:
            self._tell(gateway)  # one message does not hold all that was added

    def _compare(self, connection: Connection, gateway: str, head: Head) -> bool:
        if chain.at(connection, head.seq) == head:
            self.contradicted.pop(gateway, None)
            return True
        if self.contradicted.get(gateway) != head:
            _LOG.error("the audit log is not the one that %s has countersigned: it holds %s", gateway, head)
            self.contradicted[gateway] = head
        return False

    def _note(self, gateway: str, head: Head, *, told: bool) -> None:
        now_ms = self._clock_ms()
        if told or 0 <= now_ms - self._noted_ms.get(gateway, -EVERY_MS) < EVERY_MS:
            return
        self._noted_ms[gateway] = now_ms
        with self._store.write() as connection:
            chain.append(connection, now_ms, "audit.contradicted", gateway=gateway, held=str(head))

    def _keep(self, gateway: str, head: Head, text: str) -> None:
        # Not an entry of the log itself: that would have a new head, and so for ever.
        with self._store.write() as connection:
            settings.put(connection, ANCHOR_KEY + gateway, text.encode())
        self.kept[gateway] = head

    def _tell(self, gateway: str) -> None:
        base = self._base.get(gateway)
        with self._store.read() as connection:
            head = chain.head(connection)
            links: tuple[bytes, ...] | None = None
            if base is not None and chain.at(connection, base.seq) == base:
                until = min(head.seq, base.seq + MOST_LINKS)
                links, head = chain.links(connection, base.seq, until), chain.at(connection, until) or head
        message = AuditHead(
            seq=head.seq,
            hash=head.hash,
            signature=self._signature(head),
            base_seq=head.seq if base is None or links is None else base.seq,
            links=links or (),
        )
        if self._seal(gateway, message):
            self._sent_ms[gateway] = self._clock_ms()

    def _signature(self, head: Head) -> bytes:
        if self._signed[0] != head:
            self._signed = head, self._identity.sign(head_bytes(head), SEAL_CONTEXT)
        return self._signed[1]


def _anchors(connection: Connection) -> list[tuple[str, dict[str, object]]]:
    return [(gateway, json.loads(text)) for gateway, text in settings.under(connection, ANCHOR_KEY).items()]
