"""Who takes part in a round's streams: consent, and budget for the most that the round can cost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qepa_uplink.messages import StreamSpec

from ..care.consents import ConsentDesk
from ..enrolment.register import Board, BoardRegister
from ..errors import UnmaskError
from .accountant import cost
from .budget import PURPOSES, Budget
from .ledger import BudgetLedger, Costs

_TOLERANCE = 1e-9  # of a budget: what adding floats can lose


@dataclass(frozen=True, slots=True)
class Offer:
    """What a round may ask for now: streams, the most each costs each patient, and why others were left out."""

    streams: tuple[StreamSpec, ...]
    costs: dict[int, Costs]
    periods: dict[int, int]
    refused: tuple[str, ...]


class PrivacyOffice:
    """Decides before a round is announced and before a sum is opened.

    ``colluding_boards``: so many boards of a cell may tell others their noise; it is not counted. The smallest sum
    that opens has ``min_group`` boards, so the most a round can cost is with ``min_group - colluding_boards`` shares.
    """

    def __init__(
        self,
        *,
        streams: Sequence[StreamSpec],
        budgets: dict[int, Budget],
        min_group: int,
        colluding_boards: int,
        ledger: BudgetLedger,
        register: BoardRegister,
        consents: ConsentDesk,
    ) -> None:
        self.budgets = budgets
        self.ledger = ledger
        self._streams = tuple(streams)
        self._min_group = min_group
        self._colluding = colluding_boards
        self._register = register
        self._consents = consents
        self._spent_up: dict[int, frozenset[str]] = {}  # patients without budget, by stream, as of the last offer

    def offer(self, gateways: Iterable[str], now_ms: int) -> Offer:
        """Return what may be asked of the boards of ``gateways`` now. Nothing is charged by asking."""
        boards = [board for gateway in gateways for board in self._register.of_gateway(gateway)]
        offered: list[StreamSpec] = []
        costs: dict[int, Costs] = {}
        refused: list[str] = []
        for spec in self._streams:
            purpose = PURPOSES[spec.stream]
            willing = [board for board in boards if self._consents.allows(purpose, board.board, now_ms)]
            worst = self._costs(spec, willing, self._min_group)
            afford = self._affordable(spec.stream, worst, now_ms)
            self._spent_up[spec.stream] = frozenset(worst.keys() - afford.keys())
            left_out = len({board.patient for board in boards}) - len(afford)
            if left_out and len(afford) < self._min_group:
                refused.append(
                    f"{purpose}: {len(afford)} patients have budget and have not withdrawn, "
                    f"min_group is {self._min_group}"
                )
                continue
            offered.append(spec)
            costs[spec.stream] = afford
        periods = {stream: self.budgets[stream].period(now_ms) for stream in costs}
        return Offer(tuple(offered), costs, periods, tuple(refused))

    def barred(self, board: Board, now_ms: int) -> tuple[int, ...]:
        """Streams that ``board`` is not to be asked for."""
        return tuple(
            spec.stream
            for spec in self._streams
            if board.patient in self._spent_up.get(spec.stream, ())
            or not self._consents.allows(PURPOSES[spec.stream], board.board, now_ms)
        )

    def price(self, spec: StreamSpec, contributors: Iterable[int], charged: Costs, now_ms: int) -> Costs:
        """Return what opening a sum of ``contributors`` costs each patient in it.

        Raises UnmaskError: ``consent`` for a board whose patient has withdrawn since, ``quarantine``, ``budget`` for a
        patient who was not charged for this round or would have to be charged more.
        """
        boards = [self._register[number] for number in contributors if number in self._register]
        for board in boards:
            verdict = self._consents.decide(PURPOSES[spec.stream], board.board, now_ms)
            if not verdict.allowed:
                said = "is quarantined" if verdict.reason == "quarantine" else "its patient's consent has ended"
                raise UnmaskError(verdict.reason, f"{board.board:08x} is in the sum, {said}")
        costs = self._costs(spec, boards, len(boards))
        for patient, rho in costs.items():
            if patient not in charged or rho > charged[patient] * (1 + _TOLERANCE):
                raise UnmaskError("budget", f"{patient} is in the sum and was not charged for it")
        return costs

    def _costs(self, spec: StreamSpec, boards: Sequence[Board], contributors: int) -> Costs:
        told: dict[str, list[int]] = {}
        for board in boards:
            told.setdefault(board.patient, []).append(board.patient_boards)
        shares = contributors - self._colluding
        return {patient: cost(spec, numbers, shares) for patient, numbers in told.items()}

    def _affordable(self, stream: int, worst: Costs, now_ms: int) -> Costs:
        budget = self.budgets[stream]
        limit = budget.rho * (1 + _TOLERANCE)
        spent = self.ledger.spent(stream, budget.period(now_ms))
        return {patient: rho for patient, rho in worst.items() if spent.get(patient, 0.0) + rho <= limit}
