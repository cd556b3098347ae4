"""The newest beat of a board that its gateway's model called S, V or F, and why: in memory only, for five minutes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qepa_uplink.beat_reasons import EDGES_MS, PLAYERS, phrases
from qepa_uplink.bedside_models import BEFORE_R, CONTRACTS, ECG_BEATS, NUMBERS
from qepa_uplink.messages import LEAD_STEPS, ExplainedBeat

from ..errors import RefusedError
from .arrival import comes_late, source_of
from .consents import ConsentDesk
from .memory import CareMemory

STALE_MS = 300_000

_CLASSES = CONTRACTS[ECG_BEATS].outputs
_FS_HZ = CONTRACTS[ECG_BEATS].fs_hz
_ONE = 1000  # probabilities, shares and numbers are in thousandths
_ROUNDING = 25  # of them: int8 answers are rounded to a 256th, so that four do not quite add up to 1
_SHARES = ("unequal", "breadth")  # numbers from 0 to 1


@dataclass(frozen=True, slots=True)
class Explained:
    """A beat, numbered in order of arrival; ``at_ms`` by the clock that makes it look older."""

    number: int
    message: ExplainedBeat
    at_ms: int

    def shown(self, now_ms: int) -> dict[str, object]:
        """What the state says of it: that there is one."""
        of = self.message
        return {
            "number": self.number,
            "beat": of.answer,
            "model": of.model,
            "version": of.version,
            "source": source_of(of),
            "age_ms": max(0, now_ms - self.at_ms),
        }

    def whole(self, now_ms: int) -> dict[str, object]:
        """All of it. Points are percentage points of the answer's probability less that of a normal beat.

        ``reasons``, strongest first, add up to ``lead_points`` less ``start_points``, the lead of the usual beat.
        ``beat`` and ``usual`` are in heights of the usual QRS, from ``first_ms`` of the R peak on.
        """
        of = self.message
        words = phrases({name: value / _ONE for name, value in zip(NUMBERS, of.numbers, strict=True)})
        reasons = [
            {"name": player, "words": words[player], "points": share / 10, "edges_ms": EDGES_MS.get(player)}
            for player, share in sorted(zip(PLAYERS, of.shares, strict=True), key=lambda each: -abs(each[1]))
        ]
        return self.shown(now_ms) | {
            "answer": of.answer,
            "probabilities": {name: p / _ONE for name, p in zip(_CLASSES, of.probabilities, strict=True)},
            "reasons": reasons,
            "start_points": (_lead(of) - sum(of.shares)) / 10,
            "lead_points": _lead(of) / 10,
            "fs_hz": _FS_HZ,
            "first_ms": -1000 * BEFORE_R // _FS_HZ,
            "beat": _heights(of.beat),
            "usual": _heights(of.usual),
        }


class ExplainedBeats:
    """Holds the newest explained beat of a board for as long as the consent that it came under is in force."""

    def __init__(self, *, consents: ConsentDesk, clock_ms: Callable[[], int]) -> None:
        self._consents = consents
        self._clock_ms = clock_ms
        self._newest: CareMemory[Explained] = CareMemory(consents)
        self._count = 0

    def accept(self, gateway: str, message: ExplainedBeat) -> None:
        """Take a beat; raises RefusedError (board, consent, payload, replay)."""
        now_ms = self._clock_ms()
        self._consents.admit(gateway, message.board, message.consent_id, now_ms)
        if not _is_possible(message):
            raise RefusedError("payload", f"an explained beat of {message.board:08x} that can't be")
        last = self._newest.get(message.board, now_ms)
        if last is not None and _is_of_the_past(message, last.message, now_ms):
            raise RefusedError("replay", f"an explained beat of {message.board:08x}")
        self._count += 1
        explained = Explained(self._count, message, min(now_ms, message.received_ms))
        self._newest.put(message.board, message.consent_id, explained)

    def newest(self, board: int, now_ms: int) -> Explained | None:
        """None without one whose consent is in force, or when it is older than STALE_MS."""
        found = self._newest.get(board, now_ms)
        return None if found is None or abs(now_ms - found.at_ms) > STALE_MS else found

    def tick(self) -> None:
        """Forget what is old, and what has no consent any more."""
        now_ms = self._clock_ms()
        for board, found in self._newest.items(now_ms).items():
            if abs(now_ms - found.at_ms) > STALE_MS:
                self._newest.drop(board)


def _is_possible(message: ExplainedBeat) -> bool:
    """Whether one model and one usual beat can have given these figures."""
    probabilities = message.probabilities
    if any(not 0 <= p <= _ONE for p in probabilities) or abs(sum(probabilities) - _ONE) > _ROUNDING:
        return False
    if probabilities[_CLASSES.index(message.answer)] < max(probabilities):
        return False
    start = _lead(message) - sum(message.shares)  # a difference of two probabilities, too
    if message.model != ECG_BEATS or abs(start) > _ONE + _ROUNDING:
        return False
    numbers = dict(zip(NUMBERS, message.numbers, strict=True))
    distances = [value for name, value in numbers.items() if name.startswith("unlike")]
    return min(distances) >= 0 and all(0 <= numbers[name] <= _ONE for name in _SHARES)


def _is_of_the_past(message: ExplainedBeat, last: ExplainedBeat, now_ms: int) -> bool:
    same = (message.boots, message.t_ms) == (last.boots, last.t_ms)
    return same or comes_late(message.received_ms, last.received_ms, now_ms)


def _lead(message: ExplainedBeat) -> int:
    return message.probabilities[_CLASSES.index(message.answer)] - message.probabilities[0]


def _heights(lead: bytes) -> list[float]:
    return [round(value, 3) for value in (np.frombuffer(lead, np.int8) / LEAD_STEPS).tolist()]
