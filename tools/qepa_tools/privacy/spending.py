"""What each patient has spent and has left, read from a server's database while the server runs or not."""

import sqlite3
from dataclasses import dataclass
from math import inf, isinf
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from qepa_server.config import ServerConfig
from qepa_server.planning import plan_rounds
from qepa_server.privacy.accountant import cost, epsilon
from qepa_server.privacy.budget import PURPOSES, Budget
from qepa_server.privacy.ledger import Account, read_accounts

from ..errors import ToolError


@dataclass(frozen=True, slots=True)
class Spending:
    """One patient and purpose in the present period.

    ``None``: no limit is set, or there were sums without noise, which nothing bounds. ``spent_epsilon`` counts rounds
    that have not ended in full; ``rounds_left`` counts on the smallest cell.
    """

    patient: str
    purpose: str
    rounds: int
    spent_epsilon: float | None
    budget_epsilon: float | None
    left_share: float | None
    rounds_left: int | None
    noiseless_rounds: int
    delta: float


def read_database(path: Path) -> list[Account]:
    """Return the accounts in a server's database, which is opened for reading only. Raises ToolError."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True))
    try:
        with engine.connect() as connection:
            return read_accounts(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise ToolError(f"cannot read privacy accounts from {path}: has this server run yet?") from error
    finally:
        engine.dispose()


def spendings(config: ServerConfig, accounts: list[Account], now_ms: int) -> list[Spending]:
    """Return one row for each patient and purpose that spent anything in the present period."""
    plan = plan_rounds(config)
    shares = plan.min_group - config.privacy.colluding_boards
    found = []
    for spec in plan.streams:
        purpose, budget = PURPOSES[spec.stream], config.privacy.budgets[spec.stream]
        worst = cost(spec, [1], shares)
        for account in accounts:
            if account.purpose == purpose and account.period == budget.period(now_ms):
                found.append(_row(account, budget, worst))
    return sorted(found, key=lambda row: (row.patient, row.purpose))


def _row(account: Account, budget: Budget, worst: float) -> Spending:
    rho = inf if account.unbounded else account.rho + account.pending
    limited = not isinf(budget.rho)
    return Spending(
        patient=account.patient,
        purpose=account.purpose,
        rounds=account.rounds,
        spent_epsilon=None if isinf(rho) else round(epsilon(rho, budget.delta), 4),
        budget_epsilon=budget.epsilon if limited else None,
        left_share=round(max(0.0, 1 - rho / budget.rho), 4) if limited else None,
        rounds_left=int(max(0.0, budget.rho - rho) // worst) if limited else None,
        noiseless_rounds=account.unbounded,
        delta=budget.delta,
    )
