"""What all messages are made of: their base, and fields that stand in more than one."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
BoardId = Annotated[int, Field(ge=1, le=0xFFFFFFFF)]
Nonce = Annotated[bytes, Field(min_length=32, max_length=32)]
RoundNumber = Annotated[int, Field(ge=1, lt=2**63)]
TimeMs = Annotated[int, Field(ge=0, lt=2**53)]  # exact in every JSON reader, and fits a database's integer
Amount = Annotated[int, Field(ge=0, lt=2**53)]
StreamId = Annotated[int, Field(ge=1, le=2)]
Purpose = Literal["care", "statistics", "learning"]
CellId = Annotated[int, Field(ge=1, le=65535)]


class Message(BaseModel):
    """Base of all messages: frozen, closed, bytes as URL-safe base64."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")
