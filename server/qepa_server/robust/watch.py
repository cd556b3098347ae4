"""Rounds in, findings out: which patients and gateways are hostile, by how much, and how sure that is.

What is found, and what a finding may do by itself:

``excess``: a patient contributes more than an honest one can. Honest boards clip, so |x_p - n_p m| <= n_p (B + |m|)
whatever the patient is like: somebody unusual, however unusual, is not found. It may quarantine.
``breaks``: cells of a party fail, and honest boards break none (failures.py). It may quarantine.
``opposes``: a patient pushes against what the others agree on. A patient with a rare rhythm may do that too, so a
person decides.

False alarms: over any ``window`` rounds, the chance that any honest party is found for excess or breaks is about
``alpha``: each look gets alpha / (2 window), divided by the number of parties (union bound). For breaks that is exact.
For excess it rests on means of at least ``min_cells`` residuals being near a Student law, which the tests measure.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .failures import Outcome, blame
from .suspicion import Estimate, OpenedCell, Trace, critical, estimates, traces

Kind = Literal["excess", "breaks", "opposes"]
_OPPOSES = 1.0  # pushes back as far as the average pushes forward


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchSettings:
    """``window`` rounds are looked at together; ``alpha`` is for all parties and a whole window of looks."""

    window: int = 128
    min_cells: int = 24
    alpha: float = 1e-3

    def __post_init__(self) -> None:
        if not (2 <= self.min_cells <= self.window and 0 < self.alpha < 1):
            raise ValueError("2 <= min_cells <= window and 0 < alpha < 1 must hold")


@dataclass(frozen=True, slots=True)
class Finding:
    """A suspicion beyond chance. ``patients`` or ``gateway`` is whom; ``value`` beyond ``limit`` is why.

    For ``breaks``, value is the share of its cells that failed and limit what chance gives with the p-value in
    ``p_value``. ``separable``: one patient or one gateway, not several that no round told apart.
    """

    kind: Kind
    patients: tuple[str, ...]
    gateway: str
    cells: int
    value: float
    error: float
    limit: float
    p_value: float

    @property
    def may_quarantine(self) -> bool:
        """Tell whether no honest party gives this, and it is one party."""
        return self.kind != "opposes" and (bool(self.gateway) or len(self.patients) == 1)


@dataclass(frozen=True, slots=True)
class Score:
    """Suspicion of a patient: standard errors beyond what is honest (excess) or beyond the average (opposes)."""

    patient: str
    cells: int
    excess: float
    opposes: float


@dataclass(frozen=True, slots=True)
class _Round:
    traces: tuple[Trace, ...]
    outcomes: tuple[Outcome, ...]
    centre: float
    boards: dict[str, int]


class Watch:
    """The last rounds of one stream. What it needs is in the round ledger, so it is rebuilt after a restart."""

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._rounds: deque[_Round] = deque(maxlen=settings.window)

    def add(
        self,
        round_: int,
        cells: Sequence[OpenedCell],
        outcomes: Sequence[Outcome],
        *,
        honest_norm: float,
        noise_variance: float = 0.0,
    ) -> None:
        """Take a settled round: its opened cells, and the outcome of every cell."""
        found, centre = traces(round_, cells, honest_norm=honest_norm, noise_variance=noise_variance)
        boards = {unit: n for cell in cells for unit, n in zip(cell.units, cell.boards, strict=True)}
        self._rounds.append(_Round(tuple(found), tuple(outcomes), centre, boards))

    def findings(self) -> list[Finding]:
        """Return what is beyond chance after the newest round, clearest first within each kind."""
        per_look = self._settings.alpha / (2 * self._settings.window)
        outcomes = [outcome for past in self._rounds for outcome in past.outcomes]
        broken = [
            Finding(
                "breaks",
                () if party.kind == "gateway" else (party.name,),
                party.name if party.kind == "gateway" else "",
                party.cells,
                party.failed / party.cells,
                0.0,
                per_look,
                party.p_value,
            )
            for party in blame(outcomes, alpha=per_look)
        ]
        return broken + self._beyond("excess", per_look) + self._beyond("opposes", per_look)

    def scores(self) -> list[Score]:
        """Return the suspicion of each patient of the window, highest excess first; for screens, not for verdicts."""
        excess = {unit: e for e in self._estimates("excess") for unit in e.units}
        opposes = {unit: e for e in self._estimates("opposes") for unit in e.units}
        scores = [
            Score(
                unit,
                found.cells,
                _errors_beyond(found.value, self._honest(found.units), found.error),
                _errors_beyond(opposes[unit].value, 0.0, opposes[unit].error),
            )
            for unit, found in excess.items()
        ]
        return sorted(scores, key=lambda score: (-score.excess, score.patient))

    def _beyond(self, kind: Literal["excess", "opposes"], alpha: float) -> list[Finding]:
        found = self._estimates(kind)
        result = []
        for estimate in found:
            limit = self._honest(estimate.units) if kind == "excess" else _OPPOSES * len(estimate.units)
            z = critical(alpha / len(found), min(estimate.cells - 1, estimate.freedom))
            if estimate.cells >= self._settings.min_cells and estimate.lower(z) > limit:
                result.append(
                    Finding(kind, estimate.units, "", estimate.cells, estimate.value, estimate.error, limit, alpha)
                )
        return sorted(result, key=lambda finding: -_errors_beyond(finding.value, finding.limit, finding.error))

    def _estimates(self, kind: Literal["excess", "opposes"]) -> list[Estimate]:
        kept = [trace for past in self._rounds for trace in past.traces]
        return estimates(kept, [trace.energy if kind == "excess" else trace.against for trace in kept])

    def _honest(self, units: Sequence[str]) -> float:
        """Most energy that honest ``units`` can add together, in one cell."""
        centre = max((past.centre for past in self._rounds), default=0.0)
        boards = sum(max((past.boards.get(unit, 0) for past in self._rounds), default=0) for unit in units)
        return float((boards * (1 + centre)) ** 2)


def _errors_beyond(value: float, limit: float, error: float) -> float:
    return (value - limit) / error if error > 0 else float("inf") if value > limit else float("-inf")
