"""What gateways' models find in the care stream: taken under a consent in force, in memory only, dashes when stale."""

from collections.abc import Callable
from dataclasses import dataclass

from qepa_uplink.messages import Findings
from qepa_uplink.readings import FOUND_MEASURES, found_readings
from qepa_wire.measures import UNKNOWN

from ..errors import RefusedError
from .arrival import comes_late, source_of
from .consents import ConsentDesk
from .memory import CareMemory

STALE_MS = 15_000  # gateways send every five seconds
MODELS_AT_MOST = 16  # of one board


@dataclass(frozen=True, slots=True)
class Found:
    """The newest findings of one model about one board; ``at_ms`` by the clock that makes them look older."""

    findings: Findings
    at_ms: int

    def shown(self, now_ms: int) -> dict[str, object]:
        """As the ward page shows it."""
        age_ms = max(0, now_ms - self.at_ms)
        of = self.findings
        return {
            "model": of.model,
            "version": of.version,
            "source": source_of(of),
            "readings": found_readings(of.readings, fresh=abs(now_ms - self.at_ms) <= STALE_MS),
            "age_ms": age_ms,
        }


class FindingsMonitor:
    """Holds findings while their consent is in force."""

    def __init__(self, *, consents: ConsentDesk, clock_ms: Callable[[], int]) -> None:
        self._consents = consents
        self._clock_ms = clock_ms
        self._newest: CareMemory[dict[str, Found]] = CareMemory(consents)  # by name of the model

    def accept(self, gateway: str, findings: Findings) -> None:
        """Take findings; raises RefusedError (board, consent, payload, replay)."""
        now_ms = self._clock_ms()
        self._consents.admit(gateway, findings.board, findings.consent_id, now_ms)
        if not _is_sound(findings):
            raise RefusedError("payload", f"findings of {findings.model} about {findings.board:08x}")
        last = self.newest(findings.board, now_ms).get(findings.model)
        if last is not None and comes_late(findings.received_ms, last.findings.received_ms, now_ms):
            raise RefusedError("replay", f"findings of {findings.model} about {findings.board:08x}")
        of_board = self._newest.get(findings.board, now_ms, consent_id=findings.consent_id) or {}
        if findings.model not in of_board and len(of_board) >= MODELS_AT_MOST:
            raise RefusedError("payload", f"findings of more than {MODELS_AT_MOST} models")
        found = Found(findings, min(now_ms, findings.received_ms))
        self._newest.put(findings.board, findings.consent_id, of_board | {findings.model: found})

    def newest(self, board: int, now_ms: int) -> dict[str, Found]:
        """By name of the model; {} without any whose consent is in force."""
        return self._newest.get(board, now_ms) or {}

    def shown(self, board: int, now_ms: int) -> list[dict[str, object]]:
        """What may be shown of ``board`` now, models in order of name."""
        return [found.shown(now_ms) for _, found in sorted(self.newest(board, now_ms).items())]

    def tick(self) -> None:
        """Forget what has no consent any more."""
        self._newest.forget_uncovered(self._clock_ms())


def _is_sound(findings: Findings) -> bool:
    codes = [code for code, _, _ in findings.readings]
    return len(set(codes)) == len(codes) and all(_is_possible(*reading) for reading in findings.readings)


def _is_possible(code: int, quality: int, value: int) -> bool:
    if value == UNKNOWN:
        return quality > 0
    known = FOUND_MEASURES.get(code)
    return quality <= 100 and (known is None or known.low <= value <= known.high)
