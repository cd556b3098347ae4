"""A round that has not settled, and how it goes on after a restart from what is stored."""

import logging
from dataclasses import dataclass, field

from qepa_uplink.cells import Cell, draw_cells, round_seed
from qepa_uplink.envelope import parse, peek
from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import Partial, Ready, RoundOpen, Signed, StreamSpec

from ..privacy.ledger import BudgetLedger, Costs
from .ledger import COLLECT, READY, RoundLedger, RoundRecord, SumRecord
from .plan import DELIVERY_MARGIN_MS

_LOG = logging.getLogger(__name__)

Slot = tuple[int, int]  # (cell, stream)


@dataclass(slots=True)
class RunningRound:
    """A round that has not settled; all of it can be read back from the ledger."""

    opening: RoundOpen
    nonce: bytes
    open_envelope: bytes
    expected: tuple[str, ...]
    opened_ms: int
    readies: dict[str, bytes] = field(default_factory=dict)
    start_envelope: bytes | None = None
    started_ms: int = 0
    cells: tuple[Cell, ...] = ()
    partials: dict[Slot, dict[str, Partial]] = field(default_factory=dict)
    sums: dict[Slot, SumRecord] = field(default_factory=dict)
    charged: dict[int, Costs] = field(default_factory=dict)  # rho of each patient, by stream

    @property
    def number(self) -> int:
        """Its number."""
        return self.opening.round

    @property
    def slots(self) -> list[tuple[Cell, StreamSpec]]:
        """Each cell with each stream."""
        return [(cell, stream) for cell in self.cells for stream in self.opening.streams]

    @property
    def all_ready(self) -> bool:
        """Tell whether every gateway that was asked has answered."""
        return set(self.expected) <= set(self.readies)

    @property
    def all_judged(self) -> bool:
        """Tell whether every slot has its verdict."""
        return len(self.sums) == len(self.slots)

    @property
    def deadline_ms(self) -> int:
        """When the present phase ends at the latest."""
        opening = self.opening
        if self.start_envelope is None:
            return self.opened_ms + opening.ready_within_ms
        return self.started_ms + opening.collect_within_ms + opening.settle_within_ms + DELIVERY_MARGIN_MS

    def phase(self, now_ms: int) -> str:
        """Name of the phase: ready, collect, settle."""
        if self.start_envelope is None:
            return READY
        return COLLECT if now_ms < self.started_ms + self.opening.collect_within_ms else "settle"

    def draw(self) -> tuple[Cell, ...]:
        """Draw the cells from the Readies, as every gateway does."""
        answers = {gateway: ready_of(envelope) for gateway, envelope in self.readies.items()}
        seed = round_seed(self.number, self.nonce, {name: ready.nonce for name, ready in answers.items()})
        patients = {name: ready.patients for name, ready in answers.items()}
        return draw_cells(seed, patients, min_group=self.opening.min_group, target=self.opening.cell_target)

    def lacking(self, gateway: str) -> bytes | None:
        """The signed message of the present phase, if ``gateway`` has not done its part of it."""
        if self.start_envelope is None:
            return self.open_envelope if gateway in self.expected and gateway not in self.readies else None
        owes = gateway in self.readies and any(
            gateway in cell.gateways
            and (cell.id, spec.stream) not in self.sums
            and gateway not in self.partials.get((cell.id, spec.stream), {})
            for cell, spec in self.slots
        )
        return self.start_envelope if owes else None


def message_of(envelope: bytes) -> Signed:
    """Return the message of an envelope that was authenticated before it was stored."""
    return peek(parse(envelope))


def opening_of(record: RoundRecord) -> RoundOpen:
    """Return what a recorded round asked for."""
    message = message_of(record.open_envelope)
    if not isinstance(message, RoundOpen):
        raise UplinkError("schema", "a stored opening is something else")
    return message


def ready_of(envelope: bytes) -> Ready:
    """Return the Ready in a stored envelope."""
    message = message_of(envelope)
    if not isinstance(message, Ready):
        raise UplinkError("schema", "a stored ready is something else")
    return message


def resume(last: RoundRecord | None, ledger: RoundLedger, accounts: BudgetLedger) -> RunningRound | None:
    """Return the newest round as it was when the server stopped; None if it has settled."""
    if last is None or last.state not in (READY, COLLECT):
        return None
    running = RunningRound(opening_of(last), last.server_nonce, last.open_envelope, last.expected, last.opened_ms)
    running.readies = ledger.readies(last.number)
    running.charged = accounts.announced(last.number)
    if last.state == COLLECT:
        running.start_envelope, running.started_ms = last.start_envelope, last.started_ms or last.opened_ms
        running.cells = running.draw()
        for envelope in ledger.partials(last.number):
            partial = message_of(envelope)
            if isinstance(partial, Partial):
                running.partials.setdefault((partial.cell, partial.stream), {})[partial.gateway] = partial
        running.sums = {(record.cell, record.stream): record for record in ledger.sums(last.number)}
    _LOG.info("round %d goes on in phase %s", running.number, last.state)
    return running
