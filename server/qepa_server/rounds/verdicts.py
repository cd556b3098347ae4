"""The verdict on each cell and stream of a round: a sum that was opened, or why there is none; one of them, ever."""

import logging
from collections.abc import Callable

from qepa_uplink.cells import Cell
from qepa_uplink.messages import StreamSpec
from qepa_wire.discrete_gaussian import tail
from qepa_wire.payloads import StreamOrder, terms_key

from ..audit import chain
from ..enrolment.register import BoardRegister
from ..errors import UnmaskError
from ..privacy.office import PrivacyOffice
from ..unmask.opening import Limits, open_cell
from .ledger import SUMMED, VOID, RoundLedger, SumRecord
from .running import RunningRound

_LOG = logging.getLogger(__name__)


class Verdicts:
    """Gives verdicts, and records each with what it costs its patients. ``check_key``: of the cohort's check values."""

    def __init__(
        self,
        *,
        ledger: RoundLedger,
        register: BoardRegister,
        privacy: PrivacyOffice,
        check_key: bytes,
        clock_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._register = register
        self._privacy = privacy
        self._check_key = check_key
        self._clock_ms = clock_ms

    def judge_complete(self, running: RunningRound) -> None:
        """Open the sums of all cells that every gateway has sent its part of."""
        for cell, spec in running.slots:
            self._try_open(running, cell, spec)

    def void_missing(self, running: RunningRound, now_ms: int) -> None:
        """Void what is not complete now that the round's time is over."""
        for cell, spec in running.slots:
            if (cell.id, spec.stream) not in running.sums:
                received = running.partials.get((cell.id, spec.stream), {})
                missing = ", ".join(name for name in cell.gateways if name not in received)
                self.void(running, cell, spec.stream, f"nothing of {missing} until the deadline", now_ms)

    def void(self, running: RunningRound, cell: Cell, stream: int, reason: str, now_ms: int) -> None:
        """Record that a slot without a verdict gives no sum."""
        with self._ledger.store.write() as connection:
            self._ledger.add_void(connection, running.number, cell.id, stream, cell.gateways, reason)
            chain.append(
                connection, now_ms, "cell.void", round=running.number, cell=cell.id, stream=stream, reason=reason
            )
        running.sums[(cell.id, stream)] = SumRecord(cell.id, stream, VOID, reason, cell.gateways, (), 0, None, None)
        _LOG.warning("round %d, cell %d, stream %d gives no sum: %s", running.number, cell.id, stream, reason)

    def _try_open(self, running: RunningRound, cell: Cell, spec: StreamSpec) -> None:
        slot = (cell.id, spec.stream)
        received = running.partials.get(slot, {})
        if slot in running.sums or set(received) != set(cell.gateways):
            return
        partials = [received[name] for name in cell.gateways]
        contributors = {board for partial in partials for board in partial.contributors}
        records = self._register.contributors(contributors)
        word_max = spec.q_max + tail(spec.noise_q8)
        limits = Limits(spec.n_words, word_max, running.opening.n_max, running.opening.min_group)
        now_ms = self._clock_ms()
        try:
            self._refuse_second_cell(running, cell.id, contributors)
            costs = self._privacy.price(spec, contributors, running.charged.get(spec.stream, {}), now_ms)
            opened = open_cell(
                partials,
                cell.gateways,
                records,
                self._terms_key(running, spec),
                limits,
                round_=running.number,
                stream=spec.stream,
            )
        except UnmaskError as error:
            self.void(running, cell, spec.stream, str(error), now_ms)
            return
        last_frame_ms = max(partial.last_frame_ms for partial in partials)
        with self._ledger.store.write() as connection:
            self._ledger.add_sum(connection, running.number, cell.id, spec.stream, cell.gateways, opened, last_frame_ms)
            self._privacy.ledger.lower(connection, running.number, spec.stream, costs)
            chain.append(
                connection,
                now_ms,
                "sum.opened",
                round=running.number,
                cell=cell.id,
                stream=spec.stream,
                boards=len(opened.boards),
                patients=len(opened.patients),
            )
        running.sums[slot] = SumRecord(
            cell.id,
            spec.stream,
            SUMMED,
            "",
            cell.gateways,
            opened.boards,
            len(opened.patients),
            opened.total,
            last_frame_ms,
        )

    def _refuse_second_cell(self, running: RunningRound, cell: int, contributors: set[int]) -> None:
        """Raise UnmaskError for boards or patients that are already in a sum of another cell of this round."""
        others = {board for (other, _), record in running.sums.items() if other != cell for board in record.boards}
        patients = {self._register[board].patient for board in others if board in self._register}
        for board in contributors:
            if board in others or (board in self._register and self._register[board].patient in patients):
                raise UnmaskError("repeated", f"{board:08x} or its patient is in another cell of this round")

    def _terms_key(self, running: RunningRound, spec: StreamSpec) -> bytes:
        """Key of the check coefficients: it fits only boards that were handed the very terms of the RoundOpen."""
        order = StreamOrder(
            spec.stream, spec.n_words, spec.bound, spec.q_max, spec.rounding, spec.noise_q8, spec.clip_norm
        )
        return terms_key(self._check_key, running.opening.model_version, running.opening.n_max, order)
