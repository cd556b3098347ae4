"""Sealed sessions between one gateway and the server: AES-256-GCM under a key that lives in memory only.

``"QS" | version u8 | session id (16) | counter u64 | ciphertext``. Each direction has its own key; the counter is
the nonce and must rise, so a replayed message is refused.
"""

import os
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import TypeAdapter, ValidationError

from qepa_wire.primitives import hmac_sha256, sha256

from .errors import UplinkError
from .identity import Identity
from .messages import Message, Sealed, SessionOpen
from .sealing import seal_to

MAGIC = b"QS\x01"
_HEADER = struct.Struct("<3s16sQ")
_SEALED: TypeAdapter[Sealed] = TypeAdapter(Sealed)


def is_sealed(data: bytes) -> bool:
    """Tell a sealed message from a signed envelope by its first bytes."""
    return data[: len(MAGIC)] == MAGIC


def session_id(data: bytes) -> bytes:
    """Return the session a sealed message claims; raises UplinkError("truncated")."""
    if len(data) < _HEADER.size + 16:
        raise UplinkError("truncated", f"{len(data)} bytes")
    return bytes(data[3:19])


class Session:
    """One side of a session."""

    def __init__(self, secret: bytes, *, gateway_side: bool) -> None:
        up, down = hmac_sha256(secret, b"qepa/1/session/up"), hmac_sha256(secret, b"qepa/1/session/down")
        self.id = sha256(b"qepa/1/session/id" + hmac_sha256(secret, b"qepa/1/session/name"))[:16]
        self._send, self._receive = (AESGCM(up), AESGCM(down)) if gateway_side else (AESGCM(down), AESGCM(up))
        self._sent = 0
        self._received = 0

    def seal(self, message: Message) -> bytes:
        """Return ``message`` encrypted for the other side."""
        self._sent += 1
        header = _HEADER.pack(MAGIC, self.id, self._sent)
        nonce = struct.pack("<QI", self._sent, 0)
        return header + self._send.encrypt(nonce, message.model_dump_json().encode(), header)

    def open(self, data: bytes) -> Sealed:
        """Return the message in ``data``; raises UplinkError truncated, session, mac, replay or schema."""
        if session_id(data) != self.id:
            raise UplinkError("session", "sealed for another session")
        _, _, counter = _HEADER.unpack_from(data)
        header, ciphertext = data[: _HEADER.size], data[_HEADER.size :]
        try:
            body = self._receive.decrypt(struct.pack("<QI", counter, 0), ciphertext, header)
        except InvalidTag as error:
            raise UplinkError("mac") from error
        if counter <= self._received:
            raise UplinkError("replay", f"counter {counter}")
        self._received = counter
        try:
            return _SEALED.validate_json(body)
        except ValidationError as error:
            raise UplinkError("schema", f"{error.error_count()} fields do not fit") from error


def _info(gateway: str, server: str, number: int) -> bytes:
    return f"qepa/1/session {gateway} {server} {number}".encode()


def offer(identity: Identity, server_name: str, server_seal_key: bytes, number: int) -> tuple[SessionOpen, Session]:
    """Gateway side: return the message that opens session ``number`` and this side of it."""
    secret = os.urandom(32)
    sealed = seal_to(server_seal_key, secret, _info(identity.name, server_name, number))
    message = SessionOpen(certificate=identity.certificate, number=number, sealed_key=sealed)
    return message, Session(secret, gateway_side=True)


def accept(identity: Identity, gateway: str, message: SessionOpen) -> Session:
    """Server side: return its side of the session that an authenticated ``message`` opens."""
    secret = identity.unseal(message.sealed_key, _info(gateway, identity.name, message.number))
    return Session(secret, gateway_side=False)
