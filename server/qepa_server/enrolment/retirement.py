"""Retirement requests of the key dock: a lost or broken board leaves the register, and its end key is erased."""

from collections.abc import Callable

from sqlalchemy import Connection, delete, insert, select

from qepa_uplink.enrolment import (
    RETIREMENT_CONTEXT,
    RETIREMENT_REPLY_CONTEXT,
    RetirementReply,
    RetirementRequest,
    SignedReply,
    SignedRetirement,
)
from qepa_uplink.identity import Identity
from qepa_wire.primitives import sha256

from ..audit import chain
from ..errors import RefusedError
from ..parsing import parse
from ..store.database import Store
from ..store.schema import boards, enrolments
from .register import Board, BoardRegister

NO_KEY = b""  # in the place of a key's tag: a retirement brings none


class RetirementDesk:
    """Takes signed requests.

    ``retired(connection, board)`` is called inside the transaction that ends a board, ``changed(gateway)`` after it.
    """

    def __init__(
        self,
        *,
        store: Store,
        register: BoardRegister,
        identity: Identity,
        root_key: bytes,
        clock_ms: Callable[[], int],
        retired: Callable[[Connection, Board], None],
        changed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._register = register
        self._identity = identity
        self._root_key = root_key
        self._clock_ms = clock_ms
        self._retired = retired
        self._changed = changed

    def retire(self, signed: SignedRetirement) -> SignedReply:
        """Take a board out of the register and return the signed reply; of one that is out already, just the reply.

        From then on its gateway serves it no more, its frames are refused, no consent covers it, its alarms are over.
        A cell that it has just contributed to is void for that round. Its number may be enrolled again, with a new key.
        Raises UplinkError (certificate, signature, schema) or RefusedError (board: never enrolled, or another's;
        replay: enrolled again since).
        """
        now_ms = self._clock_ms()
        dock = signed.verify(self._root_key, role="dock", context=RETIREMENT_CONTEXT, now_s=now_ms / 1000)
        request = parse(RetirementRequest, signed.body)
        digest = sha256(signed.body)
        board = self._register.get(request.board)
        if board is None:
            self._check_was_enrolled(request.board)
        elif (board.patient, board.gateway) != (request.patient, request.gateway):
            raise RefusedError("board", f"{request.board:08x} is not of {request.patient} at {request.gateway}")
        else:
            self._end(board, digest, dock.name, now_ms)
        body = RetirementReply(board=request.board, request_digest=digest).model_dump_json().encode()
        return SignedReply(body=body, signature=self._identity.sign(body, RETIREMENT_REPLY_CONTEXT))

    def _check_was_enrolled(self, board: int) -> None:
        with self._store.read() as connection:
            if connection.execute(select(enrolments.c.board).where(enrolments.c.board == board)).first() is None:
                raise RefusedError("board", f"{board:08x} was never enrolled")

    def _end(self, board: Board, digest: bytes, dock: str, now_ms: int) -> None:
        with self._store.write() as connection:
            if connection.execute(select(enrolments.c.board).where(enrolments.c.request_digest == digest)).first():
                raise RefusedError("replay", f"{board.board:08x} was enrolled again since this request was honoured")
            connection.execute(
                insert(enrolments).values(request_digest=digest, board=board.board, key_tag=NO_KEY, at_ms=now_ms)
            )
            connection.execute(delete(boards).where(boards.c.board == board.board))
            self._retired(connection, board)
            chain.append(
                connection,
                now_ms,
                "board.retired",
                board=board.board,
                patient=board.patient,
                gateway=board.gateway,
                dock=dock,
            )
        self._register.drop(board.board)
        self._changed(board.gateway)
