"""Heads of the audit log, told and countersigned (qepa_uplink/audit.py)."""

from typing import Literal

from pydantic import Field

from .fields import Amount, Message, Nonce


class AuditHead(Message):
    """Server to gateway, sealed: a head of the audit log with the server's signature (qepa_uplink.audit).

    ``links`` stand for the entries after ``base_seq``, which the gateway countersigned last, as far as is known.
    """

    type: Literal["audit_head"] = "audit_head"
    seq: int = Field(ge=1, lt=2**53)
    hash: Nonce
    signature: bytes = Field(max_length=4096)
    base_seq: Amount
    links: tuple[Nonce, ...] = Field(default=(), max_length=1024)


class AuditKept(Message):
    """Gateway to server, sealed: the head that it keeps, countersigned; the answer to each AuditHead."""

    type: Literal["audit_kept"] = "audit_kept"
    seq: int = Field(ge=1, lt=2**53)
    hash: Nonce
    signature: bytes = Field(max_length=4096)


Sealed = AuditHead | AuditKept
