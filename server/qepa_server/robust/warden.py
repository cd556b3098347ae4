"""Watches settled rounds, and quarantines who can't be honest. All it knows is in the round ledger."""

import logging
from collections.abc import Iterable, Sequence
from math import sqrt

import numpy as np

from qepa_uplink.messages import Partial, StreamSpec
from qepa_wire.discrete_gaussian import Q8
from qepa_wire.keystream import STREAM_UPDATE
from qepa_wire.quantizer import NEAREST

from ..audit import chain
from ..enrolment.register import BoardRegister
from ..rounds.ledger import COLLECT, READY, SUMMED, RoundLedger, RoundRecord, SumRecord
from ..rounds.running import message_of, opening_of
from .failures import Outcome
from .quarantine import GATEWAY, PATIENT, Quarantine, Quarantined
from .suspicion import OpenedCell
from .watch import Finding, Score, Watch, WatchSettings

_LOG = logging.getLogger(__name__)
_BLAMED = frozenset({"check", "range", "repeated", "length", "board", "overflow"})  # reasons that are somebody's doing
_OUT_OF_RANGE = "range"


def honest_norm(spec: StreamSpec, board_norm: int) -> float:
    """Return the norm, in quantizer steps, that an honest board's words can't exceed, noise aside.

    ``board_norm``: what boards clip to unasked, in the units of their values.
    """
    rounding = sqrt(spec.n_words) / (2 if spec.rounding == NEAREST else 1)
    limit = min(board_norm, spec.clip_norm or board_norm)
    return limit * spec.q_max / spec.bound + rounding


