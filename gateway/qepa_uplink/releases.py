"""Orders: what a person of the release desk (certificate of role ``release``) signs and posts to the server.

Who reaches the server's API can release nothing: the signature under an order is what counts, and its name goes into
the audit log, and onto a model's card. An order holds for ten minutes, and once.
"""

from typing import ClassVar, Literal

from pydantic import Field

from .bedside_models import MAX_BLOB
from .firmware import MAX_BUNDLE_BYTES
from .identity import Identity
from .messages import BoardId, Message, Name, Nonce, SignedBody

BOARD_MODEL = "board"  # the name of the line of models that boards compute; the others are in bedside_models.py
ORDER_HOLDS_S = 600  # how far an order's time may be from the server's
MAX_CARD = 32_768
MAX_ORDER = 524_288


class Order(Message):
    """What all orders say. ``nonce`` is random: the same order twice is one.

    A signature is made under ``CONTEXT``, so that none counts for an order of another kind. Of orders with one
    ``subject`` none is carried out after one that was signed later.
    """

    CONTEXT: ClassVar[bytes]

    signed_s: int = Field(ge=0, lt=2**43)
    nonce: bytes = Field(min_length=16, max_length=16)
    reason: str = Field(default="", max_length=200)

    @property
    def subject(self) -> str:
        """What it is about, at most 64 characters."""
        raise NotImplementedError


class ModelOrder(Order):
    """``push`` a model, or ``rollback`` a line to version ``to`` (0: the last one that held).

    ``blob``: a board's model as qepa_wire.model encodes it (its version is given by the server), or a TFLite file.
    ``card``: JSON of what was measured.
    """

    CONTEXT = b"qepa/1/model-order"

    what: Literal["push", "rollback"]
    name: Name
    blob: bytes = Field(default=b"", max_length=MAX_BLOB)
    card: str = Field(default="", max_length=MAX_CARD)
    to: int = Field(default=0, ge=0, le=2**32 - 1)

    @property
    def subject(self) -> str:
        """The line."""
        return f"model {self.name}"


class FirmwareOrder(Order):
    """Release the bundle (firmware.py) of SHA-256 ``bundle`` to ``boards``, as the newest of its ``kind``."""

    CONTEXT = b"qepa/1/firmware-order"

    kind: Name
    boards: tuple[BoardId, ...] = Field(min_length=1, max_length=4096)
    bundle: Nonce

    @property
    def subject(self) -> str:
        """The kind."""
        return f"firmware {self.kind}"


class QuarantineOrder(Order):
    """Let a patient or gateway that was quarantined take part in sums again."""

    CONTEXT = b"qepa/1/quarantine-order"

    kind: Literal["patient", "gateway"]
    name: Name

    @property
    def subject(self) -> str:
        """Who."""
        return f"quarantine {self.kind} {self.name}"


class SignedOrder(SignedBody):
    """An order that a person of the release desk signed."""

    body: bytes = Field(max_length=MAX_ORDER)


class SignedFirmwareOrder(Message):
    """A signed FirmwareOrder, and the bundle that it names by its digest."""

    order: SignedOrder
    bundle: bytes = Field(max_length=MAX_BUNDLE_BYTES)


def sign_order(person: Identity, order: Order) -> SignedOrder:
    """Return ``order`` signed by ``person``."""
    return SignedOrder.of(order, person, order.CONTEXT)
