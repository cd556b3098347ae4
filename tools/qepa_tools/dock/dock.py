"""The key dock: a station with the optical transmitter, a charging cradle and a certificate.

It gives a board its end key (hybrid ML-KEM to the server) and its pads of quantum key (from Alice's KME), and keeps
neither. What reaches the board goes over USB only: calls on the board's own REPL, as mpremote makes them.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from qepa_qkd.kme_client import QkdKey
from qepa_uplink.enrolment import (
    ENROLMENT_CONTEXT,
    REPLY_CONTEXT,
    RETIREMENT_CONTEXT,
    RETIREMENT_REPLY_CONTEXT,
    EnrolmentReply,
    EnrolmentRequest,
    RetirementReply,
    RetirementRequest,
    SignedEnrolment,
    SignedReply,
    SignedRetirement,
    cohort_info,
    enrolment_info,
)
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Identity, Subject, verify_signature
from qepa_uplink.sealing import seal_to
from qepa_wire.primitives import sha256

from ..errors import ToolError

KEY_BITS = 256
_CALL_BYTES = 4096
_2026_S = 1_767_225_600  # midnight UTC, Unix time
Reply = TypeVar("Reply", EnrolmentReply, RetirementReply)


class Cradle(Protocol):
    """A board in the cradle: runs code on its REPL and returns what it printed."""

    async def run(self, code: str) -> str:
        """Run ``code``; raises ToolError when the board answers with a traceback or not at all."""
        ...


class QuantumKeys(Protocol):
    """Alice's key-management entity as the dock sees it (ETSI GS QKD 014)."""

    async def enc_keys(self, slave: str, number: int = 1, size: int | None = None) -> list[QkdKey]:
        """Take ``number`` fresh keys that ``slave`` can fetch by their key_IDs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAccess:
    """How a board gets past the broker's door; lengths as firmware/qepa_board/keys/identity.py takes them.

    ``ca``: PEM of the authorities that may have signed the broker's certificate, None for no TLS; ``name``: what that
    certificate must say, if it is not the broker's host.
    """

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    name: str | None = None

    @property
    def record(self) -> dict[str, Any]:
        """As identity.json has it beside host and port."""
        login = {"user": self.user, "password": self.password}
        record: dict[str, Any] = {name: value for name, value in login.items() if value is not None}
        if self.ca is not None:
            record["tls"] = {"ca": self.ca} | ({} if self.name is None else {"name": self.name})
        return record


@dataclass(frozen=True, slots=True)
class BoardSettings:
    """What a board is told besides its keys."""

    broker_host: str
    broker_port: int
    fs_hz: int
    mains_hz: int
    rekey_s: int
    firmware_root: str | None = None
    """HSS public key (hexadecimal) of who signs its updates; without it the board takes none."""
    suite: str = "aes256"
    """Link masks of its vectors: from the link key (`aes256`), or one-time bytes while it has some (`otp`)."""
    broker: BrokerAccess = BrokerAccess()


@dataclass(frozen=True, slots=True)
class BoardStatus:
    """What a board tells the dock."""

    provisioned: bool
    boots: int
    epoch: int
    pads: int
    block_bytes: int = 0
    """Bytes of one-time blocks not used yet."""


class Dock:
    """Enrols boards and loads their pads."""

    def __init__(
        self,
        identity: Identity,
        server: Subject,
        http: httpx.AsyncClient,
        kmes: Mapping[str, QuantumKeys],
    ) -> None:
        """``http`` reaches the server; ``kmes`` gives Alice's KME on the link to each gateway."""
        self._identity, self._server, self._http, self._kmes = identity, server, http, kmes

    async def status(self, cradle: Cradle) -> BoardStatus:
        """Ask the board in the cradle how it is."""
        answer = await _call(cradle, "status()")
        return BoardStatus(
            bool(answer["provisioned"]), answer["boots"], answer["epoch"], answer["pads"], answer["block_bytes"]
        )

    async def enrol(
        self,
        cradle: Cradle,
        *,
        board: int,
        patient: str,
        gateway: str,
        settings: BoardSettings,
        patient_boards: int = 1,
    ) -> bool:
        """Make the end key, give it to the server sealed and to the board over USB, and forget it.

        ``patient_boards`` is how many boards the patient wears: they share the clipping bound that rounds set.
        Returns whether the board must be reset to take up a changed identity.
        """
        end_key = os.urandom(32)
        sealed = seal_to(self._server.seal_key, end_key, enrolment_info(board, patient, gateway))
        request = EnrolmentRequest(
            board=board, patient=patient, gateway=gateway, sealed_end_key=sealed, patient_boards=patient_boards
        )
        reply = await self._post_enrolment(request)
        cohort_key = self._identity.unseal(reply.sealed_cohort_key, cohort_info(board))
        provision = {
            "board": board,
            "gateway": gateway,
            "broker": {"host": settings.broker_host, "port": settings.broker_port} | settings.broker.record,
            "fs_hz": settings.fs_hz,
            "mains_hz": settings.mains_hz,
            "rekey_s": settings.rekey_s,
            "suite": settings.suite,
            "patient_boards": patient_boards,
            "end_key": end_key.hex(),
            "cohort_key": cohort_key.hex(),
            "model_root": reply.model_root.hex(),
            "floors": {"epoch": epoch_floor(time.time())},
        }
        if settings.firmware_root is not None:
            provision["firmware_root"] = settings.firmware_root
        answer = await _call(cradle, f"provision({json.dumps(provision)!r})")
        return bool(answer["reset"])

    async def retire(self, *, board: int, patient: str, gateway: str) -> None:
        """Take a lost or broken board out of the server's register; one that is out already stays out."""
        request = RetirementRequest(board=board, patient=patient, gateway=gateway, nonce=os.urandom(16))
        signed = SignedRetirement.of(request, self._identity, RETIREMENT_CONTEXT)
        answer = await self._post("/v1/retirements", signed, f"retire board {board:08x}", RETIREMENT_REPLY_CONTEXT)
        reply = _parsed(RetirementReply, answer, board)
        if reply.request_digest != sha256(signed.body):
            raise ToolError(f"the server answered another request about board {board:08x}")

    async def load(self, cradle: Cradle, gateway: str, pads: int) -> None:
        """Take ``pads`` keys for ``gateway`` from Alice's KME and write them to the board in the cradle."""
        keys = await self._kmes[gateway].enc_keys(gateway, pads, KEY_BITS)
        for data in _pieces(keys, KEY_BITS // 8):
            await _call(cradle, f"load({data.hex()!r})")

    async def load_blocks(self, cradle: Cradle, gateway: str, blocks: int, n_bytes: int) -> None:
        """Take ``blocks`` keys of ``n_bytes`` for ``gateway`` and write them to the board as one-time blocks.

        ``n_bytes`` is 64 to 4096, and at most what the KME hands out as one key.
        """
        keys = await self._kmes[gateway].enc_keys(gateway, blocks, 8 * n_bytes)
        for data in _pieces(keys, n_bytes):
            await _call(cradle, f"load_blocks({data.hex()!r}, {n_bytes})")

    async def _post_enrolment(self, request: EnrolmentRequest) -> EnrolmentReply:
        signed = SignedEnrolment.of(request, self._identity, ENROLMENT_CONTEXT)
        answer = await self._post("/v1/enrolments", signed, f"enrol board {request.board:08x}", REPLY_CONTEXT)
        return _parsed(EnrolmentReply, answer, request.board)

    async def _post(self, path: str, signed: BaseModel, what: str, context: bytes) -> bytes:
        """Post a signed request; returns the body of the server's reply, whose signature holds."""
        response = await self._http.post(path, content=signed.model_dump_json())
        if response.status_code != httpx.codes.OK:
            raise ToolError(f"the server refused to {what}: {response.text[:200]}")
        try:
            answer = SignedReply.model_validate_json(response.content)
            verify_signature(self._server.sign_key, answer.signature, answer.body, context)
        except (ValidationError, UplinkError) as error:
            raise ToolError(f"asked to {what}, the server sent an answer that is not its own") from error
        return answer.body


def epoch_floor(unix_s: float) -> int:
    """Epoch above which a board without counters begins: any that it had under this number, had its flash been erased.

    A gateway takes no epoch a second time. Seconds since 2026: no board begins an epoch each second for long.
    """
    return max(0, int(unix_s) - _2026_S)


def _pieces(keys: list[QkdKey], n_bytes: int) -> Iterator[bytes]:
    """The keys with their key_IDs, as many a call as a board has memory for: a literal takes a few times its length."""
    each = max(1, _CALL_BYTES // n_bytes)
    for start in range(0, len(keys), each):
        yield b"".join(key.key_id.bytes + key.value for key in keys[start : start + each])


def _parsed(model: type[Reply], body: bytes, board: int) -> Reply:
    try:
        reply = model.model_validate_json(body)
    except ValidationError as error:
        raise ToolError(f"the server's answer about board {board:08x} has another shape") from error
    if reply.board != board:
        raise ToolError(f"the server answered for board {reply.board:08x}, not {board:08x}")
    return reply


async def _call(cradle: Cradle, call: str) -> dict[str, Any]:
    printed = await cradle.run(f"from qepa_board.system import dock\ndock.{call}")
    lines = printed.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        raise ToolError(f"the board did not answer {call.split('(', maxsplit=1)[0]}") from error
    if not isinstance(answer, dict) or not answer.get("ok"):
        raise ToolError(f"the board refused {call.split('(', maxsplit=1)[0]}: {answer}")
    return answer