class Warden:
    """Looks at each settled round once. ``most``: the share of enrolled patients that may be quarantined unasked."""

    def __init__(
        self,
        *,
        ledger: RoundLedger,
        register: BoardRegister,
        quarantine: Quarantine,
        settings: WatchSettings,
        board_norm: int,
        most: float,
        enabled: bool,
    ) -> None:
        self._ledger = ledger
        self._register = register
        self._quarantine = quarantine
        self._settings = settings
        self._board_norm = board_norm
        self._most = most
        self._enabled = enabled
        self._watch = Watch(settings)
        self._told: set[tuple[str, tuple[str, ...]]] = set()
        self._seen = 0
        for record in reversed(ledger.newest(settings.window + 1)):
            if record.state not in (READY, COLLECT):
                self._take(record)

    @property
    def scores(self) -> list[Score]:
        """Suspicion of each patient, highest first."""
        return self._watch.scores()

    def look(self, now_ms: int) -> bool:
        """Take rounds that settled since; return whether somebody was quarantined."""
        last = self._ledger.last()
        settled = 0 if last is None else last.number - (last.state in (READY, COLLECT))
        if settled <= self._seen:
            return False
        newest = self._ledger.newest(min(settled - self._seen, self._settings.window) + 1)
        for record in reversed(newest):
            if self._seen < record.number <= settled:
                self._take(record)
        changed = False
        for finding in self._watch.findings():
            for kind, name in _parties(finding):
                changed = self._judge(finding, kind, name, settled, now_ms) or changed
        return changed

    def forget(self) -> None:
        """Begin anew after a release: nobody is quarantined again for what a person has judged."""
        self._watch = Watch(self._settings)
        self._told.clear()

    def _judge(self, finding: Finding, kind: str, name: str, round_: int, now_ms: int) -> bool:
        if self._quarantine.holds(kind, name):
            return False
        evidence = {
            "why": finding.kind,
            "cells": finding.cells,
            "value": finding.value,
            "error": finding.error,
            "limit": finding.limit,
            "p_value": finding.p_value,
            "with": " ".join(finding.patients) if len(finding.patients) > 1 else "",
        }
        found = Quarantined(kind, name, now_ms, round_, evidence)
        refusal = self._refusal(finding, kind, name)
        if refusal:
            self._tell(found, refusal)
            return False
        with self._ledger.store.write() as connection:
            self._quarantine.impose(connection, found)
        self._quarantine.adopt(found)
        _LOG.warning("quarantined: %s %s (%s)", kind, name, finding.kind)
        return True

    def _refusal(self, finding: Finding, kind: str, name: str) -> str:
        """Return why a person has to decide, or nothing."""
        if not self._enabled:
            return "quarantine is off"
        if not finding.may_quarantine:
            return "an unusual patient could do this" if finding.kind == "opposes" else "several could have done it"
        enrolled = {board.patient for board in self._register.values()}
        held = {board.patient for board in self._register.values() if self._quarantine.concerns(board)}
        more = {b.patient for b in self._register.values() if name == (b.patient if kind == PATIENT else b.gateway)}
        return "" if len(held | more) <= self._most * len(enrolled) else "too many would be quarantined"

    def _tell(self, found: Quarantined, refusal: str) -> None:
        """Note a suspicion once, for a person to decide."""
        place = (str(found.evidence["why"]), (found.kind, found.name))
        if place in self._told:
            return
        self._told.add(place)
        with self._ledger.store.write() as connection:
            chain.append(
                connection,
                found.since_ms,
                "suspicion",
                kind=found.kind,
                name=found.name,
                round=found.round,
                why=str(found.evidence["why"]),
                value=f"{found.evidence['value']:.6g}",
                refusal=refusal,
            )

    def _take(self, record: RoundRecord) -> None:
        self._seen = record.number
        if (record.settled_ms or 0) <= self._quarantine.last_release_ms:
            return  # evidence from before a release counts no more
        spec = next((s for s in opening_of(record).streams if s.stream == STREAM_UPDATE), None)
        verdicts = self._ledger.sums(record.number)
        if spec is None or not verdicts:
            return
        self._watch.add(
            record.number,
            [found for verdict in verdicts if (found := self._opened(verdict, spec)) is not None],
            list(self._outcomes(record.number, verdicts)),
            honest_norm=honest_norm(spec, self._board_norm),
            noise_variance=spec.noise_q8 / Q8,
        )

    def _opened(self, verdict: SumRecord, spec: StreamSpec) -> OpenedCell | None:
        if verdict.stream != spec.stream or verdict.state != SUMMED or verdict.total is None:
            return None
        boards: dict[str, int] = {}
        for board in verdict.boards:
            if board in self._register:
                patient = self._register[board].patient
                boards[patient] = boards.get(patient, 0) + 1
        return OpenedCell(tuple(boards), tuple(boards.values()), np.array(verdict.total, np.int64))

    def _outcomes(self, number: int, verdicts: Sequence[SumRecord]) -> Iterable[Outcome]:
        """Return one outcome for each cell: its streams fail together, so they are no two proofs."""
        claimed: dict[int, set[int]] = {}
        for envelope in self._ledger.partials(number):
            message = message_of(envelope)
            if isinstance(message, Partial):
                claimed.setdefault(message.cell, set()).update(message.contributors)
        for cell in sorted({verdict.cell for verdict in verdicts}):
            own = [verdict for verdict in verdicts if verdict.cell == cell]
            reasons = {verdict.reason.partition(":")[0] for verdict in own if verdict.state != SUMMED} & _BLAMED
            if not reasons and any(verdict.state != SUMMED for verdict in own):
                continue  # a gateway or the network was late: nobody's lie
            boards = [self._register[board] for board in sorted(claimed.get(cell, ())) if board in self._register]
            patients = tuple(sorted({(board.patient, board.gateway) for board in boards}))
            yield Outcome(number, own[0].gateways, patients, bool(reasons), reasons == {_OUT_OF_RANGE})


def _parties(finding: Finding) -> list[tuple[str, str]]:
    return [(GATEWAY, finding.gateway)] if finding.gateway else [(PATIENT, name) for name in finding.patients]
