"""The two announcements of a round: when the next one is due and what it asks for, and then its cells."""

import logging
from collections.abc import Callable

from qepa_uplink.cells import Cell
from qepa_uplink.envelope import sign
from qepa_uplink.identity import Identity
from qepa_uplink.messages import RoundStart
from qepa_wire.primitives import sha256

from ..audit import chain
from ..enrolment.register import BoardRegister
from ..privacy.office import PrivacyOffice
from ..registry.models import ModelRegistry
from .ledger import RoundLedger, RoundRecord
from .plan import RoundPlan
from .running import RunningRound
from .ward import Ward

_LOG = logging.getLogger(__name__)


class Announcer:
    """Decides when to open a round, and records each announcement before it leaves; the conductor sends it."""

    def __init__(
        self,
        *,
        plan: RoundPlan,
        ledger: RoundLedger,
        register: BoardRegister,
        registry: ModelRegistry,
        privacy: PrivacyOffice,
        identity: Identity,
        ward: Ward,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._register = register
        self._registry = registry
        self._privacy = privacy
        self._identity = identity
        self._ward = ward
        self._random_bytes = random_bytes
        self._waiting_since_ms: int | None = None
        self._refused_ms: int | None = None
        self.refusals: tuple[str, ...] = ()  # streams that were left out of the newest round, or would be, and why
        self.rounds = 0  # since this start; one that goes on counts

    @property
    def finished(self) -> bool:
        """Tell whether max_rounds rounds were opened since this start."""
        return 0 < self._plan.max_rounds <= self.rounds

    def open_when_due(self, last: RoundRecord | None, now_ms: int) -> RunningRound | None:
        """Open the round after ``last`` if its time has come; its number is spent and its charge durable then."""
        if not self._is_due(last, now_ms):
            return None
        present = self._ward.present()
        if self._waiting_since_ms is None:
            self._waiting_since_ms = now_ms
        if not present or not self._worth_opening(now_ms - self._waiting_since_ms):
            return None
        self._waiting_since_ms = None
        offer = self._privacy.offer(present, now_ms)
        self._note_refusals(offer.refused, now_ms)
        self._refused_ms = None if offer.streams else now_ms
        if not offer.streams:
            return None
        self._ward.tell_parts()
        number = self._ledger.next_number()
        nonce = self._random_bytes(32)
        opening = self._plan.opening(number, sha256(nonce), self._registry.current.version, offer.streams)
        envelope = sign(self._identity, opening)
        with self._ledger.store.write() as connection:
            self._ledger.open_round(connection, number, nonce, envelope, present, now_ms)
            self._privacy.ledger.announce(connection, number, offer.costs, offer.periods)
            chain.append(connection, now_ms, "round.opened", round=number, gateways=len(present))
        self.rounds += 1
        _LOG.info("round %d opens for %s", number, ", ".join(sorted(present)))
        return RunningRound(opening, nonce, envelope, tuple(sorted(present)), now_ms, charged=dict(offer.costs))

    def start(self, running: RunningRound, cells: tuple[Cell, ...], now_ms: int) -> bytes:
        """Begin to collect from ``cells``, those that ``running`` draws; return the signed RoundStart."""
        readies = tuple(running.readies[name] for name in sorted(running.readies))
        start = RoundStart(round=running.number, server_nonce=running.nonce, readies=readies)
        envelope = sign(self._identity, start)
        with self._ledger.store.write() as connection:
            self._ledger.start(connection, running.number, envelope, now_ms)
        running.start_envelope, running.started_ms, running.cells = envelope, now_ms, cells
        return envelope

    def _is_due(self, last: RoundRecord | None, now_ms: int) -> bool:
        if self._registry.settling(now_ms) or self.finished:
            return False
        # A clock that was set back must not hold rounds up, so only an age from 0 to a period waits.
        begins = (None if last is None else last.opened_ms, self._refused_ms)
        return not any(begin is not None and 0 <= now_ms - begin < self._plan.period_ms for begin in begins)

    def _worth_opening(self, waited_ms: int) -> bool:
        """Wait, for a while, until enough patients can answer: boards start one after another."""
        gateways, patients = self._ward.prepared()
        enrolled = len({board.patient for board in self._register.values()})
        first = self.rounds == 0
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

    def _note_refusals(self, refusals: tuple[str, ...], now_ms: int) -> None:
        for refusal in set(refusals) - set(self.refusals):
            _LOG.warning("not asked for: %s", refusal)
            with self._ledger.store.write() as connection:
                chain.append(connection, now_ms, "stream.refused", reason=refusal)
        self.refusals = refusals
