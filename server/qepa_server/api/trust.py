"""What the server decided about trust, as screens show it: privacy budgets, quarantines, the audit log, roll-outs."""

from collections.abc import Sequence
from functools import lru_cache
from math import inf, isinf

from qepa_uplink.messages import Status

from ..audit import chain
from ..hospital import Hospital
from ..planning import plan_rounds
from ..privacy.accountant import epsilon
from ..privacy.budget import PURPOSES, Budget
from ..privacy.ledger import Account

Json = dict[str, object]
READ_EVERY_MS = 2000  # accounts change once a round, and screens ask each second


class PrivacyView:
    """What patients spent and have left for each purpose: who spent most and the median, without names."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._read_ms = -READ_EVERY_MS
        self._shown: list[Json] = []

    def shown(self, now_ms: int) -> list[Json]:
        """One object for each purpose that rounds ask for."""
        if not 0 <= now_ms - self._read_ms < READ_EVERY_MS:
            self._read_ms, self._shown = now_ms, self._purposes(now_ms)
        return self._shown

    def _purposes(self, now_ms: int) -> list[Json]:
        hospital = self._hospital
        accounts = hospital.privacy.ledger.accounts()
        patients = {board.patient for board in hospital.register.values()}
        found: list[Json] = []
        for spec in plan_rounds(hospital.config).streams:
            purpose, budget = PURPOSES[spec.stream], hospital.privacy.budgets[spec.stream]
            period = budget.period(now_ms)
            own = [each for each in accounts if each.purpose == purpose and each.period == period]
            spent = sorted(_spent(own, patients).values(), reverse=True)
            found.append(
                {
                    "purpose": purpose,
                    "noise": spec.noise_q8 > 0,
                    "budget_epsilon": None if isinf(budget.rho) else budget.epsilon,
                    "delta": budget.delta,
                    "period_ms": budget.period_ms,
                    "patients": len(spent),
                    "worst": _standing(spent[0], budget) if spent else None,
                    "median": _standing(spent[len(spent) // 2], budget) if spent else None,
                }
            )
        return found


def _spent(accounts: Sequence[Account], patients: set[str]) -> dict[str, float]:
    spent = dict.fromkeys(patients, 0.0)
    for account in accounts:
        if account.patient in spent:
            spent[account.patient] = inf if account.unbounded else account.rho + account.pending
    return spent


def _standing(rho: float, budget: Budget) -> Json:
    """``spent_epsilon`` None: there were sums without noise, which nothing bounds. ``left`` None: no limit is set."""
    return {
        "spent_epsilon": None if isinf(rho) else round(_epsilon(rho, budget.delta), 3),
        "left": None if isinf(budget.rho) else round(max(0.0, 1 - rho / budget.rho), 4),
    }


@lru_cache(maxsize=256)
def _epsilon(rho: float, delta: float) -> float:
    return epsilon(rho, delta) if rho else 0.0


def quarantines(hospital: Hospital) -> list[Json]:
    """All that hold now, oldest first; ``evidence`` is a sentence, the figures follow it."""
    return [
        {
            "kind": held.kind,
            "name": held.name,
            "since_ms": held.since_ms,
            "round": held.round,
            "sentence": sentence(held.evidence),
            **held.evidence,
        }
        for held in hospital.quarantine.present
    ]


def sentence(evidence: dict[str, str | int | float]) -> str:
    """Return the evidence of a quarantine in words."""
    if not {"why", "cells", "value", "limit", "p_value"} <= evidence.keys():
        return "the figures are in the audit log"  # not of this release: no reason to show nothing at all
    cells, value, limit = int(evidence["cells"]), float(evidence["value"]), float(evidence["limit"])
    if evidence["why"] == "breaks":
        said = (
            f"{value:.0%} of {cells} cells with it gave no valid sum; by chance: p = {float(evidence['p_value']):.1g}"
        )
    elif evidence["why"] == "excess":
        said = (
            f"adds {value:.3g} to the energy of sums, by {cells} cells; "
            f"within the clipping bound at most {limit:.3g} is possible"
        )
    else:
        said = f"pulls sums against all others by {value:.3g}, by {cells} cells; honest ones do up to {limit:.3g}"
    return said + (f"; together with {evidence['with']}" if evidence.get("with") else "")


def audit(hospital: Hospital) -> Json:
    """How long the log is, how far each gateway countersigned it, and whose heads are not in it."""
    with hospital.store.read() as connection:
        entries = chain.head(connection).seq
    witnesses = hospital.witnesses
    refused: dict[str, str] = {}
    for name in hospital.hub.names:
        heartbeat = hospital.presence.last(name)
        if heartbeat is not None and heartbeat.status.audit:
            refused[name] = heartbeat.status.audit
    return {
        "entries": entries,
        "kept": {name: head.seq for name, head in sorted(witnesses.kept.items())},
        "contradicted": {name: head.seq for name, head in sorted(witnesses.contradicted.items())},
        "refused": refused,
    }


def rollouts(status: Status | None) -> list[Json]:
    """How far releases have come at a gateway: of models, then of firmware."""
    if status is None:
        return []
    found: list[Json] = []
    if status.model is not None:
        found.append({"kind": "model", "reason": "", **_rollout(status.model.model_dump())})
    for each in status.firmware:
        found.append({"kind": f"firmware {each.kind}", "reason": each.refused, **_rollout(each.model_dump())})
    return found


def _rollout(release: Json) -> Json:
    canary, failed = release["canary"], release["failed"]
    return {
        "version": release["version"],
        "stage": release["stage"],
        "canary": f"{canary:08x}" if isinstance(canary, int) else None,
        "failed": len(failed) if isinstance(failed, tuple | list) else 0,
    }
