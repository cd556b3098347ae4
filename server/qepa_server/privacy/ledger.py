"""The durable privacy account of each patient and purpose.

A round is charged in the transaction that records it, before its announcement leaves, with the most it can cost. The
charge is lowered to what it did cost in the transaction that records an opened sum, and moved to the patient's account
in the one that ends the round. What has no verdict keeps its full charge: no crash makes it too little. Where nothing
of the patient came it lapses, and comes back if something comes after all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isinf

from sqlalchemy import ColumnElement, Connection, Table, bindparam, case, delete, func, insert, literal, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from ..store.database import Store
from ..store.schema import charges, lapsed_charges, spendings
from .budget import PURPOSES

Costs = dict[str, float]  # rho by patient; inf without noise
LAPSED_ROUNDS = 10_000  # for which what comes late is still charged


@dataclass(frozen=True, slots=True)
class Account:
    """What one patient spent for one purpose in one period; ``pending`` is of rounds that have not ended.

    ``unbounded`` counts rounds without noise: for them there is no rho at all.
    """

    patient: str
    purpose: str
    period: int
    rho: float
    pending: float
    rounds: int
    unbounded: int


class BudgetLedger:
    """Reads and writes the account; methods that take a connection belong to the caller's transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def announce(
        self, connection: Connection, number: int, costs: Mapping[int, Costs], periods: Mapping[int, int]
    ) -> None:
        """Charge a round: the most it can cost each patient, for each of its streams."""
        rows = [
            {
                "round": number,
                "stream": stream,
                "patient": patient,
                "period": periods[stream],
                "rho": None if isinf(rho) else rho,
                "received": False,
            }
            for stream, patients in costs.items()
            for patient, rho in patients.items()
        ]
        if rows:
            connection.execute(insert(charges), rows)

    def announced(self, number: int) -> dict[int, Costs]:
        """Charges of a running round, by stream."""
        found: dict[int, Costs] = {}
        with self._store.read() as connection:
            for row in connection.execute(select(charges).where(charges.c.round == number)):
                found.setdefault(row.stream, {})[row.patient] = inf if row.rho is None else row.rho
        return found

    def received(self, connection: Connection, number: int, stream: int, patients: Iterable[str]) -> None:
        """Note that something of these patients came to the server: their charge will not lapse, or comes back."""
        of = list(patients)
        places = [
            (table.c.round == number) & (table.c.stream == stream) & table.c.patient.in_(of)
            for table in (charges, lapsed_charges)
        ]
        connection.execute(update(charges).where(places[0]).values(received=True))
        _spend(connection, lapsed_charges, places[1])
        connection.execute(delete(lapsed_charges).where(places[1]))

    def hold(self, connection: Connection, patient: str) -> None:
        """A board of this patient leaves the register: data of the running round may be under way, and is paid for."""
        connection.execute(update(charges).where(charges.c.patient == patient).values(received=True))

    def lower(self, connection: Connection, number: int, stream: int, costs: Costs) -> None:
        """Set charges to what an opened sum did cost; never up."""
        lowered = (
            update(charges)
            .where(
                charges.c.round == number,
                charges.c.stream == stream,
                charges.c.patient == bindparam("whose"),
                charges.c.rho > bindparam("actual"),
            )
            .values(rho=bindparam("actual"))
        )
        rows = [{"whose": patient, "actual": rho} for patient, rho in costs.items() if not isinf(rho)]
        if rows:
            connection.execute(lowered, rows)

    def close(self, connection: Connection, number: int) -> None:
        """Move the charges of a round that ends to the accounts; those of whom nothing came lapse until it does."""
        of_round = charges.c.round == number
        _spend(connection, charges, of_round & charges.c.received)
        names = ("round", "stream", "patient", "period", "rho")
        lapsing = select(*(charges.c[name] for name in names)).where(of_round, charges.c.received.is_(False))
        connection.execute(insert(lapsed_charges).from_select(names, lapsing))
        connection.execute(delete(charges).where(of_round))
        connection.execute(delete(lapsed_charges).where(lapsed_charges.c.round <= number - LAPSED_ROUNDS))

    def accounts(self) -> list[Account]:
        """All accounts, by patient, purpose and period."""
        with self._store.read() as connection:
            return read_accounts(connection)

    def spent(self, stream: int, period: int) -> Costs:
        """What each patient has spent in a period, pending charges included."""
        with self._store.read() as connection:
            found = read_accounts(connection)
        return {
            account.patient: account.rho + account.pending
            for account in found
            if account.purpose == PURPOSES[stream] and account.period == period
        }


def _spend(connection: Connection, table: Table, chosen: ColumnElement[bool]) -> None:
    """Add the chosen rows of ``charges`` or ``lapsed_charges`` to the accounts."""
    rows = select(
        table.c.patient,
        case(PURPOSES, value=table.c.stream),
        table.c.period,
        func.coalesce(table.c.rho, 0.0),
        literal(1),
        table.c.rho.is_(None),
    ).where(chosen)
    added = upsert(spendings).from_select(["patient", "purpose", "period", "rho", "rounds", "unbounded"], rows)
    sums = {name: spendings.c[name] + added.excluded[name] for name in ("rho", "rounds", "unbounded")}
    connection.execute(added.on_conflict_do_update(index_elements=["patient", "purpose", "period"], set_=sums))


def read_accounts(connection: Connection) -> list[Account]:
    """Return all accounts of a database, by patient, purpose and period."""
    settled = {
        (row.patient, row.purpose, row.period): (row.rho, row.rounds, row.unbounded)
        for row in connection.execute(select(spendings))
    }
    pending: dict[tuple[str, str, int], float] = {}
    for row in connection.execute(select(charges)):
        place: tuple[str, str, int] = (row.patient, PURPOSES[row.stream], row.period)
        pending[place] = pending.get(place, 0.0) + (row.rho or 0.0)
    found = []
    for whose, purpose, period in sorted(settled.keys() | pending.keys()):
        rho, rounds, unbounded = settled.get((whose, purpose, period), (0.0, 0, 0))
        waiting = pending.get((whose, purpose, period), 0.0)
        found.append(Account(whose, purpose, period, rho, waiting, rounds, unbounded))
    return found
