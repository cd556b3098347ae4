"""Signatures over the audit log: each transaction that adds entries signs the newest, and with it all before.

Entries and signature are durable together or not at all, so no crash leaves an entry unsigned. What was added behind
the server's back, to a database that nobody served, has no signature: it is noted at the next start before anything
else is.
"""

import hashlib

from sqlalchemy import Connection, func, insert, select

from qepa_uplink.audit import SEAL_CONTEXT, Head, head_bytes
from qepa_uplink.identity import Certificate, Identity, verify_signature

from ..store import settings
from ..store.database import Store
from ..store.schema import audit_seals
from . import chain

CERTIFICATE_KEY = "audit certificate "  # then the first 32 hex digits of its SHA-256


def signer_of(certificate: Certificate) -> str:
    """Return the name under which a certificate stands in the log."""
    return hashlib.sha256(certificate.body).hexdigest()[:32]


def verify_head(public_key: bytes, signature: bytes, head: Head, context: bytes) -> None:
    """Return if the ML-DSA-65 signature over ``head`` holds; raise UplinkError("signature") if not."""
    verify_signature(public_key, signature, head_bytes(head), context)


class Sealer:
    """Signs the log's head at the end of each transaction that added to it."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._signer = signer_of(identity.certificate)

    def __call__(self, connection: Connection) -> None:
        """Sign the newest entry if it has no signature yet."""
        head = chain.head(connection)
        if head.seq > sealed_until(connection):
            signature = self._identity.sign(head_bytes(head), SEAL_CONTEXT)
            connection.execute(insert(audit_seals).values(seq=head.seq, signer=self._signer, signature=signature))

    def install(self, store: Store, now_ms: int) -> None:
        """Sign from now on. Keeps the certificate with the log, and notes entries that nobody signed."""
        store.before_commit = self
        key = CERTIFICATE_KEY + self._signer
        with store.write() as connection:
            unsigned = chain.head(connection).seq - sealed_until(connection)
            if unsigned:
                chain.append(connection, now_ms, "audit.unsigned", entries=unsigned)
            if settings.read(connection, key) is None:
                settings.add(connection, key, self._identity.certificate.model_dump_json().encode())
                chain.append(connection, now_ms, "key.audit", signer=self._signer, name=self._identity.name)


def sealed_until(connection: Connection) -> int:
    """Return the newest entry with a signature, 0 for none."""
    return connection.execute(select(func.max(audit_seals.c.seq))).scalar() or 0
