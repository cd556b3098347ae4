"""A round, from its announcement to the sums of its cells; README.md says who checks what."""

from typing import Literal

from pydantic import Field

from .fields import BoardId, CellId, Message, Name, Nonce, RoundNumber, StreamId, TimeMs


class StreamSpec(Message):
    """What one stream of a round asks of each board: the quantizer's bounds, and privacy (0: none).

    ``noise_q8`` is the variance of a board's noise share in words squared, times 256; ``clip_norm`` bounds the
    Euclidean norm of one patient's whole contribution, in the units of the input.
    """

    stream: StreamId
    n_words: int = Field(ge=1, le=65535)
    bound: int = Field(ge=1, le=2**31)
    q_max: int = Field(ge=1, le=2**31)
    rounding: int = Field(ge=0, le=1)
    noise_q8: int = Field(default=0, ge=0, le=2**32 - 1)
    clip_norm: int = Field(default=0, ge=0, le=2**32 - 1)


class RoundOpen(Message):
    """Server to gateways, signed: a round is coming; ``commitment`` is SHA-256 of the server's nonce."""

    type: Literal["round_open"] = "round_open"
    round: RoundNumber
    commitment: Nonce
    model_version: int = Field(ge=0, le=2**32 - 1)
    streams: tuple[StreamSpec, ...] = Field(min_length=1, max_length=4)
    n_max: int = Field(ge=1, le=65535)
    min_group: int = Field(ge=5, le=65535)
    cell_target: int = Field(ge=5, le=65535)
    ready_within_ms: int = Field(ge=1, le=3_600_000)
    collect_within_ms: int = Field(ge=1, le=3_600_000)
    settle_within_ms: int = Field(ge=1, le=3_600_000)


class Ready(Message):
    """Gateway to server, signed: I take part with so many patients; ``nonce`` goes into the public seed."""

    type: Literal["ready"] = "ready"
    round: RoundNumber
    gateway: Name
    nonce: Nonce
    commitment: Nonce
    patients: int = Field(ge=0, le=65535)


class RoundStart(Message):
    """Server to gateways, signed: the nonces that fix the cells; ``readies`` are the signed messages themselves."""

    type: Literal["round_start"] = "round_start"
    round: RoundNumber
    server_nonce: Nonce
    readies: tuple[bytes, ...] = Field(max_length=1024)


class PairOffer(Message):
    """Gateway to gateway, signed: a pair key sealed to ``recipient`` by the gateway with the lesser name."""

    type: Literal["pair_offer"] = "pair_offer"
    sender: Name
    recipient: Name
    sealed_key: bytes = Field(max_length=4096)


class PairWanted(Message):
    """Gateway to gateway, signed: we share a cell and I hold no pair key of yours; offer it again."""

    type: Literal["pair_wanted"] = "pair_wanted"
    sender: Name
    recipient: Name


class Count(Message):
    """Gateway to the other gateways of a cell, signed: my frozen contribution, by number and digest."""

    type: Literal["count"] = "count"
    round: RoundNumber
    cell: CellId
    stream: StreamId
    gateway: Name
    patients: int = Field(ge=0, le=65535)
    boards: int = Field(ge=0, le=65535)
    contributors_digest: Nonce


class Partial(Message):
    """Gateway to server, signed, durable: this gateway's sum for a cell, link masks off, pair masks on."""

    type: Literal["partial"] = "partial"
    id: str = Field(max_length=64)
    round: RoundNumber
    cell: CellId
    stream: StreamId
    gateway: Name
    contributors: tuple[BoardId, ...] = Field(max_length=65535)
    patients: int = Field(ge=0, le=65535)
    n_words: int = Field(ge=1, le=65535)
    sealed: bytes = Field(max_length=4 * 65535 + 16)
    last_frame_ms: TimeMs


class CellVoid(Message):
    """Gateway to server, signed, durable: this cell gives no sum, and why."""

    type: Literal["cell_void"] = "cell_void"
    id: str = Field(max_length=64)
    round: RoundNumber
    cell: CellId
    stream: StreamId
    gateway: Name
    reason: str = Field(max_length=200)


Signed = RoundOpen | Ready | RoundStart | PairOffer | PairWanted | Count | Partial | CellVoid
