"""Orders about models: a person at the release desk signs them (role ``release``) and posts them to the server.

Who reaches the server's API can release nothing: the signature under an order is what counts, and its name goes into
the audit log and onto the model's card.
"""

from typing import Literal

from pydantic import Field

from .bedside_models import MAX_BLOB
from .identity import Certificate
from .messages import Message, Name

BOARD_MODEL = "board"  # the name of the line of models that boards compute; the others are in bedside_models.py
ORDER_CONTEXT = b"qepa/1/model-order"
ORDER_HOLDS_S = 600  # how far an order's time may be from the server's
MAX_CARD = 32_768
MAX_ORDER = 524_288


class ModelOrder(Message):
    """What is signed: ``push`` a model, or ``rollback`` a line to version ``to`` (0: the last one that held).

    ``blob``: a board's model as qepa_wire.model encodes it (its version is given by the server), or a TFLite file.
    ``card``: JSON of what was measured. ``nonce`` is random: the same order twice is one.
    """

    what: Literal["push", "rollback"]
    name: Name
    signed_s: int = Field(ge=0, lt=2**43)
    nonce: bytes = Field(min_length=16, max_length=16)
    blob: bytes = Field(default=b"", max_length=MAX_BLOB)
    card: str = Field(default="", max_length=MAX_CARD)
    to: int = Field(default=0, ge=0, le=2**32 - 1)
    reason: str = Field(default="", max_length=200)


class SignedModelOrder(Message):
    """The exact bytes of a ModelOrder with the certificate and signature of who gives it."""

    body: bytes = Field(max_length=MAX_ORDER)
    certificate: Certificate
    signature: bytes = Field(max_length=4096)
