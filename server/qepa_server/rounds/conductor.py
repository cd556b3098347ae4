"""The state machine of rounds: ready, collect, done or void. Clock, transport and randomness are passed in.

Every input may come twice, and every step is one transaction, durable before a message of it leaves:

| step | where | in its transaction | leaves after it |
| --- | --- | --- | --- |
| open | `Announcer.open_when_due` | the number, spent; what it can cost each patient | RoundOpen |
| ready | `Conductor.on_ready` | a gateway's Ready | |
| start | `Announcer.start` | RoundStart | RoundStart |
| collect | `Conductor.on_partial` | a Partial; that something of its patients came | its Ack, by the caller |
| verdict | `Verdicts` | a sum and what it did cost, or why there is none | Ack of a CellVoid, by the caller |
| end | `Settlement` | the model, whose signature was spent before; the accounts closed | ModelRelease |

After a restart the running round goes on from what is stored; what its deadlines took meanwhile is void.
"""

from collections.abc import Callable

from sqlalchemy import Connection

from qepa_uplink.cells import Cell
from qepa_uplink.messages import CellVoid, Partial, Ready, Signed, StreamSpec
from qepa_wire.primitives import equal

from ..audit import chain
from ..enrolment.register import BoardRegister
from ..errors import RefusedError
from ..privacy.ledger import BudgetLedger
from .announcement import Announcer
from .ledger import RoundLedger
from .running import RunningRound, message_of, ready_of, resume
from .settlement import Settlement
from .verdicts import Verdicts
from .ward import Ward

_REPEAT_MS = 2000


