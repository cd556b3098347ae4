"""The server as a whole, without sockets: messages and time in, messages out."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from sqlalchemy import insert, select

from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Identity
from qepa_uplink.messages import (
    Ack,
    Adopted,
    AlertReport,
    AuditKept,
    CareRecord,
    CellVoid,
    ExplainedBeat,
    Findings,
    Partial,
    Ready,
    SessionOpen,
    Status,
    WaveRecord,
    Welcome,
)
from qepa_uplink.releases import BOARD_MODEL
from qepa_wire.errors import WireError
from qepa_wire.keys import COHORT_CHECK, KEY_BYTES, derive
from qepa_wire.payloads import care_consent
from qepa_wire.primitives import sha256

from .audit import chain
from .audit.seals import Sealer
from .audit.witnesses import Witnesses
from .care.alarms import AlarmLog
from .care.beat_minutes import BeatMinutes
from .care.care_keys import CareKeys
from .care.consents import ConsentDesk
from .care.explained import ExplainedBeats
from .care.findings import FindingsMonitor
from .care.foreseen import ForeseenLows
from .care.vitals import VitalsMonitor
from .care.waves import WaveMonitor
from .config import ServerConfig
from .enrolment.desk import EnrolmentDesk
from .enrolment.register import BoardRegister
from .enrolment.retirement import RetirementDesk
from .errors import RefusedError, ServerError
from .explain.disagreement import Disagreement
from .privacy.ledger import BudgetLedger
from .privacy.office import PrivacyOffice
from .registry.bedside import BedsideLines
from .registry.federation import FederationFacts
from .registry.firmware import FirmwareDesk
from .registry.models import ModelRegistry
from .registry.release import ReleaseDesk
from .registry.shipped_model import shipped_model
from .registry.signer import HssSigner
from .registry.versions import INITIAL, SHIPPED, VersionStore
from .robust.quarantine import GATEWAY, Quarantine
from .robust.warden import Warden
from .rounds.conductor import Conductor
from .rounds.ledger import RoundLedger
from .sessions.hub import GatewayHub, Received
from .sessions.presence import Presence
from .store.database import Store
from .store.schema import settings
from .store.vault import Vault
from .training.initial import initial_model

_LOG = logging.getLogger(__name__)
_CARE_TICK_MS = 1000
_MODEL_AGAIN_MS = 5000
_WELCOME_AGAIN_MS = 10_000
_COHORT_KEY = "cohort key"
_UNASKED_RESETS = frozenset({"watchdog", "brown_out"})


@dataclass(frozen=True, slots=True)
class _Repetition:
    version: int
    due_ms: int
    every_ms: int


class Hospital:
    """Wires the parts together and routes what gateways say.

    ``send(gateway, data)`` queues bytes for a gateway; ``clock_ms`` is wall-clock time.
    """

    def __init__(
        self,
        *,
        config: ServerConfig,
        store: Store,
        vault: Vault,
        signer: HssSigner,
        identity: Identity,
        root_key: bytes,
        clock_ms: Callable[[], int],
        send: Callable[[str, bytes], None],
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.config = config
        self.store = store
        self.clock_ms = clock_ms
        self.refused: Counter[str] = Counter()
        self.presence = Presence()
        self.register = BoardRegister(store, vault)
        versions = VersionStore(store)
        self.registry = ModelRegistry(versions, signer, identity)
        self.ledger = RoundLedger(store)
        self._transmit = send
        self._held: list[tuple[str, bytes]] | None = None
        send = self._send
        self._care_ticked_ms = 0
        self._model_again: dict[str, _Repetition] = {}
        self._welcomed_ms: dict[str, int] = {}
        self._told: dict[str, tuple[Adopted, ...]] = {}
        Sealer(identity).install(store, clock_ms())
        cohort_key = _cohort_key(store, vault, random_bytes, clock_ms())
        self._release_first_model()
        self.hub = GatewayHub(store=store, identity=identity, root_key=root_key, clock_ms=clock_ms, send=send)
        self.witnesses = Witnesses(
            store=store, identity=identity, clock_ms=clock_ms, seal=self.hub.seal, holder=self.hub.holder
        )
        self.enrolment = EnrolmentDesk(
            store=store,
            vault=vault,
            register=self.register,
            identity=identity,
            root_key=root_key,
            cohort_key=cohort_key,
            model_root=self.registry.model_root,
            clock_ms=clock_ms,
            changed=self._welcome,
        )
        self.quarantine = Quarantine(store)
        self.consents = ConsentDesk(
            store=store,
            register=self.register,
            root_key=root_key,
            clock_ms=clock_ms,
            changed=self._consent_changed,
            consent_required=config.privacy.consent_required,
            quarantined=self.quarantine.concerns,
        )
        plan = config.plan
        self.privacy = PrivacyOffice(
            streams=plan.streams,
            budgets=config.privacy.budgets,
            min_group=plan.min_group,
            colluding_boards=config.privacy.colluding_boards,
            ledger=BudgetLedger(store),
            register=self.register,
            consents=self.consents,
        )
        self.vitals = VitalsMonitor(consents=self.consents, clock_ms=clock_ms)
        self.waves = WaveMonitor(register=self.register, consents=self.consents, clock_ms=clock_ms, send=self.hub.seal)
        self.findings = FindingsMonitor(consents=self.consents, clock_ms=clock_ms)
        self.explained = ExplainedBeats(consents=self.consents, clock_ms=clock_ms)
        self.alarms = AlarmLog(store=store, register=self.register, clock_ms=clock_ms)
        self.foreseen = ForeseenLows(alarms=self.alarms, consents=self.consents, clock_ms=clock_ms)
        self.retirement = RetirementDesk(
            store=store,
            register=self.register,
            identity=identity,
            root_key=root_key,
            clock_ms=clock_ms,
            retired=self.alarms.end_all,
            changed=self._welcome,
        )
        self.firmware = FirmwareDesk(
            store=store, identity=identity, register=self.register, clock_ms=clock_ms, send=send
        )
        self.care_keys = CareKeys(
            consents=self.consents,
            identity=identity,
            clock_ms=clock_ms,
            seal=self.hub.seal,
            send=send,
            gateways=lambda: self.hub.connected,
        )
        learning = config.learning
        self.registry.facts = FederationFacts(
            ledger=self.ledger,
            privacy=self.privacy,
            learning=learning,
            clock_ms=clock_ms,
            newest=lambda: self.registry.newest,
        )
        self.releases = ReleaseDesk(
            versions=versions,
            registry=self.registry,
            bedside=BedsideLines(
                versions=versions, identity=identity, terms=config.models.terms, clock_ms=clock_ms, send=send
            ),
            root_key=root_key,
            drift_windows=config.models.drift_windows,
            clock_ms=clock_ms,
            concerned=lambda: frozenset(name for name in self.present() if self.register.of_gateway(name)),
            send=send,
        )
        self.beat_minutes = BeatMinutes(
            disagreement=Disagreement(BOARD_MODEL, np.random.default_rng().random),
            findings=self.findings,
            newest=lambda: self.registry.newest,
            drifted=self.releases.on_drift,
            clock_ms=clock_ms,
        )
        self.warden = Warden(
            ledger=self.ledger,
            register=self.register,
            quarantine=self.quarantine,
            settings=config.watch.settings,
            board_norm=learning.board_norm,
            most=config.watch.most,
            enabled=config.watch.quarantine,
        )
        self.rounds = Conductor(
            plan=plan,
            ledger=self.ledger,
            register=self.register,
            registry=self.registry,
            privacy=self.privacy,
            identity=identity,
            cohort_check_key=derive(cohort_key, COHORT_CHECK),
            aggregator=learning.join(np.random.default_rng(int.from_bytes(random_bytes(16), "little"))),
            rule=learning.rule,
            ward=self,
            clock_ms=clock_ms,
            send=send,
            random_bytes=random_bytes,
        )

    def present(self) -> frozenset[str]:
        """Gateways with a session that were heard lately and may take part in rounds."""
        now_ms = self.clock_ms()
        return frozenset(
            name
            for name in self.hub.connected
            if self.presence.online(name, now_ms) and not self.quarantine.holds(GATEWAY, name)
        )

    def prepared(self) -> tuple[int, int]:
        """Return (gateways with online boards, patients with an online board)."""
        now_ms = self.clock_ms()
        gateways = 0
        patients: set[str] = set()
        for name in self.present():
            online = self.presence.boards(name, now_ms)
            gateways += bool(online)
            patients |= {b.patient for b in self.register.of_gateway(name) if b.board in online}
        return gateways, len(patients)

    def receive(self, gateway: str, data: bytes) -> None:
        """Take bytes from ``gateway``'s topic. Whatever they are, nothing is raised: it is done or counted."""
        try:
            received = self.hub.receive(gateway, data)
            if received is not None:
                self._route(received)
        except (UplinkError, WireError, ServerError) as error:
            self.refused[error.reason] += 1
            _LOG.info("refused from %r: %s", gateway[:32], error)

    def receive_all(self, arrivals: Iterable[tuple[str, bytes]]) -> None:
        """Take several messages as :meth:`receive` does, in one transaction: a commit costs more than most messages."""
        with self._together():
            for gateway, data in arrivals:
                self.receive(gateway, data)

    def tick(self) -> None:
        """Do what time asks for; call it about ten times a second."""
        with self._together():
            self._tick()

    @contextmanager
    def _together(self) -> Iterator[None]:
        """One transaction; what is sent meanwhile leaves when it is durable, and not at all if it fails."""
        held = self._held = []
        try:
            with self.store.batch():
                yield
        finally:
            self._held = None
        for gateway, data in held:
            self._transmit(gateway, data)

    def _send(self, gateway: str, data: bytes) -> None:
        if self._held is None:
            self._transmit(gateway, data)
        else:
            self._held.append((gateway, data))

    def _tick(self) -> None:
        self.hub.tick()
        self.rounds.tick()
        now_ms = self.clock_ms()
        if now_ms - self._care_ticked_ms >= _CARE_TICK_MS:
            self._care_ticked_ms = now_ms
            self.care_keys.tick()
            self.foreseen.tick()
            self.beat_minutes.tick()
            self.witnesses.tick(self.hub.connected)
            if self.warden.look(now_ms):
                self.tell_parts()

    def release(self, kind: str, name: str, by: str) -> None:
        """End a quarantine on a person's word; raises RefusedError("quarantine")."""
        self.quarantine.release(kind, name, by, self.clock_ms())
        self.warden.forget()
        self.tell_parts()

    def _route(self, received: Received) -> None:
        gateway, message = received.gateway, received.message
        match message:
            case SessionOpen():
                self._welcome(gateway)
                self.care_keys.greet(gateway)
                self.witnesses.greet(gateway)
                self.rounds.greet(gateway)
            case Status():
                self._on_status(gateway, message)
            case Ready():
                self.rounds.on_ready(gateway, message, received.raw)
            case Partial():
                self.rounds.on_partial(gateway, message, received.raw)
                self._acknowledge(gateway, message.id)
                self.rounds.advance()
            case CellVoid():
                self.rounds.on_cell_void(gateway, message)
                self._acknowledge(gateway, message.id)
                self.rounds.advance()
            case CareRecord():
                self._on_care(gateway, message)
            case WaveRecord():
                self.waves.accept(gateway, message)
            case Findings():
                self.findings.accept(gateway, message)
                self.foreseen.note(message)
            case ExplainedBeat():
                self.explained.accept(gateway, message)
            case AuditKept():
                self.witnesses.accept(gateway, message)
            case AlertReport():
                self._on_alert(gateway, message)
            case _:
                raise RefusedError("type", f"{message.type} is not for the server")

    def _acknowledge(self, gateway: str, message_id: str) -> None:
        self.hub.seal(gateway, Ack(ids=(message_id,)))

    def _welcome(self, gateway: str) -> None:
        boards = self._adopted(gateway)
        self._welcomed_ms[gateway] = self.clock_ms()
        if self.hub.seal(gateway, Welcome(boards=boards)):
            self._told[gateway] = boards

    def _adopted(self, gateway: str) -> tuple[Adopted, ...]:
        now_ms = self.clock_ms()
        return tuple(
            Adopted(board=board.board, patient=board.patient, barred=self.privacy.barred(board, now_ms))
            for board in self.register.of_gateway(gateway)
        )

    def tell_parts(self) -> None:
        """Tell gateways which of their boards have no part in a stream; again where it is so already."""
        for gateway in self.present():
            boards = self._adopted(gateway)
            if self._told.get(gateway) != boards or any(board.barred for board in boards):
                self._welcome(gateway)

    def _consent_changed(self, consent_id: bytes) -> None:
        consent = self.consents.find(consent_id)
        if consent is not None and consent.purpose == "care":
            self.care_keys.changed(consent_id)
        else:
            self.tell_parts()

    def _on_status(self, gateway: str, status: Status) -> None:
        now_ms = self.clock_ms()
        self._audit_health(gateway, status, now_ms)
        self.presence.note(gateway, status, now_ms)
        self.firmware.on_status(gateway, status)
        self.releases.on_status(gateway, status)
        wanted = {board.board for board in self.register.of_gateway(gateway)}
        welcome_due = now_ms - self._welcomed_ms.get(gateway, 0) >= _WELCOME_AGAIN_MS
        if welcome_due and wanted != {item.board for item in status.boards}:
            self._welcome(gateway)  # the broker has lost the last one
        version = self.registry.current.version
        if not self.registry.envelope or not any(
            board.online and board.model_version < version for board in status.boards
        ):
            return
        # A gateway hears of a board's model late, so this may be needless: ask less and less often.
        sent = self._model_again.get(gateway)
        if sent is None or sent.version != version:
            self._model_again[gateway] = _Repetition(version, now_ms + _MODEL_AGAIN_MS, _MODEL_AGAIN_MS)
        elif now_ms >= sent.due_ms:
            self._model_again[gateway] = _Repetition(version, now_ms + 2 * sent.every_ms, 2 * sent.every_ms)
            self._send(gateway, self.registry.envelope)

    def _audit_health(self, gateway: str, status: Status, now_ms: int) -> None:
        """Note boards that enter or leave safe mode or a trial of firmware, and resets nobody asked for."""
        last = self.presence.last(gateway)
        before = {} if last is None else {item.board: (item.mode, item.reset_cause) for item in last.status.boards}
        for item in status.boards:
            mode, cause = before.get(item.board, ("normal", "unknown"))
            if item.mode == mode and (item.reset_cause == cause or item.reset_cause not in _UNASKED_RESETS):
                continue
            with self.store.write() as connection:
                chain.append(
                    connection, now_ms, "board.health", board=item.board, mode=item.mode, reset_cause=item.reset_cause
                )

    def _on_alert(self, gateway: str, report: AlertReport) -> None:
        try:
            self.alarms.accept(gateway, report)
        except RefusedError:
            self._acknowledge(gateway, report.id)  # in the audit: sending it again would change nothing
            raise
        self._acknowledge(gateway, report.id)

    def _on_care(self, gateway: str, record: CareRecord) -> None:
        consent_id = care_consent(record.payload)
        try:
            care = self.vitals.accept(gateway, record)
        except RefusedError as error:
            consent = self.consents.find(consent_id)
            if error.reason == "consent" and consent is not None and consent.has_ended(self.clock_ms()):
                self.care_keys.revoke(gateway, consent_id)
            raise
        self.beat_minutes.note(record.board, care)
        self.care_keys.heard(gateway, consent_id, record.board)

    def _release_first_model(self) -> None:
        if self.registry.empty:
            learning = self.config.learning
            now_ms = self.clock_ms()
            begun = initial_model(
                features=learning.features,
                hidden=learning.hidden,
                classes=learning.classes,
                fraction_bits=learning.fraction_bits,
                seed=learning.seed,
            )
            shipped = shipped_model(begun) if self.config.models.start == SHIPPED else None
            if shipped is not None:
                first = self.registry.prepare(shipped[0], now_ms, origin=SHIPPED, card=shipped[1])
            else:
                first = self.registry.prepare(begun, now_ms, origin=INITIAL)
            with self.store.write() as connection:
                chain.append(connection, now_ms, "key.model", sha256=sha256(self.registry.model_root).hex())
                self.registry.release(connection, first)
            self.registry.adopt(first)
        current, learning = self.registry.current, self.config.learning
        if (current.features, current.hidden, current.classes, current.fraction_bits) != (
            learning.features,
            learning.hidden,
            learning.classes,
            learning.fraction_bits,
        ):
            raise ServerError("model", "the stored model has another shape than [learning] asks for")


def _cohort_key(store: Store, vault: Vault, random_bytes: Callable[[int], bytes], now_ms: int) -> bytes:
    """Return the cohort key; make it at the first start."""
    with store.write() as connection:
        sealed = connection.execute(select(settings.c.value).where(settings.c.key == _COHORT_KEY)).scalar()
        if sealed is None:
            key = random_bytes(KEY_BYTES)
            connection.execute(insert(settings).values(key=_COHORT_KEY, value=vault.seal(key, _COHORT_KEY)))
            chain.append(connection, now_ms, "key.cohort")
            return key
    return vault.open_sealed(sealed, _COHORT_KEY)


def audit_head(hospital: Hospital) -> str:
    """Return the audit log's head as SEQ:HASH after verifying the chain; raises AuditError."""
    with hospital.store.read() as connection:
        chain.verify(connection)
        head = chain.head(connection)
    return f"{head.seq}:{head.hash.hex()}"
