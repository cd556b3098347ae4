"""Who may do what with which stream, for which purpose, and when: every such decision of the server is made here.

Pure: facts and the time in, a verdict out. Callers look the facts up, keep to the verdict and count refusals by its
reason. What is not allowed by a rule below is refused.

- aggregate stream, for statistics or learning: a board in the register, of a patient who has not withdrawn from that
  purpose, and not quarantined.
- care stream, for care: under a consent for care that is in force and covers the board, of the same patient, at the
  same gateway as when it was signed.
- alert stream, for emergencies: a board in the register, always. No consent, budget or quarantine holds it back.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Stream(StrEnum):
    """The three streams, bound to their purposes by separate keys (PROTOCOL.md, section 3)."""

    AGGREGATE = "aggregate"
    CARE = "care"
    ALERT = "alert"


PURPOSES: dict[Stream, frozenset[str]] = {
    Stream.AGGREGATE: frozenset({"statistics", "learning"}),
    Stream.CARE: frozenset({"care"}),
    Stream.ALERT: frozenset({"emergency"}),
}


@dataclass(frozen=True, slots=True)
class BoardFacts:
    """What the register says of a board, and whether its patient or its gateway is quarantined."""

    board: int
    patient: str
    gateway: str
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class ConsentFacts:
    """A signed consent: for what, whose, when (s since the Unix epoch), which boards and where each was then."""

    purpose: str
    patient: str
    not_before_s: int
    not_after_s: int
    withdrawn: bool
    gateways: dict[int, str]

    def in_force(self, now_ms: int) -> bool:
        """Tell whether it may be used now."""
        return not self.withdrawn and 1000 * self.not_before_s <= now_ms < 1000 * self.not_after_s


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` is empty where it is allowed, else one word: purpose, board, gateway, consent, quarantine."""

    reason: str

    @property
    def allowed(self) -> bool:
        """Tell whether nothing speaks against it."""
        return not self.reason


ALLOWED = Verdict("")


def decide(
    stream: Stream,
    purpose: str,
    board: BoardFacts | None,
    consents: Iterable[ConsentFacts],
    now_ms: int,
    *,
    gateway: str | None = None,
    consent_required: bool = False,
) -> Verdict:
    """Return whether data of ``board`` (None: not in the register) may be used.

    ``consents``: those that are relied on; for the aggregate stream all that the patient ever signed for that purpose.
    ``gateway``: who brings the data, where that is known. ``consent_required``: no sum without a consent.
    """
    if purpose not in PURPOSES[stream]:
        return Verdict("purpose")
    if board is None:
        return Verdict("board")
    if gateway is not None and gateway != board.gateway:
        return Verdict("gateway")
    match stream:
        case Stream.ALERT:
            return ALLOWED
        case Stream.CARE:
            return ALLOWED if any(_covers_care(consent, board, now_ms) for consent in consents) else Verdict("consent")
        case Stream.AGGREGATE:
            return _aggregate(purpose, board, list(consents), now_ms, consent_required=consent_required)


def _covers_care(consent: ConsentFacts, board: BoardFacts, now_ms: int) -> bool:
    return (
        consent.purpose == "care"
        and consent.patient == board.patient
        and consent.in_force(now_ms)
        and consent.gateways.get(board.board) == board.gateway
    )


def _aggregate(
    purpose: str, board: BoardFacts, signed: list[ConsentFacts], now_ms: int, *, consent_required: bool
) -> Verdict:
    """Enrolment allows it until the patient signs a consent for that purpose; from then on one must be in force.

    So a withdrawal, or the end of a consent, takes the patient out. A consent for sums holds wherever the board is.
    """
    own = [consent for consent in signed if consent.purpose == purpose and consent.patient == board.patient]
    covered = any(board.board in consent.gateways and consent.in_force(now_ms) for consent in own)
    if (own or consent_required) and not covered:
        return Verdict("consent")
    return Verdict("quarantine") if board.quarantined else ALLOWED
