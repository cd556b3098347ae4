"""Enrolment requests of the key dock: checked, stored, answered with the cohort key."""

from collections.abc import Callable

from sqlalchemy import Connection, delete, insert, select

from qepa_uplink.enrolment import (
    ENROLMENT_CONTEXT,
    REPLY_CONTEXT,
    EnrolmentReply,
    EnrolmentRequest,
    SignedEnrolment,
    SignedReply,
    cohort_info,
    enrolment_info,
)
from qepa_uplink.identity import Identity
from qepa_uplink.sealing import seal_to
from qepa_wire.keys import KEY_BYTES
from qepa_wire.primitives import sha256

from ..audit import chain
from ..errors import RefusedError
from ..parsing import parse
from ..store.database import Store
from ..store.schema import boards, enrolments
from ..store.vault import Vault
from .register import Board, BoardRegister, end_key_purpose


class EnrolmentDesk:
    """Takes signed requests; ``changed(gateway)`` is called for each gateway whose boards changed.

    ``replaced(connection, before, board)`` is called inside the transaction that enrols a board anew.
    """

    def __init__(
        self,
        *,
        store: Store,
        vault: Vault,
        register: BoardRegister,
        identity: Identity,
        root_key: bytes,
        cohort_key: bytes,
        model_root: bytes,
        clock_ms: Callable[[], int],
        replaced: Callable[[Connection, Board, Board], None],
        changed: Callable[[str], None],
    ) -> None:
        self._store = store
        self._vault = vault
        self._register = register
        self._identity = identity
        self._root_key = root_key
        self._cohort_key = cohort_key
        self._model_root = model_root
        self._clock_ms = clock_ms
        self._replaced = replaced
        self._changed = changed

    def enrol(self, signed: SignedEnrolment) -> SignedReply:
        """Enrol a board and return the signed reply. The same request again gets its reply again.

        Raises UplinkError (certificate, signature, schema, seal) or RefusedError (replay, key, or patient:
        has boards at another gateway).
        """
        now_ms = self._clock_ms()
        dock = signed.verify(self._root_key, role="dock", context=ENROLMENT_CONTEXT, now_s=now_ms / 1000)
        request = parse(EnrolmentRequest, signed.body)
        digest = sha256(signed.body)
        current = self._register.get(request.board)
        if current is None or current.request_digest != digest:
            self._store_board(request, digest, dock.name, now_ms)
        sealed = seal_to(dock.seal_key, self._cohort_key, cohort_info(request.board))
        reply = EnrolmentReply(board=request.board, sealed_cohort_key=sealed, model_root=self._model_root)
        body = reply.model_dump_json().encode()
        return SignedReply(body=body, signature=self._identity.sign(body, REPLY_CONTEXT))

    def _store_board(self, request: EnrolmentRequest, digest: bytes, dock: str, now_ms: int) -> None:
        info = enrolment_info(request.board, request.patient, request.gateway)
        end_key = self._identity.unseal(request.sealed_end_key, info)
        if len(end_key) != KEY_BYTES:
            raise RefusedError("key", f"an end key has {KEY_BYTES} bytes")
        elsewhere = {
            other.gateway
            for other in self._register.values()
            if other.patient == request.patient and other.board != request.board and other.gateway != request.gateway
        }
        if elsewhere:
            # All boards of a patient are in one cell, and a cell assigns a gateway's patients as a whole.
            raise RefusedError("patient", f"{request.patient} has boards at {', '.join(sorted(elsewhere))}")
        tag = self._vault.tag(end_key)
        board = Board(request.board, request.patient, request.gateway, end_key, digest, request.patient_boards)
        before = self._register.get(request.board)
        with self._store.write() as connection:
            if connection.execute(select(enrolments.c.board).where(enrolments.c.request_digest == digest)).first():
                raise RefusedError("replay", "this request was honoured before and replaced since")
            if connection.execute(select(enrolments.c.board).where(enrolments.c.key_tag == tag)).first():
                raise RefusedError("key", "this end key was enrolled before")
            connection.execute(delete(boards).where(boards.c.board == request.board))
            connection.execute(
                insert(boards).values(
                    board=request.board,
                    patient=request.patient,
                    gateway=request.gateway,
                    end_key=self._vault.seal(end_key, end_key_purpose(request.board)),
                    key_tag=tag,
                    request_digest=digest,
                    enrolled_ms=now_ms,
                    patient_boards=request.patient_boards,
                )
            )
            connection.execute(
                insert(enrolments).values(request_digest=digest, board=request.board, key_tag=tag, at_ms=now_ms)
            )
            if before is not None:
                self._replaced(connection, before, board)
            chain.append(
                connection,
                now_ms,
                "board.enrolled" if before is None else "board.replaced",
                board=request.board,
                patient=request.patient,
                gateway=request.gateway,
                dock=dock,
            )
        self._register.adopt(board)
        for gateway in {request.gateway} | ({before.gateway} if before else set()):
            self._changed(gateway)
