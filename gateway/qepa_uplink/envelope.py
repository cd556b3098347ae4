"""Signed envelopes: evidence that outlives a session.

``"QU" | version u8 | length of sender u8 | sender | body (JSON) | signature (3,309 bytes)``; the signature covers
all before it. Parsing tells who claims to speak; only :func:`open_signed` with that party's key tells that it did.
"""

import struct
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from .errors import UplinkError
from .identity import SIGNATURE_BYTES, Identity, verify_signature
from .messages import Message, Signed

MAGIC = b"QU\x01"
MAX_BYTES = 16 * 1024 * 1024
_CONTEXT = b"qepa/1/uplink"
_SIGNED: TypeAdapter[Signed] = TypeAdapter(Signed)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope, not yet authenticated."""

    sender: str
    signed: bytes
    body: bytes
    signature: bytes


def sign(identity: Identity, message: Message) -> bytes:
    """Return ``message`` in an envelope signed by ``identity``."""
    sender = identity.name.encode()
    signed = MAGIC + struct.pack("B", len(sender)) + sender + message.model_dump_json().encode()
    return signed + identity.sign(signed, _CONTEXT)


def parse(data: bytes) -> Envelope:
    """Split an envelope; raises UplinkError with reason truncated, length, magic or sender."""
    if len(data) > MAX_BYTES:
        raise UplinkError("length", f"{len(data)} bytes")
    if len(data) < len(MAGIC) + 1 + SIGNATURE_BYTES:
        raise UplinkError("truncated", f"{len(data)} bytes")
    if data[: len(MAGIC)] != MAGIC:
        raise UplinkError("magic")
    signed, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    start = len(MAGIC) + 1
    end = start + data[start - 1]
    if end > len(signed):
        raise UplinkError("truncated")
    try:
        sender = signed[start:end].decode("ascii")
    except UnicodeDecodeError as error:
        raise UplinkError("sender") from error
    return Envelope(sender, signed, signed[end:], signature)


def open_signed(envelope: Envelope, sign_key: bytes) -> Signed:
    """Return the message if ``sign_key`` signed it; raises UplinkError("signature") or ("schema")."""
    verify_signature(sign_key, envelope.signature, envelope.signed, _CONTEXT)
    return _parse_body(envelope.body)


def peek(envelope: Envelope) -> Signed:
    """Return the message unauthenticated: only to find the certificate inside a SessionOpen."""
    return _parse_body(envelope.body)


def _parse_body(body: bytes) -> Signed:
    try:
        return _SIGNED.validate_json(body)
    except ValidationError as error:
        raise UplinkError("schema", f"{error.error_count()} fields do not fit") from error
