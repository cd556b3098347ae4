"""Enrolment: the key dock gives a board its end key and tells the server, under hybrid ML-KEM both ways.

The dock makes the end key, puts it into the board over USB, seals it to the server and forgets it. It also takes a
board that is lost or broken out of the register: retirement.
"""

from pydantic import Field

from .messages import BoardId, Message, Name, SignedBody


class EnrolmentRequest(Message):
    """What the dock signs and posts. ``sealed_end_key`` is sealed to the server with :func:`enrolment_info`.

    ``patient_boards`` is how many boards the board was told its patient wears: it clips to that part of the bound.
    """

    board: BoardId
    patient: Name
    gateway: Name
    sealed_end_key: bytes = Field(max_length=4096)
    patient_boards: int = Field(default=1, ge=1, le=64)


class SignedEnrolment(SignedBody):
    """An EnrolmentRequest that a dock signed."""

    body: bytes = Field(max_length=16384)


class EnrolmentReply(Message):
    """The server's answer: ``sealed_cohort_key`` is sealed to the dock; ``model_root`` is the HSS public key."""

    board: BoardId
    sealed_cohort_key: bytes = Field(max_length=4096)
    model_root: bytes = Field(max_length=256)


class RetirementRequest(Message):
    """What the dock signs and posts to end a board. Who it is of is held against the register; ``nonce`` is random."""

    board: BoardId
    patient: Name
    gateway: Name
    nonce: bytes = Field(min_length=16, max_length=16)


class SignedRetirement(SignedBody):
    """A RetirementRequest that a dock signed."""


class RetirementReply(Message):
    """The server's answer: that board is enrolled no more. ``request_digest`` is the SHA-256 of the request."""

    board: BoardId
    request_digest: bytes = Field(min_length=32, max_length=32)


ENROLMENT_CONTEXT = b"qepa/1/enrolment"
REPLY_CONTEXT = b"qepa/1/enrolment-reply"
RETIREMENT_CONTEXT = b"qepa/1/retirement"
RETIREMENT_REPLY_CONTEXT = b"qepa/1/retirement-reply"
CONSENT_CONTEXT = b"qepa/1/consent"
WITHDRAWAL_CONTEXT = b"qepa/1/withdrawal"


class SignedReply(Message):
    """The exact bytes of an EnrolmentReply or a RetirementReply with the server's signature."""

    body: bytes = Field(max_length=16384)
    signature: bytes = Field(max_length=4096)


class Withdrawal(Message):
    """The consent desk withdraws a consent."""

    consent_id: bytes = Field(min_length=16, max_length=16)


class SignedWithdrawal(SignedBody):
    """A Withdrawal that the consent desk signed."""


def enrolment_info(board: int, patient: str, gateway: str) -> bytes:
    """HPKE info of a sealed end key: binds it to the board, patient and gateway it was made for."""
    return f"qepa/1/end-key {board:08x} {patient} {gateway}".encode()


def cohort_info(board: int) -> bytes:
    """HPKE info of a sealed cohort key."""
    return f"qepa/1/cohort-key {board:08x}".encode()


def pair_info(sender: str, recipient: str) -> bytes:
    """HPKE info of a sealed pair key between two gateways."""
    return f"qepa/1/pair-key {sender} {recipient}".encode()
