"""The state machine of rounds: ready, collect, done or void. Clock, transport and randomness are passed in.

Every transition is durable before a message of it leaves, and every input may come twice. After a restart the running
round goes on from what is stored; what its deadlines took meanwhile is void.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from qepa_uplink.cells import Cell, draw_cells, round_seed
from qepa_uplink.envelope import parse as parse_envelope
from qepa_uplink.envelope import peek, sign
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Identity
from qepa_uplink.messages import CellVoid, Partial, Ready, RoundOpen, RoundStart, Signed, StreamSpec
from qepa_wire.discrete_gaussian import tail
from qepa_wire.payloads import StreamOrder, terms_key
from qepa_wire.primitives import equal, sha256

from ..audit import chain
from ..enrolment.register import BoardRegister
from ..errors import RefusedError, UnmaskError
from ..privacy.ledger import Costs
from ..privacy.office import PrivacyOffice
from ..registry.models import ModelRegistry
from ..registry.versions import Version
from ..robust.aggregate import Aggregator
from ..training.averaging import LearningRule
from ..unmask.opening import Limits, open_cell
from .ledger import COLLECT, DONE, READY, SUMMED, VOID, RoundLedger, RoundRecord, SumRecord
from .plan import DELIVERY_MARGIN_MS, RoundPlan
from .settlement import next_model

_LOG = logging.getLogger(__name__)
_REPEAT_MS = 2000

Slot = tuple[int, int]  # (cell, stream)


class Ward(Protocol):
    """What the conductor asks of who is there."""

    def present(self) -> frozenset[str]:
        """Gateways with a session that were heard lately."""
        ...

    def prepared(self) -> tuple[int, int]:
        """(gateways with online boards, patients with an online board)."""
        ...

    def tell_parts(self) -> None:
        """Tell gateways which of their boards have no part in a stream, where that changed."""
        ...


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


def _stored(envelope: bytes) -> Signed:
    """Return the message of an envelope that was authenticated before it was stored."""
    return peek(parse_envelope(envelope))


def opening_of(record: RoundRecord) -> RoundOpen:
    """Return what a recorded round asked for."""
    message = _stored(record.open_envelope)
    if not isinstance(message, RoundOpen):
        raise UplinkError("schema", "a stored opening is something else")
    return message


def ready_of(envelope: bytes) -> Ready:
    """Return the Ready in a stored envelope."""
    message = _stored(envelope)
    if not isinstance(message, Ready):
        raise UplinkError("schema", "a stored ready is something else")
    return message


class Conductor:
    """Runs one round after another."""

    def __init__(
        self,
        *,
        plan: RoundPlan,
        ledger: RoundLedger,
        register: BoardRegister,
        registry: ModelRegistry,
        privacy: PrivacyOffice,
        identity: Identity,
        cohort_check_key: bytes,
        aggregator: Aggregator,
        rule: LearningRule,
        ward: Ward,
        clock_ms: Callable[[], int],
        send: Callable[[str, bytes], None],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._register = register
        self._registry = registry
        self._privacy = privacy
        self._identity = identity
        self._check_key = cohort_check_key
        self._aggregator = aggregator
        self._rule = rule
        self._ward = ward
        self._clock_ms = clock_ms
        self._send = send
        self._random_bytes = random_bytes
        self._opened_here = 0
        self._repeated_ms = 0
        self._waiting_since_ms: int | None = None
        self._conflicts: set[tuple[int, int, int, str]] = set()
        self.refusals: tuple[str, ...] = ()  # streams that were left out of the newest round, or would be, and why
        self._refused_ms: int | None = None
        self._last = ledger.last()
        self.running = self._resume()

    @property
    def finished(self) -> bool:
        """Tell whether max_rounds rounds ran since this start."""
        return self.running is None and 0 < self._plan.max_rounds <= self._opened_here

    def _resume(self) -> RunningRound | None:
        last = self._last
        if last is None or last.state not in (READY, COLLECT):
            return None
        running = RunningRound(opening_of(last), last.server_nonce, last.open_envelope, last.expected, last.opened_ms)
        running.readies = self._ledger.readies(last.number)
        running.charged = self._privacy.ledger.announced(last.number)
        if last.state == COLLECT:
            running.start_envelope, running.started_ms = last.start_envelope, last.started_ms or last.opened_ms
            running.cells = running.draw()
            for envelope in self._ledger.partials(last.number):
                partial = _stored(envelope)
                if isinstance(partial, Partial):
                    running.partials.setdefault((partial.cell, partial.stream), {})[partial.gateway] = partial
            running.sums = {(record.cell, record.stream): record for record in self._ledger.sums(last.number)}
        self._opened_here = 1
        _LOG.info("round %d goes on in phase %s", running.number, last.state)
        return running

    def tick(self) -> None:
        """Do what time asks for; call it often."""
        now_ms = self._clock_ms()
        running = self.running
        if running is None:
            self._open_when_due(now_ms)
            return
        if running.start_envelope is None:
            if now_ms >= running.deadline_ms or set(running.expected) <= set(running.readies):
                self._start(running, now_ms)
                return
        else:
            for cell, spec in running.slots:  # after a restart a complete slot may wait here
                self._try_open(running, cell, spec)
            if now_ms >= running.deadline_ms:
                self._void_rest(running, now_ms)
            if len(running.sums) == len(running.slots):
                self._settle(running, now_ms)
                return
        if now_ms - self._repeated_ms >= _REPEAT_MS:
            self._repeated_ms = now_ms
            self._repeat(running)

    def greet(self, gateway: str) -> None:
        """Send what a gateway with a new session may have missed."""
        if self._registry.envelope:
            self._send(gateway, self._registry.envelope)
        if self.running is not None:
            self._send_phase(self.running, gateway)

    def _repeat(self, running: RunningRound) -> None:
        for gateway in running.expected:
            self._send_phase(running, gateway)

    def _send_phase(self, running: RunningRound, gateway: str) -> None:
        if running.start_envelope is None:
            if gateway in running.expected and gateway not in running.readies:
                self._send(gateway, running.open_envelope)
        elif gateway in running.readies and any(
            gateway in cell.gateways
            and (cell.id, spec.stream) not in running.sums
            and gateway not in running.partials.get((cell.id, spec.stream), {})
            for cell, spec in running.slots
        ):
            self._send(gateway, running.start_envelope)

    def _open_when_due(self, now_ms: int) -> None:
        if self._registry.settling(now_ms):
            return
        # A clock that was set back must not hold rounds up, so only an age from 0 to a period waits.
        if self.finished or (self._last and 0 <= now_ms - self._last.opened_ms < self._plan.period_ms):
            return
        if self._refused_ms is not None and 0 <= now_ms - self._refused_ms < self._plan.period_ms:
            return
        present = self._ward.present()
        if self._waiting_since_ms is None:
            self._waiting_since_ms = now_ms
        if not present or not self._worth_opening(now_ms - self._waiting_since_ms):
            return
        self._waiting_since_ms = None
        offer = self._privacy.offer(present, now_ms)
        self._note_refusals(offer.refused, now_ms)
        self._refused_ms = None if offer.streams else now_ms
        if not offer.streams:
            return
        self._ward.tell_parts()
        number = self._ledger.next_number()
        nonce = self._random_bytes(32)
        opening = self._plan.opening(number, sha256(nonce), self._registry.current.version, offer.streams)
        envelope = sign(self._identity, opening)
        with self._ledger.store.write() as connection:
            self._ledger.open_round(connection, number, nonce, envelope, present, now_ms)
            self._privacy.ledger.announce(connection, number, offer.costs, offer.periods)
            chain.append(connection, now_ms, "round.opened", round=number, gateways=len(present))
        self.running = RunningRound(opening, nonce, envelope, tuple(sorted(present)), now_ms, charged=dict(offer.costs))
        self._opened_here += 1
        self._repeated_ms = now_ms
        _LOG.info("round %d opens for %s", number, ", ".join(sorted(present)))
        self._repeat(self.running)

    def _note_refusals(self, refusals: tuple[str, ...], now_ms: int) -> None:
        for refusal in set(refusals) - set(self.refusals):
            _LOG.warning("not asked for: %s", refusal)
            with self._ledger.store.write() as connection:
                chain.append(connection, now_ms, "stream.refused", reason=refusal)
        self.refusals = refusals

    def _worth_opening(self, waited_ms: int) -> bool:
        """Wait, for a while, until enough patients can answer: boards start one after another."""
        gateways, patients = self._ward.prepared()
        enrolled = len({board.patient for board in self._register.values()})
        first = self._opened_here == 0
        wanted_gateways = self._plan.gateways_expected if first else 1
        wanted_patients = max(1, min(self._plan.patients_expected if first else self._plan.cell_target, enrolled))
        if gateways >= wanted_gateways and patients >= wanted_patients:
            return True
        if waited_ms < (self._plan.first_within_ms if first else self._plan.ready_within_ms):
            return False
        _LOG.warning(
            "opening with %d of %d gateways and %d of %d patients ready after waiting %d s",
            gateways,
            wanted_gateways,
            patients,
            wanted_patients,
            waited_ms // 1000,
        )
        return True

    def on_ready(self, gateway: str, message: Ready, raw: bytes) -> None:
        """Take a gateway's Ready; raises RefusedError (sender, round, late, commitment, patients, conflict)."""
        running = self.running
        if message.gateway != gateway:
            raise RefusedError("sender", f"{gateway} is ready for {message.gateway}")
        if running is None or message.round != running.number:
            raise RefusedError("round", f"{gateway} is ready for round {message.round}")
        if gateway in running.readies:
            if ready_of(running.readies[gateway]) != message:
                raise RefusedError("conflict", f"{gateway} was ready with another nonce")
            return
        if running.start_envelope is not None or gateway not in running.expected:
            raise RefusedError("late", f"{gateway} is ready when round {message.round} has begun without it")
        if not equal(message.commitment, running.opening.commitment):
            raise RefusedError("commitment", f"{gateway} answers another opening")
        if message.patients > self._register.patients_of(gateway):
            raise RefusedError("patients", f"{gateway} claims {message.patients} patients, more than are enrolled")
        with self._ledger.store.write() as connection:
            self._ledger.add_ready(connection, running.number, gateway, raw)
        running.readies[gateway] = raw
        if set(running.expected) <= set(running.readies):
            self._start(running, self._clock_ms())

    def _start(self, running: RunningRound, now_ms: int) -> None:
        cells = running.draw()
        if not cells:
            patients = sum(ready_of(envelope).patients for envelope in running.readies.values())
            asked = running.opening.min_group
            self._end(running, VOID, f"{patients} patients, min_group is {asked}: no cell", now_ms)
            return
        readies = tuple(running.readies[name] for name in sorted(running.readies))
        start = RoundStart(round=running.number, server_nonce=running.nonce, readies=readies)
        envelope = sign(self._identity, start)
        with self._ledger.store.write() as connection:
            self._ledger.start(connection, running.number, envelope, now_ms)
        running.start_envelope, running.started_ms, running.cells = envelope, now_ms, cells
        self._repeated_ms = now_ms
        for gateway in running.readies:
            self._send(gateway, envelope)

    def on_partial(self, gateway: str, message: Partial, raw: bytes) -> None:
        """Take a Partial; when this returns, its fate is durable and it can be acknowledged.

        Raises RefusedError: sender, round, cell, or conflict (another Partial for a place that is taken; audited).
        """
        if message.gateway != gateway:
            raise RefusedError("sender", f"{gateway} sends a partial sum for {message.gateway}")
        stored = self._known_partial(gateway, message)
        if stored is not None:
            if stored != message:
                self._note_conflict(gateway, message)
                raise RefusedError("conflict", f"{gateway} sent another partial sum for round {message.round}")
            return
        found = self._place(gateway, message)
        if found is None:
            return
        running, cell, spec = found
        with self._ledger.store.write() as connection:
            self._ledger.add_partial(connection, running.number, cell.id, spec.stream, gateway, raw)
            patients = {self._register[board].patient for board in message.contributors if board in self._register}
            self._privacy.ledger.received(connection, running.number, spec.stream, patients)
        running.partials.setdefault((cell.id, spec.stream), {})[gateway] = message

    def _known_partial(self, gateway: str, message: Partial) -> Signed | None:
        running = self.running
        if running is not None and message.round == running.number:  # all that is stored of it is in memory
            return running.partials.get((message.cell, message.stream), {}).get(gateway)
        envelope = self._ledger.partial(message.round, message.cell, message.stream, gateway)
        return None if envelope is None else _stored(envelope)

    def on_cell_void(self, gateway: str, message: CellVoid) -> None:
        """Take a CellVoid: this (cell, stream) gives no sum. Raises RefusedError as :meth:`on_partial`."""
        if message.gateway != gateway:
            raise RefusedError("sender", f"{gateway} voids a cell for {message.gateway}")
        found = self._place(gateway, message)
        if found is not None:
            running, cell, spec = found
            self._void(running, cell, spec.stream, f"{gateway}: {message.reason}", self._clock_ms())

    def advance(self) -> None:
        """Open what is complete and settle; after :meth:`on_partial` was acknowledged."""
        running = self.running
        if running is not None and running.start_envelope is not None:
            for cell, spec in running.slots:
                self._try_open(running, cell, spec)
            if len(running.sums) == len(running.slots):
                self._settle(running, self._clock_ms())

    def _place(self, gateway: str, message: Partial | CellVoid) -> tuple[RunningRound, Cell, StreamSpec] | None:
        """Find where a message belongs; None where that has its verdict already."""
        running = self.running
        if running is None or message.round != running.number:
            if message.round <= (self._last.number if self._last else 0):
                return None
            raise RefusedError("round", f"{gateway} speaks of round {message.round}")
        for cell, spec in running.slots:
            if (cell.id, spec.stream) == (message.cell, message.stream) and gateway in cell.gateways:
                return None if (cell.id, spec.stream) in running.sums else (running, cell, spec)
        raise RefusedError("cell", f"{gateway} is not in cell {message.cell} of round {message.round}")

    def _note_conflict(self, gateway: str, message: Partial) -> None:
        place = (message.round, message.cell, message.stream, gateway)
        if place in self._conflicts:
            return
        self._conflicts.add(place)
        with self._ledger.store.write() as connection:
            chain.append(
                connection,
                self._clock_ms(),
                "partial.conflict",
                gateway=gateway,
                round=message.round,
                cell=message.cell,
                stream=message.stream,
            )

    def _terms_key(self, running: RunningRound, spec: StreamSpec) -> bytes:
        """Key of the check coefficients: it fits only boards that were handed the very terms of the RoundOpen."""
        order = StreamOrder(
            spec.stream, spec.n_words, spec.bound, spec.q_max, spec.rounding, spec.noise_q8, spec.clip_norm
        )
        return terms_key(self._check_key, running.opening.model_version, running.opening.n_max, order)

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
            self._void(running, cell, spec.stream, str(error), now_ms)
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

    def _void(self, running: RunningRound, cell: Cell, stream: int, reason: str, now_ms: int) -> None:
        with self._ledger.store.write() as connection:
            self._ledger.add_void(connection, running.number, cell.id, stream, cell.gateways, reason)
            chain.append(
                connection, now_ms, "cell.void", round=running.number, cell=cell.id, stream=stream, reason=reason
            )
        running.sums[(cell.id, stream)] = SumRecord(cell.id, stream, VOID, reason, cell.gateways, (), 0, None, None)
        _LOG.warning("round %d, cell %d, stream %d gives no sum: %s", running.number, cell.id, stream, reason)

    def _void_rest(self, running: RunningRound, now_ms: int) -> None:
        for cell, spec in running.slots:
            if (cell.id, spec.stream) not in running.sums:
                received = running.partials.get((cell.id, spec.stream), {})
                missing = ", ".join(name for name in cell.gateways if name not in received)
                self._void(running, cell, spec.stream, f"nothing of {missing} until the deadline", now_ms)

    def _settle(self, running: RunningRound, now_ms: int) -> None:
        verdicts = [running.sums[slot] for slot in sorted(running.sums)]
        opened = [record for record in verdicts if record.state == SUMMED]
        if not opened:
            self._end(running, VOID, "; ".join(sorted({record.reason for record in verdicts})), now_ms)
            return
        version = self._next_version(running, verdicts, now_ms)
        now_ms = self._clock_ms()
        latency_ms = max(0, now_ms - max(record.last_frame_ms or 0 for record in opened))
        with self._ledger.store.write() as connection:
            if version is not None:
                self._registry.release(connection, version)
            number = self._registry.current.version if version is None else version.version
            self._ledger.settle(
                connection, running.number, DONE, "", now_ms, latency_ms=latency_ms, model_version=number
            )
            self._privacy.ledger.close(connection, running.number)
            chain.append(connection, now_ms, "round.done", round=running.number, model=number)
        if version is not None:
            self._registry.adopt(version)
            for gateway in self._ward.present() | set(running.expected):
                self._send(gateway, version.envelope)
        self._closed(running)

    def _next_version(self, running: RunningRound, verdicts: Sequence[SumRecord], now_ms: int) -> Version | None:
        """What the model has learned, signed; None if nothing, or if another model took its place meanwhile."""
        current = self._registry.current
        if current.version != running.opening.model_version:
            _LOG.warning("round %d learned from model %d, which is over", running.number, running.opening.model_version)
            return None
        rule = replace(self._rule, towards=self._registry.start)
        model = next_model(current, verdicts, self._aggregator, rule)
        # The signature's state is on disk before the database hears of it: a crash between wastes one, repeats none.
        return None if model is None else self._registry.prepare(model, now_ms, round_=running.number)

    def _end(self, running: RunningRound, state: str, reason: str, now_ms: int) -> None:
        with self._ledger.store.write() as connection:
            self._ledger.settle(connection, running.number, state, reason, now_ms)
            self._privacy.ledger.close(connection, running.number)
            chain.append(connection, now_ms, "round.void", round=running.number, reason=reason)
        _LOG.warning("round %d is void: %s", running.number, reason)
        self._closed(running)

    def _closed(self, running: RunningRound) -> None:
        self.running = None
        self._last = self._ledger.find(running.number)
        self._conflicts.clear()


def since_ms(record: RoundRecord) -> int:
    """Begin of the newest step of a round."""
    return record.settled_ms or record.started_ms or record.opened_ms


def verdicts_by_cell(sums: Sequence[SumRecord]) -> dict[int, list[SumRecord]]:
    """Group the verdicts of a round by cell."""
    cells: dict[int, list[SumRecord]] = {}
    for record in sums:
        cells.setdefault(record.cell, []).append(record)
    return cells