class Conductor:
    """Runs one round after another."""

    def __init__(
        self,
        *,
        ledger: RoundLedger,
        register: BoardRegister,
        accounts: BudgetLedger,
        announcer: Announcer,
        verdicts: Verdicts,
        settlement: Settlement,
        ward: Ward,
        clock_ms: Callable[[], int],
        send: Callable[[str, bytes], None],
    ) -> None:
        self._ledger = ledger
        self._register = register
        self._accounts = accounts
        self._announcer = announcer
        self._verdicts = verdicts
        self._settlement = settlement
        self._ward = ward
        self._clock_ms = clock_ms
        self._send = send
        self._repeated_ms = 0
        self._conflicts: set[tuple[int, int, int, str]] = set()
        self._last = ledger.last()
        self.running = resume(self._last, ledger, accounts)
        if self.running is not None:
            announcer.rounds = 1

    @property
    def finished(self) -> bool:
        """Tell whether max_rounds rounds ran since this start."""
        return self.running is None and self._announcer.finished

    @property
    def refusals(self) -> tuple[str, ...]:
        """Streams that were left out of the newest round, or would be, and why."""
        return self._announcer.refusals

    def tick(self) -> None:
        """Do what time asks for; call it often."""
        now_ms = self._clock_ms()
        running = self.running
        if running is None:
            self._open_when_due(now_ms)
            return
        if running.start_envelope is None:
            if now_ms >= running.deadline_ms or running.all_ready:
                self._start(running, now_ms)
                return
        else:
            self._verdicts.judge_complete(running)  # after a restart a complete slot may wait here
            if now_ms >= running.deadline_ms:
                self._verdicts.void_missing(running, now_ms)
            if running.all_judged:
                self._settle(running, now_ms)
                return
        if not 0 <= now_ms - self._repeated_ms < _REPEAT_MS:
            self._send_phase(running, now_ms)

    def greet(self, gateway: str) -> None:
        """Send what a gateway with a new session may have missed of the running round."""
        message = None if self.running is None else self.running.lacking(gateway)
        if message is not None:
            self._send(gateway, message)

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
        if running.all_ready:
            self._start(running, self._clock_ms())

    def on_partial(self, gateway: str, message: Partial, raw: bytes) -> None:
        """Take a Partial; when this returns, its fate is durable and it can be acknowledged, then :meth:`advance`.

        Raises RefusedError: sender, round, cell, or conflict (another Partial for a place that is taken; audited).
        """
        if message.gateway != gateway:
            raise RefusedError("sender", f"{gateway} sends a partial sum for {message.gateway}")
        stored = self._known_partial(gateway, message)
        if stored is not None:
            if stored != message:
                self._note_useless(gateway, message)
                self._note_conflict(gateway, message)
                raise RefusedError("conflict", f"{gateway} sent another partial sum for round {message.round}")
            return
        found = self._place(gateway, message)
        if found is None:
            self._note_useless(gateway, message)
            return
        running, cell, spec = found
        with self._ledger.store.write() as connection:
            self._ledger.add_partial(connection, running.number, cell.id, spec.stream, gateway, raw)
            self._note_received(connection, gateway, message)
        running.partials.setdefault((cell.id, spec.stream), {})[gateway] = message

    def on_cell_void(self, gateway: str, message: CellVoid) -> None:
        """Take a CellVoid: this (cell, stream) gives no sum. Raises RefusedError as :meth:`on_partial`."""
        if message.gateway != gateway:
            raise RefusedError("sender", f"{gateway} voids a cell for {message.gateway}")
        found = self._place(gateway, message)
        if found is not None:
            running, cell, spec = found
            self._verdicts.void(running, cell, spec.stream, f"{gateway}: {message.reason}", self._clock_ms())

    def advance(self) -> None:
        """Open what is complete and settle; after :meth:`on_partial` was acknowledged."""
        running = self.running
        if running is not None and running.start_envelope is not None:
            self._verdicts.judge_complete(running)
            if running.all_judged:
                self._settle(running, self._clock_ms())

    def _open_when_due(self, now_ms: int) -> None:
        self.running = self._announcer.open_when_due(self._last, now_ms)
        if self.running is not None:
            self._send_phase(self.running, now_ms)

    def _start(self, running: RunningRound, now_ms: int) -> None:
        cells = running.draw()
        if not cells:
            patients = sum(ready_of(envelope).patients for envelope in running.readies.values())
            asked = running.opening.min_group
            self._settlement.void(running, f"{patients} patients, min_group is {asked}: no cell", now_ms)
            self._closed(running)
            return
        envelope = self._announcer.start(running, cells, now_ms)
        self._repeated_ms = now_ms
        for gateway in running.readies:
            self._send(gateway, envelope)

    def _settle(self, running: RunningRound, now_ms: int) -> None:
        version = self._settlement.settle(running, now_ms)
        if version is not None:
            for gateway in self._ward.present() | set(running.expected):
                self._send(gateway, version.envelope)
        self._closed(running)

    def _closed(self, running: RunningRound) -> None:
        self.running = None
        self._last = self._ledger.find(running.number)
        self._conflicts.clear()

    def _send_phase(self, running: RunningRound, now_ms: int) -> None:
        """Tell everyone what the present phase asks of them; again and again, since the broker may drop anything."""
        self._repeated_ms = now_ms
        for gateway in running.expected:
            message = running.lacking(gateway)
            if message is not None:
                self._send(gateway, message)

    def _note_useless(self, gateway: str, message: Partial) -> None:
        """It will never open, but it is here."""
        with self._ledger.store.write() as connection:
            self._note_received(connection, gateway, message)

    def _note_received(self, connection: Connection, gateway: str, message: Partial) -> None:
        """The charges of the gateway's patients whom it names will not lapse."""
        boards = (self._register.get(number) for number in message.contributors)
        patients = {board.patient for board in boards if board is not None and board.gateway == gateway}
        self._accounts.received(connection, message.round, message.stream, patients)

    def _known_partial(self, gateway: str, message: Partial) -> Signed | None:
        running = self.running
        if running is not None and message.round == running.number:  # all that is stored of it is in memory
            return running.partials.get((message.cell, message.stream), {}).get(gateway)
        envelope = self._ledger.partial(message.round, message.cell, message.stream, gateway)
        return None if envelope is None else message_of(envelope)

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
