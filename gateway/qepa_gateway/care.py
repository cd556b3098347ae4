"""The care stream: keys exist only while a signed consent is valid; live vitals for the bedside and the server."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from qepa_uplink.enrolment import CONSENT_CONTEXT
from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import CareGrant, CareRecord, CareRevoke, Consent
from qepa_uplink.readings import is_later
from qepa_wire.frame import CARE_GRANT, CARE_REVOKE, LABELS, Frame
from qepa_wire.payloads import (
    MAX_LABELS,
    Care,
    Label,
    care_consent,
    decode_care,
    encode_grant,
    encode_labels,
    encode_revoke,
)

from .boards import Board, Boards
from .domain.keyring import EpochKeys
from .errors import Refused
from .models import Models
from .server_link import ServerLink
from .spool.database import Spool
from .spool.trust import StoredConsent, TrustStore
from .transport import Clock

_LOG = logging.getLogger(__name__)
_GRANT_AGAIN_MS = 3000
_REVOKE_AGAIN_MS = 2000
_BOOTS_MASK = 0xFFFF


@dataclass(frozen=True, slots=True)
class Vitals:
    """The last care record of a board and when it came."""

    care: Care
    received_ms: int


class CareStreams:
    """One consent at most for each board; a new one replaces the last."""

    def __init__(self, spool: Spool, boards: Boards, link: ServerLink, models: Models, clock: Clock) -> None:
        self._spool = spool
        self._trust = TrustStore(spool)
        self._boards = boards
        self._link = link
        self._models = models
        self._clock = clock
        self._consents = {consent.board: consent for consent in self._trust.consents()}
        self._streaming: set[int] = set()
        self._said_at_ms: dict[tuple[str, int], int] = {}
        self._vitals: dict[int, Vitals] = {}
        self.on_end: list[Callable[[int], None]] = []  # told of each board whose consent is over
        self.on_care: list[Callable[[int, Care], None]] = []  # told of each record that is the newest of its board
        link.handlers[CareGrant] = self._take_grant
        link.handlers[CareRevoke] = self._take_revoke

    def has_consent(self, board: int) -> bool:
        """Whether a consent is in force for ``board``."""
        return board in self._consents

    def vitals(self, board: int) -> Vitals | None:
        """The last care record of ``board``; None without a consent."""
        return self._vitals.get(board) if board in self._consents else None

    def take(self, board: Board, _keys: EpochKeys, frame: Frame) -> None:
        """Handle an authentic CARE frame; raises Refused("consent") if none is in force, WireError for a bad record."""
        consent = self.in_force(board, frame.payload)
        care = decode_care(consent.key, board.number, frame.seq, frame.payload)
        now_ms = self._clock()
        self._models.uses_low_bits(board, care.model)
        self._streaming.add(board.number)
        shown = self._vitals.get(board.number)
        if is_later(care, shown.care) if shown is not None else care.boots == board.row.boots:
            self._vitals[board.number] = Vitals(care, now_ms)
            for tell in self.on_care:
                tell(board.number, care)
        record = CareRecord(board=board.number, seq=frame.seq, payload=frame.payload, received_ms=now_ms)
        self._link.send_sealed(record)

    def in_force(self, board: Board, payload: bytes) -> StoredConsent:
        """The consent that a sealed ``payload`` of ``board`` came under; raises Refused("consent") if it is over."""
        consent_id = care_consent(payload)
        consent = self._consents.get(board.number)
        if consent is None or consent.consent_id != consent_id or self._is_over(consent):
            if self._due("revoke", board.number, _REVOKE_AGAIN_MS):
                self._boards.send_down(board, CARE_REVOKE, encode_revoke(consent_id))
            raise Refused("consent", f"care record of board {board.number:08x}")
        return consent

    def streaming(self) -> dict[int, StoredConsent]:
        """Boards that stream care records since their last HELLO, and under which consent."""
        return {number: self._consents[number] for number in sorted(self._streaming)}

    def greet(self, board: Board) -> None:
        """A board said HELLO: it may have forgotten its grant."""
        self._streaming.discard(board.number)
        self._said_at_ms.pop(("grant", board.number), None)

    def forget(self, board: int) -> None:
        """The board is no longer served here, or has another patient: its consent is not for this any more."""
        self._drop(board)

    def tick(self) -> None:
        """End what has expired; repeat grants that have not worked yet."""
        now_ms = self._clock()
        for number, consent in list(self._consents.items()):
            if self._is_over(consent):
                with self._spool.transaction():
                    self._drop(number)
                    self._tell_revoked(number, consent.consent_id)
                _LOG.info("consent expired board=%08x", number)
                continue
            if number in self._streaming:
                continue
            try:
                board = self._boards.get(number)
            except Refused:
                continue  # not served at the moment
            if board.is_online(now_ms) and self._due("grant", number, _GRANT_AGAIN_MS):
                valid_s = consent.not_after_s - now_ms // 1000
                payload = encode_grant(consent.key, number, consent.consent_id, min(valid_s, 0xFFFFFFFF))
                self._boards.send_down(board, CARE_GRANT, payload)

    def label(self, number: int, boots: int, labels: list[tuple[int, int]]) -> None:
        """Send a clinician's (sample, beat_class) labels down; raises Refused with a reason for the clinician.

        Labels are encrypted under the care key, so without a consent there is no way to send them.
        """
        board = self._boards.get(number)
        consent = self._consents.get(number)
        if consent is None or self._is_over(consent):
            raise Refused("consent", "none is in force for this board")
        if board.row.boots != boots & _BOOTS_MASK:
            raise Refused("boots", f"the board is on boot {board.row.boots}")
        if not board.is_online(self._clock()):
            raise Refused("offline", "the board was not heard lately")
        with self._spool.transaction():
            for start in range(0, len(labels), MAX_LABELS):
                seq = self._boards.reserve_seq(board)
                some = [Label(boots & _BOOTS_MASK, *label) for label in labels[start : start + MAX_LABELS]]
                payload = encode_labels(consent.key, consent.consent_id, number, seq, some)
                self._boards.send_down(board, LABELS, payload, seq=seq, qos=1)

    def _take_grant(self, message: CareGrant, _sender: str) -> None:
        signed = message.consent
        now_s = self._clock() / 1000
        signed.verify(self._link.root_key, role="consent", context=CONSENT_CONTEXT, now_s=now_s)
        try:
            consent = Consent.model_validate_json(signed.body)
        except ValidationError as error:
            raise UplinkError("consent", "signed body has another shape") from error
        board = self._boards.get(message.board)
        if not consent.not_before_s <= now_s < consent.not_after_s:
            raise Refused("consent", "outside its time")
        if consent.purpose != "care" or message.board not in consent.boards or board.row.patient != consent.patient:
            raise Refused("consent", "for another board or patient")
        if self._trust.has_ended(consent.consent_id):
            raise Refused("consent", "it was withdrawn")
        stored = StoredConsent(
            message.board, consent.consent_id, consent.patient, consent.not_after_s, message.care_key
        )
        if self._consents.get(message.board) == stored:
            return
        with self._spool.transaction():
            self._drop(message.board)
            self._trust.save_consent(stored)
        self._consents[message.board] = stored
        _LOG.info("consent granted board=%08x", message.board)

    def _take_revoke(self, message: CareRevoke, _sender: str) -> None:
        with self._spool.transaction():
            self._trust.end_consent(message.consent_id)
            for number, consent in list(self._consents.items()):
                if consent.consent_id == message.consent_id:
                    self._drop(number)
                    self._tell_revoked(number, message.consent_id)
                    _LOG.info("consent revoked board=%08x", number)

    def _tell_revoked(self, number: int, consent_id: bytes) -> None:
        try:
            board = self._boards.get(number)
        except Refused:
            return  # a board that is not served hears nothing from here
        self._boards.send_down(board, CARE_REVOKE, encode_revoke(consent_id))

    def _drop(self, number: int) -> None:
        self._trust.drop_consent(number)
        self._consents.pop(number, None)
        self._vitals.pop(number, None)
        self._streaming.discard(number)
        self._said_at_ms.pop(("grant", number), None)
        for tell in self.on_end:
            tell(number)

    def _is_over(self, consent: StoredConsent) -> bool:
        return self._clock() >= consent.not_after_s * 1000

    def _due(self, what: str, board: int, every_ms: int) -> bool:
        now_ms = self._clock()
        last_ms = self._said_at_ms.get((what, board))
        if last_ms is not None and 0 <= now_ms - last_ms < every_ms:
            return False
        self._said_at_ms[what, board] = now_ms
        return True
