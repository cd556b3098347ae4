"""What may be said of a model that came from sums: how many, under which rule, and what it cost in privacy."""

from collections.abc import Callable
from typing import Any

from qepa_wire.keystream import STREAM_UPDATE

from ..config import LearningConfig
from ..privacy.accountant import epsilon
from ..privacy.budget import PURPOSES
from ..privacy.office import PrivacyOffice
from ..rounds.ledger import SUMMED, RoundLedger
from .versions import Card, Version


class FederationFacts:
    """Called with the number of the round that made a model; ``newest`` gives the version that it learned on from."""

    def __init__(
        self,
        *,
        ledger: RoundLedger,
        privacy: PrivacyOffice,
        learning: LearningConfig,
        clock_ms: Callable[[], int],
        newest: Callable[[], Version],
    ) -> None:
        self._ledger = ledger
        self._privacy = privacy
        self._learning = learning
        self._clock_ms = clock_ms
        self._newest = newest

    def __call__(self, round_: int) -> Card:
        """Return the facts: of the round, and summed up since the model began."""
        verdicts = [record for record in self._ledger.sums(round_) if record.stream == STREAM_UPDATE]
        opened = [record for record in verdicts if record.state == SUMMED]
        patients = sum(record.patients for record in opened)
        newest = self._newest()
        before = newest.card.get("training", {})
        learning = self._learning
        return {
            "round": round_,
            "cells_opened": len(opened),
            "cells_void": len(verdicts) - len(opened),
            "boards": sum(len(record.boards) for record in opened),
            "patients": patients,
            "rounds_trained": newest.rounds_trained + 1,
            "patients_over_all_rounds": patients + int(before.get("patients_over_all_rounds", 0)),
            "began_as": newest.began,
            "rule": {
                "over_cells": str(learning.aggregator),
                "hostile_share_set_for": learning.trim_fraction,
                "norm_bound": learning.norm_bound,
                "rate": learning.rule.rate,
                "decay": learning.decay,
            },
            "privacy": self._spent(),
        }

    def _spent(self) -> dict[str, Any]:
        """Epsilon that patients have spent on learning in the present period, this round's pending charge included."""
        purpose, budget = PURPOSES[STREAM_UPDATE], self._privacy.budgets[STREAM_UPDATE]
        period = budget.period(self._clock_ms())
        accounts = [
            account
            for account in self._privacy.ledger.accounts()
            if account.purpose == purpose and account.period == period
        ]
        said: dict[str, Any] = {"noise": self._learning.noise_variance > 0, "delta": budget.delta, "unit": "patient"}
        if not self._learning.noise_variance or any(account.unbounded for account in accounts):
            return {
                **said,
                "epsilon_most": None,
                "epsilon_median": None,
                "why": "sums without noise: nothing bounds it",
            }
        rhos = sorted((account.rho + account.pending for account in accounts), reverse=True)
        if not rhos:
            return {**said, "epsilon_most": 0.0, "epsilon_median": 0.0}
        most, median = (epsilon(rho, budget.delta) for rho in (rhos[0], rhos[len(rhos) // 2]))
        return {**said, "epsilon_most": round(most, 4), "epsilon_median": round(median, 4)}
