"""Messages between gateways and server, a module a conversation: frozen, unknown fields and shapes refused."""

from typing import Annotated

from pydantic import Field

from . import audit, care, releases, rounds, sessions, status
from .audit import AuditHead, AuditKept
from .care import (
    LEAD_LENGTH,
    LEAD_STEPS,
    AlertReport,
    CareGrant,
    CareRecord,
    CareRevoke,
    Consent,
    ExplainedBeat,
    Findings,
    SignedConsent,
    WaveRecord,
    WaveWatch,
)
from .fields import BoardId, Message, Name, Nonce, Purpose
from .releases import BedsideRelease, BedsideStatus, FirmwareRelease, FirmwareStatus, ModelRelease, ModelStatus
from .rounds import CellVoid, Count, PairOffer, PairWanted, Partial, Ready, RoundOpen, RoundStart, StreamSpec
from .sessions import Ack, Adopted, Directory, SessionOpen, SessionUnknown, Welcome
from .signed import SignedBody
from .status import BoardStatus, LinkStatus, Status

__all__ = [
    "LEAD_LENGTH",
    "LEAD_STEPS",
    "Ack",
    "Adopted",
    "AlertReport",
    "AuditHead",
    "AuditKept",
    "BedsideRelease",
    "BedsideStatus",
    "BoardId",
    "BoardStatus",
    "CareGrant",
    "CareRecord",
    "CareRevoke",
    "CellVoid",
    "Consent",
    "Count",
    "Directory",
    "ExplainedBeat",
    "Findings",
    "FirmwareRelease",
    "FirmwareStatus",
    "LinkStatus",
    "Message",
    "ModelRelease",
    "ModelStatus",
    "Name",
    "Nonce",
    "PairOffer",
    "PairWanted",
    "Partial",
    "Purpose",
    "Ready",
    "RoundOpen",
    "RoundStart",
    "Sealed",
    "SessionOpen",
    "SessionUnknown",
    "Signed",
    "SignedBody",
    "SignedConsent",
    "Status",
    "StreamSpec",
    "WaveRecord",
    "WaveWatch",
    "Welcome",
]

Signed = Annotated[sessions.Signed | rounds.Signed | releases.Signed | care.Signed, Field(discriminator="type")]
Sealed = Annotated[sessions.Sealed | care.Sealed | audit.Sealed | status.Sealed, Field(discriminator="type")]
