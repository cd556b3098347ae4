"""A gateway's heartbeat."""

from typing import Annotated, Literal

from pydantic import Field

from .fields import Amount, BoardId, Message, TimeMs
from .releases import BedsideStatus, FirmwareStatus, ModelStatus


class BoardStatus(Message):
    """What may be known of a board: is it there, which key does it use."""

    board: BoardId
    online: bool
    last_seen_ms: TimeMs
    epoch: Amount
    key_source: Literal["qkd", "ratchet", "none"]
    pads: Amount
    model_version: Amount
    battery_permille: int | None = Field(default=None, ge=0, le=65535)
    reset_cause: Literal["unknown", "power_on", "hard", "watchdog", "deep_sleep", "soft", "brown_out"] = "unknown"
    mode: Literal["normal", "safe", "trial"] = "normal"
    pad_bytes: Amount = 0
    firmware: int = Field(default=0, ge=0, le=65535)


class LinkStatus(Message):
    """The optical link as the gateway's key-management entity reports it.

    ``rekey_s`` is the recommended time between two rekeyings, None while the entity does not answer.
    """

    state: str = Field(max_length=200)
    qber: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    stored_keys: Amount
    bits_produced: Amount
    bits_consumed: Amount
    threat_level: Literal["normal", "elevated", "high"] = "normal"
    rekey_s: float | None = Field(default=None, gt=0, le=86_400, allow_inf_nan=False)


class Status(Message):
    """Gateway to server, sealed, every few seconds: heartbeat. ``audit``: why it refused a head of the audit log."""

    type: Literal["status"] = "status"
    now_ms: TimeMs
    boards: tuple[BoardStatus, ...] = Field(max_length=4096)
    link: LinkStatus | None
    refused: dict[Annotated[str, Field(max_length=64)], Amount] = Field(max_length=256)
    spool: Amount
    audit: str = Field(default="", max_length=200)
    model: ModelStatus | None = None
    firmware: tuple[FirmwareStatus, ...] = Field(default=(), max_length=64)
    bedside: tuple[BedsideStatus, ...] = Field(default=(), max_length=16)


Sealed = Status
