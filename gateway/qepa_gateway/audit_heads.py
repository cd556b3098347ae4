"""The newest head of the server's audit log, kept and countersigned, so that the log can only grow.

A head that goes back or does not extend the one that is kept is refused, counted, said in /healthz and told to the
server with each heartbeat. The kept head is also a file, for `qepa audit verify --anchor`.
"""

import json
import logging

from qepa_uplink.audit import SEAL_CONTEXT, Head, anchor_text, countersign, extended, head_bytes
from qepa_uplink.identity import verify_signature
from qepa_uplink.messages import AuditHead, AuditKept

from .errors import CorruptError, Refused
from .server_link import ServerLink
from .spool.database import Spool

_LOG = logging.getLogger(__name__)
_KEPT = "audit_kept"
_REFUSED = "audit_refused"
ANCHOR_FILE = "audit-anchor.json"
_MOST_ASKED = 3  # times that the server is asked for what follows the kept head, before that counts as no answer


class AuditHeads:
    """Follows the log by the digests of its entries; sees nothing of what they say."""

    def __init__(self, spool: Spool, link: ServerLink, server_key: bytes) -> None:
        self._spool = spool
        self._link = link
        self._server_key = server_key
        self._asked = 0
        self.kept, self._signature = self._load()
        self.refused: str = (spool.get(_REFUSED) or b"").decode()
        """Why the newest head was refused; empty when it was not."""

    def take(self, message: AuditHead, _sender: str) -> None:
        """Keep a head that extends the kept one, and answer with what is kept.

        Raises UplinkError("signature"), Refused("audit") for a head that does not extend it.
        """
        head = Head(message.seq, message.hash)
        verify_signature(self._server_key, message.signature, head_bytes(head), SEAL_CONTEXT)
        kept = self.kept
        why = "" if kept is None else self._judge(kept, head, message)
        if why:
            self._refuse(why)
        elif kept is None or kept.seq in (head.seq, message.base_seq):
            self._keep(head)
        else:
            self._asked += 1  # it began elsewhere: say where we are
        self._answer()
        if why:
            raise Refused("audit", why)

    def _judge(self, kept: Head, head: Head, message: AuditHead) -> str:
        if head.seq < kept.seq:
            return f"the log ends at entry {head.seq}, it had {kept.seq}: it was cut off or put back"
        if head.seq == kept.seq:
            return "" if head.hash == kept.hash else f"entry {head.seq} is another than it was: the log was rewritten"
        if message.base_seq == kept.seq:
            if len(message.links) == head.seq - kept.seq and extended(kept, message.links) == head:
                return ""
            return f"entry {head.seq} does not follow from entry {kept.seq}: the log was rewritten"
        if self._asked >= _MOST_ASKED:
            return f"nothing shows that entry {head.seq} follows from entry {kept.seq}"
        return ""

    def _keep(self, head: Head) -> None:
        self._asked = 0
        if head == self.kept and not self.refused:
            return
        identity = self._link.identity
        signature = countersign(head, identity)
        with self._spool.transaction():
            self._spool.set(_KEPT, json.dumps([head.seq, head.hash.hex(), signature.hex()]).encode())
            self._spool.set(_REFUSED, b"")
        self.kept, self._signature, self.refused = head, signature, ""
        self._spool.write_file(ANCHOR_FILE, anchor_text(head, identity.certificate, signature) + "\n")

    def _refuse(self, why: str) -> None:
        if why != self.refused:
            _LOG.error("the server's audit log: %s", why)
            self._spool.set(_REFUSED, why.encode())
            self.refused = why

    def _answer(self) -> None:
        if self.kept is not None:
            self._link.send_sealed(AuditKept(seq=self.kept.seq, hash=self.kept.hash, signature=self._signature))

    def _load(self) -> tuple[Head | None, bytes]:
        stored = self._spool.get(_KEPT)
        if stored is None:
            return None, b""
        try:
            seq, digest, signature = json.loads(stored)
            return Head(int(seq), bytes.fromhex(digest)), bytes.fromhex(signature)
        except (ValueError, TypeError) as error:
            raise CorruptError("the kept head of the audit log has another shape") from error
