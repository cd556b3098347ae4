"""What the server releases, and in a Status how far each release has come."""

from typing import Literal

from pydantic import Field

from ..bedside_models import MAX_BLOB
from .fields import Amount, BoardId, Message, Name, Nonce


class ModelRelease(Message):
    """Server to gateways, signed: a model with its HSS signature for the boards (qepa_wire.model.decode_release)."""

    type: Literal["model_release"] = "model_release"
    version: int = Field(ge=0, le=2**32 - 1)
    round: int = Field(ge=0, lt=2**63)
    release: bytes = Field(max_length=16384)


class BedsideRelease(Message):
    """Server to gateways, signed: a model for the gateway itself (bedside_models.py), with its card (JSON).

    Without ``blob`` it is the one of SHA-256 ``digest`` that the gateway's own package ships, under a new version.
    """

    type: Literal["bedside_release"] = "bedside_release"
    name: Name
    version: int = Field(ge=1, le=2**32 - 1)
    digest: Nonce
    blob: bytes = Field(max_length=MAX_BLOB)
    card: str = Field(max_length=2**18)


class FirmwareRelease(Message):
    """Server to gateways, signed: a firmware bundle (qepa_uplink.firmware) for these boards.

    ``number`` rises with every release, so that an old one said again changes nothing; ``kind`` names the line that
    the bundle belongs to, such as one target and sensor set: a newer release of a kind takes the place of its last.
    """

    type: Literal["firmware_release"] = "firmware_release"
    number: int = Field(ge=1, lt=2**53)
    kind: Name
    boards: tuple[BoardId, ...] = Field(min_length=1, max_length=4096)
    bundle: bytes = Field(max_length=2**18)


class ModelStatus(Message):
    """How far the newest model has come at a gateway: with one board, with all, or withdrawn."""

    version: Amount
    stage: Literal["canary", "ward", "withdrawn"]
    canary: BoardId | None = None
    failed: tuple[BoardId, ...] = Field(default=(), max_length=4096)


class BedsideStatus(Message):
    """A model that a gateway runs itself: version, SHA-256 of its blob, whether it is the package's own, its errors.

    ``refused_version`` of the server was not taken, and ``refused`` says why.
    """

    name: Name
    version: int = Field(ge=0, le=2**32 - 1)
    digest: Nonce
    shipped: bool
    errors: Amount = 0
    refused_version: int = Field(default=0, ge=0, le=2**32 - 1)
    refused: str = Field(default="", max_length=200)


class FirmwareStatus(Message):
    """How far the release ``number`` of a kind has come at a gateway; ``refused`` says why it did not take it."""

    kind: Name
    number: Amount
    version: Amount
    stage: Literal["canary", "ward", "withdrawn", "refused"]
    canary: BoardId | None = None
    failed: tuple[BoardId, ...] = Field(default=(), max_length=4096)
    refused: str = Field(default="", max_length=200)


Signed = ModelRelease | BedsideRelease | FirmwareRelease
