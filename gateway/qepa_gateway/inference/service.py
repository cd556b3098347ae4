"""All models of a gateway at work. Findings go to the server every five seconds, explanations at once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from qepa_uplink.messages import ExplainedBeat, Findings

from ..care import CareStreams
from ..server_link import ServerLink
from ..transport import Clock
from .finding import Explanation, Finding, Reader
from .shelf import ModelShelf

EVERY_MS = 5000


@dataclass(frozen=True, slots=True)
class Found:
    """Findings of one board, and when the gateway made them."""

    at_ms: int
    findings: tuple[Finding, ...]


class Inference:
    """``errors`` counts failures by name of a model. Nothing of a board is kept beyond its consent."""

    def __init__(self, care: CareStreams, link: ServerLink, shelf: ModelShelf, clock: Clock) -> None:
        self._care = care
        self._link = link
        self._clock = clock
        self._readers: list[Reader] = []
        self._found: dict[int, Found] = {}
        self._explained: dict[int, ExplainedBeat] = {}
        self.shelf = shelf
        self.errors: Counter[str] = Counter()
        care.on_end.append(self.forget)

    def add(self, readers: Sequence[Reader]) -> None:
        """Have these work from now on."""
        self._readers += readers

    def tick(self) -> None:
        """A bounded part of what is due, then findings that are due."""
        for reader in self._readers:
            reader.work()
        now_ms = self._clock()
        for number, consent in self._care.streaming().items():
            last = self._found.get(number)
            if last is not None and 0 <= now_ms - last.at_ms < EVERY_MS:
                continue
            findings = tuple(each for reader in self._readers for each in reader.findings(number))
            if not findings:
                continue
            self._found[number] = Found(now_ms, findings)
            for each in findings:
                self._link.send_sealed(
                    Findings(
                        board=number,
                        consent_id=consent.consent_id,
                        boots=each.boots,
                        t_ms=each.t_ms,
                        received_ms=now_ms,
                        model=each.model,
                        version=each.version,
                        readings=each.readings,
                    )
                )

    def explain(self, board: int, why: Explanation) -> None:
        """A reader has explained a beat; without a consent in force nothing comes of that."""
        consent = self._care.streaming().get(board)
        if consent is None:
            return
        beat = ExplainedBeat(
            board=board,
            consent_id=consent.consent_id,
            boots=why.boots,
            t_ms=why.t_ms,
            received_ms=self._clock() - why.after_ms,
            model=why.model,
            version=why.version,
            answer=why.answer,
            probabilities=why.probabilities,
            shares=why.shares,
            numbers=why.numbers,
            beat=why.beat,
            usual=why.usual,
        )
        self._explained[board] = beat
        self._link.send_sealed(beat)

    def explained(self, board: int) -> ExplainedBeat | None:
        """The newest beat of ``board`` that was explained; None without a consent in force."""
        return self._explained.get(board) if self._care.has_consent(board) else None

    def found(self, board: int) -> Found | None:
        """What was last found of ``board``; None without a consent in force."""
        return self._found.get(board) if self._care.has_consent(board) else None

    def forget(self, board: int) -> None:
        """The consent is over."""
        self._found.pop(board, None)
        self._explained.pop(board, None)
        for reader in self._readers:
            reader.forget(board)
