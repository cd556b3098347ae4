"""Consents: who may be watched live or be in sums, from when to when, until withdrawn.

The consent desk signs; the server stores the evidence and hands out care keys only inside the window. A consent covers
a board at the gateway where it was when the consent came: after a move, care needs a new one (PROTOCOL.md, section 3).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from sqlalchemy import insert, select, update

from qepa_uplink.enrolment import CONSENT_CONTEXT, WITHDRAWAL_CONTEXT, SignedWithdrawal, Withdrawal
from qepa_uplink.messages import CareGrant, Consent, Purpose, SignedConsent
from qepa_wire.keys import care_key

from ..audit import chain
from ..enrolment.register import Board, BoardRegister
from ..errors import RefusedError
from ..parsing import parse
from ..policy import BoardFacts, ConsentFacts, Stream, Verdict, decide
from ..store.database import Store
from ..store.schema import consent_boards, consents

_KEPT_AFTER_END_MS = 3600_000  # how long an ended consent is still revoked at gateways that use it


@dataclass(frozen=True, slots=True)
class StoredConsent:
    """A consent with the gateway of each covered board."""

    consent_id: bytes
    patient: str
    signed: SignedConsent
    not_before_s: int
    not_after_s: int
    withdrawn_ms: int | None
    gateways: dict[int, str]
    purpose: Purpose = "care"

    def in_force(self, now_ms: int) -> bool:
        """Tell whether it may be used now."""
        return self.withdrawn_ms is None and 1000 * self.not_before_s <= now_ms < 1000 * self.not_after_s

    def has_ended(self, now_ms: int) -> bool:
        """Tell whether it was withdrawn or ran out."""
        return self.withdrawn_ms is not None or now_ms >= 1000 * self.not_after_s


class ConsentDesk:
    """All consents; ``changed(consent_id)`` is called when one came or was withdrawn.

    ``consent_required``: nobody is in a sum without a consent for its purpose. ``quarantined(board)``: it has no
    part in sums, whatever was consented to.
    """

    def __init__(
        self,
        *,
        store: Store,
        register: BoardRegister,
        root_key: bytes,
        clock_ms: Callable[[], int],
        changed: Callable[[bytes], None],
        consent_required: bool = False,
        quarantined: Callable[[Board], bool] = lambda _board: False,
    ) -> None:
        self._store = store
        self._quarantined = quarantined
        self._consent_required = consent_required
        self._register = register
        self._root_key = root_key
        self._clock_ms = clock_ms
        self._changed = changed
        self._consents: dict[bytes, StoredConsent] = {}
        self._signed: dict[tuple[str, str], set[bytes]] = {}  # by purpose and patient
        with store.read() as connection:
            for row in connection.execute(select(consents)):
                covered = connection.execute(
                    select(consent_boards).where(consent_boards.c.consent_id == row.consent_id)
                )
                self._keep(
                    StoredConsent(
                        row.consent_id,
                        row.patient,
                        SignedConsent.model_validate_json(row.signed),
                        row.not_before_s,
                        row.not_after_s,
                        row.withdrawn_ms,
                        {item.board: item.gateway for item in covered},
                        row.purpose,
                    )
                )

    def find(self, consent_id: bytes) -> StoredConsent | None:
        """One consent."""
        return self._consents.get(consent_id)

    def accept(self, signed: SignedConsent) -> bytes:
        """Store a consent and return its id. The same consent again changes nothing.

        Raises UplinkError (certificate, signature, schema) or RefusedError (window, board, conflict).
        """
        now_ms = self._clock_ms()
        desk = signed.verify(self._root_key, role="consent", context=CONSENT_CONTEXT, now_s=now_ms / 1000)
        consent = parse(Consent, signed.body)
        known = self._consents.get(consent.consent_id)
        if known is not None:
            if known.signed.body != signed.body or known.withdrawn_ms is not None:
                raise RefusedError("conflict", "this consent id was used before")
            return consent.consent_id
        stored = self._check(consent, signed, now_ms)
        with self._store.write() as connection:
            connection.execute(
                insert(consents).values(
                    consent_id=stored.consent_id,
                    patient=stored.patient,
                    signed=signed.model_dump_json(),
                    not_before_s=stored.not_before_s,
                    not_after_s=stored.not_after_s,
                    purpose=stored.purpose,
                )
            )
            for board, gateway in stored.gateways.items():
                connection.execute(
                    insert(consent_boards).values(consent_id=stored.consent_id, board=board, gateway=gateway)
                )
            chain.append(
                connection,
                now_ms,
                "consent.given",
                consent=stored.consent_id.hex(),
                patient=stored.patient,
                purpose=stored.purpose,
                boards=len(stored.gateways),
                not_before_s=stored.not_before_s,
                not_after_s=stored.not_after_s,
                desk=desk.name,
            )
        self._keep(stored)
        self._changed(stored.consent_id)
        return stored.consent_id

    def _check(self, consent: Consent, signed: SignedConsent, now_ms: int) -> StoredConsent:
        if consent.not_after_s <= consent.not_before_s or 1000 * consent.not_after_s <= now_ms:
            raise RefusedError("window", "the consent has ended before it began to count")
        if not consent.boards:
            raise RefusedError("board", "the consent names no board")
        covered: dict[int, str] = {}
        for number in consent.boards:
            board = self._register.get(number)
            if board is None or board.patient != consent.patient:
                raise RefusedError("board", f"{number:08x} is no board of {consent.patient}")
            covered[number] = board.gateway
        return StoredConsent(
            consent.consent_id,
            consent.patient,
            signed,
            consent.not_before_s,
            consent.not_after_s,
            None,
            covered,
            consent.purpose,
        )

    def withdraw(self, signed: SignedWithdrawal) -> bytes:
        """End a consent for good and return its id.

        Raises UplinkError (certificate, signature, schema) or RefusedError("consent") for one that is not known.
        """
        now_ms = self._clock_ms()
        desk = signed.verify(self._root_key, role="consent", context=WITHDRAWAL_CONTEXT, now_s=now_ms / 1000)
        consent_id = parse(Withdrawal, signed.body).consent_id
        known = self._consents.get(consent_id)
        if known is None:
            raise RefusedError("consent", "no such consent")
        if known.withdrawn_ms is None:
            with self._store.write() as connection:
                connection.execute(
                    update(consents).where(consents.c.consent_id == consent_id).values(withdrawn_ms=now_ms)
                )
                chain.append(
                    connection,
                    now_ms,
                    "consent.withdrawn",
                    consent=consent_id.hex(),
                    patient=known.patient,
                    purpose=known.purpose,
                    desk=desk.name,
                )
            self._keep(replace(known, withdrawn_ms=now_ms))
            self._changed(consent_id)
        return consent_id

    def covers(self, consent_id: bytes, board: int, now_ms: int) -> bool:
        """Tell whether the consent lets ``board`` be watched now, where it is now."""
        return self.decide_care(consent_id, board, now_ms).allowed

    def decide_care(self, consent_id: bytes, board: int, now_ms: int, *, gateway: str | None = None) -> Verdict:
        """Return whether the consent lets ``board`` be watched now, and if not, why; ``gateway`` brings its data."""
        consent = self._consents.get(consent_id)
        consents = [] if consent is None else [_facts(consent)]
        return decide(Stream.CARE, "care", self._board(board), consents, now_ms, gateway=gateway)

    def admit(self, gateway: str, number: int, consent_id: bytes, now_ms: int) -> Board:
        """The board whose data ``gateway`` brings under a consent; raises RefusedError (board, consent, ...)."""
        board = self._register.get(number)
        verdict = self.decide_care(consent_id, number, now_ms, gateway=gateway)
        if board is None or verdict.reason in ("board", "gateway"):
            raise RefusedError("board", f"{number:08x} is not enrolled at {gateway}")
        if not verdict.allowed:
            raise RefusedError(verdict.reason, f"no consent in force covers {number:08x}")
        return board

    def decide(self, purpose: Purpose, board: int, now_ms: int) -> Verdict:
        """Return whether ``board`` may be in sums of ``purpose`` now, and if not, why (policy.py)."""
        record = self._register.get(board)
        signed = () if record is None else self._signed.get((purpose, record.patient), ())
        consents = [_facts(self._consents[consent_id]) for consent_id in signed]
        facts = self._board(board)
        return decide(Stream.AGGREGATE, purpose, facts, consents, now_ms, consent_required=self._consent_required)

    def allows(self, purpose: Purpose, board: int, now_ms: int) -> bool:
        """Tell whether ``board`` may be in sums of ``purpose`` now."""
        return self.decide(purpose, board, now_ms).allowed

    def _board(self, number: int) -> BoardFacts | None:
        record = self._register.get(number)
        if record is None:
            return None
        return BoardFacts(number, record.patient, record.gateway, self._quarantined(record))

    def _keep(self, consent: StoredConsent) -> None:
        self._consents[consent.consent_id] = consent
        self._signed.setdefault((consent.purpose, consent.patient), set()).add(consent.consent_id)

    def signed_by(self, patient: str) -> list[StoredConsent]:
        """All that ``patient`` ever signed, in the order of their beginnings."""
        found = (each for each in self._consents.values() if each.patient == patient)
        return sorted(found, key=lambda each: (each.not_before_s, each.consent_id))

    def watched(self, board: int, now_ms: int) -> bool:
        """Tell whether any consent covers ``board`` now."""
        record = self._register.get(board)
        return record is not None and any(True for _ in self._covering(record, now_ms))

    def grants(self, gateway: str, now_ms: int) -> Iterator[tuple[bytes, CareGrant]]:
        """Care keys that ``gateway`` is to hold now, each with its consent id: one for a board, of the longest consent.

        A gateway keeps one consent for a board; with two it would be told of one after the other for ever.
        """
        for record in self._register.of_gateway(gateway):
            covering = self._covering(record, now_ms)
            consent = max(covering, key=lambda c: (c.not_after_s, c.consent_id), default=None)
            if consent is not None:
                key = care_key(record.end_key, consent.consent_id)
                yield consent.consent_id, CareGrant(consent=consent.signed, board=record.board, care_key=key)

    def _covering(self, record: Board, now_ms: int) -> Iterator[StoredConsent]:
        """Consents that cover a board now. Those that have ended are many in time, so they are passed over first."""
        for consent_id in self._signed.get(("care", record.patient), ()):
            consent = self._consents[consent_id]
            if consent.in_force(now_ms) and self.covers(consent_id, record.board, now_ms):
                yield consent

    def ended(self, gateway: str, now_ms: int) -> list[bytes]:
        """Withdrawn consents whose window is not long over: ``gateway`` may still hold their keys."""
        return [
            consent.consent_id
            for consent in self._consents.values()
            if gateway in consent.gateways.values()
            and consent.purpose == "care"
            and consent.withdrawn_ms is not None
            and now_ms < 1000 * consent.not_after_s + _KEPT_AFTER_END_MS
        ]


def _facts(consent: StoredConsent) -> ConsentFacts:
    return ConsentFacts(
        consent.purpose,
        consent.patient,
        consent.not_before_s,
        consent.not_after_s,
        consent.withdrawn_ms is not None,
        consent.gateways,
    )
