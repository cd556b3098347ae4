"""The composition root: every part of the server, wired to those that it works with."""

import os
from collections import Counter
from collections.abc import Callable

import numpy as np
from sqlalchemy import Connection

from qepa_uplink.identity import Identity
from qepa_uplink.releases import BOARD_MODEL
from qepa_wire.keys import COHORT_CHECK, derive

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
from .enrolment.cohort import cohort_key
from .enrolment.desk import EnrolmentDesk
from .enrolment.register import Board, BoardRegister
from .enrolment.retirement import RetirementDesk
from .explain.disagreement import Disagreement
from .planning import plan_rounds
from .privacy.ledger import BudgetLedger
from .privacy.office import PrivacyOffice
from .registry.bedside import BedsideLines
from .registry.delivery import ModelDelivery
from .registry.federation import FederationFacts
from .registry.firmware import FirmwareDesk
from .registry.first_model import begin_line
from .registry.models import ModelRegistry
from .registry.orders import Orders
from .registry.release import ReleaseDesk
from .registry.signer import HssSigner
from .registry.versions import VersionStore
from .robust.quarantine import Quarantine
from .robust.warden import Warden
from .rounds.announcement import Announcer
from .rounds.conductor import Conductor
from .rounds.ledger import RoundLedger
from .rounds.settlement import Settlement
from .rounds.verdicts import Verdicts
from .rounds.ward import Ward
from .sessions.health import BoardHealth
from .sessions.hub import GatewayHub
from .sessions.presence import Presence
from .store.database import Store
from .store.outbox import Outbox
from .store.vault import Vault


class Parts:
    """Makes the parts, from what is stored, in the order in which they need each other.

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
        self.outbox = Outbox(store, send)
        send = self.outbox.send
        Sealer(identity).install(store, clock_ms())
        cohort = cohort_key(store, vault, random_bytes, clock_ms())
        begin_line(self.registry, store, config.learning, start=config.models.start, now_ms=clock_ms())
        self.hub = GatewayHub(store=store, identity=identity, root_key=root_key, clock_ms=clock_ms, send=send)
        self.witnesses = Witnesses(
            store=store, identity=identity, clock_ms=clock_ms, seal=self.hub.seal, holder=self.hub.holder
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
        plan = plan_rounds(config)
        self.privacy = PrivacyOffice(
            streams=plan.streams,
            budgets=config.privacy.budgets,
            min_group=plan.min_group,
            colluding_boards=config.privacy.colluding_boards,
            ledger=BudgetLedger(store),
            register=self.register,
            consents=self.consents,
        )
        self.health = BoardHealth(store, self._serves)
        self.vitals = VitalsMonitor(consents=self.consents, clock_ms=clock_ms)
        self.waves = WaveMonitor(register=self.register, consents=self.consents, clock_ms=clock_ms, send=self.hub.seal)
        self.findings = FindingsMonitor(consents=self.consents, clock_ms=clock_ms)
        self.explained = ExplainedBeats(consents=self.consents, clock_ms=clock_ms)
        self.alarms = AlarmLog(store=store, register=self.register, clock_ms=clock_ms)
        self.foreseen = ForeseenLows(alarms=self.alarms, consents=self.consents, clock_ms=clock_ms)
        self.ward = Ward(
            hub=self.hub,
            presence=self.presence,
            register=self.register,
            quarantine=self.quarantine,
            privacy=self.privacy,
            clock_ms=clock_ms,
        )
        self.enrolment = EnrolmentDesk(
            store=store,
            vault=vault,
            register=self.register,
            identity=identity,
            root_key=root_key,
            cohort_key=cohort,
            model_root=self.registry.model_root,
            clock_ms=clock_ms,
            replaced=self._replaced,
            changed=self.ward.welcome,
        )
        self.retirement = RetirementDesk(
            store=store,
            register=self.register,
            identity=identity,
            root_key=root_key,
            clock_ms=clock_ms,
            retired=self._retired,
            changed=self.ward.welcome,
        )
        self.orders = Orders(store=store, root_key=root_key, clock_ms=clock_ms)
        self.firmware = FirmwareDesk(
            store=store,
            identity=identity,
            register=self.register,
            orders=self.orders,
            clock_ms=clock_ms,
            send=send,
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
            orders=self.orders,
            drift_windows=config.models.drift_windows,
            clock_ms=clock_ms,
            concerned=self.ward.concerned,
            send=send,
        )
        self.delivery = ModelDelivery(registry=self.registry, clock_ms=clock_ms, send=send)
        self.beat_minutes = BeatMinutes(
            disagreement=Disagreement(BOARD_MODEL, np.random.default_rng().random),
            consents=self.consents,
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
            ledger=self.ledger,
            register=self.register,
            accounts=self.privacy.ledger,
            announcer=Announcer(
                plan=plan,
                ledger=self.ledger,
                register=self.register,
                registry=self.registry,
                privacy=self.privacy,
                identity=identity,
                ward=self.ward,
                random_bytes=random_bytes,
            ),
            verdicts=Verdicts(
                ledger=self.ledger,
                register=self.register,
                privacy=self.privacy,
                check_key=derive(cohort, COHORT_CHECK),
                clock_ms=clock_ms,
            ),
            settlement=Settlement(
                ledger=self.ledger,
                registry=self.registry,
                accounts=self.privacy.ledger,
                aggregator=learning.join(np.random.default_rng(int.from_bytes(random_bytes(16), "little"))),
                rule=learning.rule,
                clock_ms=clock_ms,
            ),
            ward=self.ward,
            clock_ms=clock_ms,
            send=send,
        )

    def _serves(self, gateway: str, board: int) -> bool:
        found = self.register.get(board)
        return found is not None and found.gateway == gateway

    def _replaced(self, connection: Connection, before: Board, board: Board) -> None:
        self.privacy.ledger.hold(connection, before.patient)
        if board.patient != before.patient:
            self.alarms.end_all(connection, before.board, "replaced")

    def _retired(self, connection: Connection, board: Board) -> None:
        self.privacy.ledger.hold(connection, board.patient)
        self.alarms.end_all(connection, board.board, "retired")

    def _consent_changed(self, consent_id: bytes) -> None:
        consent = self.consents.find(consent_id)
        if consent is not None and consent.purpose == "care":
            self.care_keys.changed(consent_id)
            self.tick_care()
        else:
            self.ward.tell_parts()

    def tick_care(self) -> None:
        """Have everything that holds data of patients forget what it may not hold any more."""
        for part in (self.vitals, self.waves, self.findings, self.explained, self.foreseen, self.beat_minutes):
            part.tick()
