"""Who is there: sessions of gateways with the server, the boards of each, certificates of all."""

from typing import Literal

from pydantic import Field

from ..identity import Certificate
from .fields import BoardId, Message, Name, StreamId


class SessionOpen(Message):
    """Gateway to server, signed: a fresh session key sealed to the server. ``number`` rises for ever."""

    type: Literal["session_open"] = "session_open"
    certificate: Certificate
    number: int = Field(ge=1, lt=2**53)
    sealed_key: bytes = Field(max_length=4096)


class SessionUnknown(Message):
    """Server to gateway, signed: I do not hold your session (I restarted); open a new one."""

    type: Literal["session_unknown"] = "session_unknown"
    session: bytes = Field(min_length=16, max_length=16)


class Adopted(Message):
    """One enrolled board of a gateway; ``patient`` is a pseudonym.

    ``barred``: streams that it is not to be asked for, because its patient withdrew or has no privacy budget left.
    """

    board: BoardId
    patient: Name
    barred: tuple[StreamId, ...] = Field(default=(), max_length=4)


class Welcome(Message):
    """Server to gateway, sealed: the answer to SessionOpen, and again whenever the boards change."""

    type: Literal["welcome"] = "welcome"
    boards: tuple[Adopted, ...] = Field(max_length=4096)


class Ack(Message):
    """Either way, sealed: these durable messages are stored."""

    type: Literal["ack"] = "ack"
    ids: tuple[str, ...] = Field(max_length=256)


class Directory(Message):
    """Server to gateways, signed: certificates of all gateways, checked by each against the root it pins."""

    type: Literal["directory"] = "directory"
    certificates: tuple[Certificate, ...] = Field(max_length=1024)


Signed = SessionOpen | SessionUnknown | Directory
Sealed = Welcome | Ack
