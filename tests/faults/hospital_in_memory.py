"""A whole hospital in one process: the true server and true gateways over their databases, boards, a broker in memory.

Only boards and KME are scripted (`bedside_rig`). Every party can be killed at any of its durable steps: what is in
memory is gone, what is on disk stays, and :meth:`Hospital.start` goes on from there.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "gateway"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "server"))

import hospital_rig
from bedside_rig import STREAMS, Kme, Rig, Site, VirtualBoard, identity, root

from qepa_gateway.core import Gateway, Trusted
from qepa_gateway.domain.rollout import Terms
from qepa_gateway.inference.shelf import ModelShelf
from qepa_gateway.spool.database import Spool
from qepa_gateway.transport import Outgoing
from qepa_server.config import LearningConfig, PrivacyConfig
from qepa_server.hospital import Hospital
from qepa_server.registry.signer import HssSigner
from qepa_server.rounds.ledger import SUMMED
from qepa_server.store.database import Store
from qepa_server.store.vault import Vault
from qepa_uplink.enrolment import (
    CONSENT_CONTEXT,
    ENROLMENT_CONTEXT,
    WITHDRAWAL_CONTEXT,
    EnrolmentReply,
    EnrolmentRequest,
    SignedEnrolment,
    SignedWithdrawal,
    Withdrawal,
    cohort_info,
    enrolment_info,
)
from qepa_uplink.messages import Consent, SignedConsent
from qepa_uplink.sealing import seal_to
from qepa_uplink.topics import to_gateway
from qepa_wire import keys, payloads
from qepa_wire.frame import ROUND, VECTOR, Frame
from qepa_wire.lighthe import seal

STATISTICS, UPDATE = (stream for stream, _ in STREAMS)


class PowerCut(BaseException):
    """The process is gone, here and now."""


class Cut:
    """Counts durable steps of one party; the ``nth`` that holds a write of ``step`` loses power.

    Just before it is on disk, or just after, when nothing of what follows from it has left.
    """

    def __init__(self, step: str = "", nth: int = 1, *, after: bool = False) -> None:
        self.target, self.nth, self.after = step, nth, after
        self.steps: Counter[str] = Counter()
        self.fired = False

    def step(self, commit: Callable[[], object], writers: set[str]) -> object:
        """One step: ``commit`` makes durable what these functions wrote."""
        self.steps.update(writers)
        now = not self.fired and self.target in writers and self.steps[self.target] == self.nth
        self.fired = self.fired or now
        if now and not self.after:
            raise PowerCut
        done = commit()
        if now:
            raise PowerCut
        return done


def _caller() -> str:
    """Name the production function whose transaction this is."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        ours = name.startswith(("qepa_server.", "qepa_gateway.")) and ".spool." not in name and ".store." not in name
        if ours and not frame.f_code.co_name.startswith("<"):
            return f"{name.partition('.')[2]}.{frame.f_code.co_name.strip('_')}"
        frame = frame.f_back
    raise AssertionError("a durable step of nobody")


class CutConnection:
    """The spool's connection: what is committed, by COMMIT or as a transaction of its own, is a durable step."""

    def __init__(self, connection, cut: Cut) -> None:
        self._connection, self._cut = connection, cut
        self._writers: set[str] = set()

    def execute(self, sql, arguments=()):
        run = partial(self._connection.execute, sql, arguments)
        if sql.startswith(("SELECT", "PRAGMA", "BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK")):
            return run()
        if sql != "COMMIT":
            self._writers.add(_caller())
            if self._connection.in_transaction:
                return run()
        writers, self._writers = self._writers, set()
        return self._cut.step(run, writers) if writers else run()

    def __getattr__(self, name):
        return getattr(self._connection, name)


def cut_store(store: Store, cut: Cut) -> None:
    """Let ``cut`` count the transactions of ``store``."""
    whole = {"write": store.write, "batch": store.batch}
    writers: set[str] = set()

    @contextmanager
    def durable(kind: str) -> Iterator[object]:
        if store._joined is not None:
            writers.add(_caller())
            with whole[kind]() as connection:
                yield connection
            return
        writers.clear()
        transaction = whole[kind]()
        connection = transaction.__enter__()
        try:
            yield connection
        except BaseException as error:
            transaction.__exit__(type(error), error, error.__traceback__)
            raise
        if kind == "write":
            writers.add(_caller())
        commit = partial(transaction.__exit__, None, None, None)
        if not writers:  # an empty batch
            commit()
            return
        try:
            cut.step(commit, set(writers))
        except PowerCut:
            if not cut.after:
                transaction.gen.close()  # nobody commits any more; the connection is rolled back as it closes
            raise

    store.write = partial(durable, "write")
    store.batch = partial(durable, "batch")


class LastingKme(Kme):
    """As the true one it answers a request that is made again, with the same key."""

    def fetch(self, key_id):
        self.calls += 1
        return self.stock.get(key_id, "key_unknown")


class Board(VirtualBoard):
    """A board that seals under the terms it was handed, and never uses a mask twice."""

    cohort_key = bytes(32)
    model_root = b""
    order: payloads.RoundOrder | None = None

    def _values(self, round_, stream, n_words):
        if stream == STATISTICS:
            heart_rate = 50 + (self.number * 13 + round_) % 90
            return [1, heart_rate, heart_rate**2, *[0] * (n_words - 3)]
        return [(self.number * 37 + 11 * k + 5 * round_) % 401 - 200 for k in range(n_words)]

    def _obey(self, parsed: Frame) -> None:
        if parsed.type == ROUND:
            self.order = payloads.decode_round(parsed.payload)
        super()._obey(parsed)

    def vector(self, round_, stream, n_words, *, model=None):
        assert (round_, stream) not in self.sealed, "a mask would be used twice"
        order = self.order
        (item,) = (each for each in order.streams if each.stream == stream)
        self.sealed[round_, stream] = values = self.values(round_, stream, n_words)
        check = keys.derive(self.cohort_key, keys.COHORT_CHECK)
        check = payloads.terms_key(check, order.model, order.n_max, item)
        masks = [self.derive(keys.LINK_MASK), keys.derive(self.end_key, keys.END_MASK)]
        sealed = seal(values, masks, check, stream, round_)
        version = self.model if model is None else model
        return self.frame(VECTOR, payloads.encode_vector(round_, stream, version, sealed), keep=True)


class TrueSite(Site):
    """A gateway that can lose power at a durable step."""

    cut: Cut | None = None
    terms = Terms(soak_ms=0)
    shipped: Path | None = None  # folder of the models that its package ships

    def start(self) -> None:
        trusted = Trusted(identity(self.name, "gateway"), root().public_key, identity("server", "server").subject)
        self.spool = Spool.open(self.directory)
        if self.cut is not None:
            self.arm(self.cut)
        clock = lambda: self.rig.now_ms  # noqa: E731
        shelf = None if self.shipped is None else ModelShelf(self.directory, self.shipped)
        self.gateway = Gateway(
            trusted, self.spool, clock, min_group=self.rig.min_group, model_terms=self.terms, shelf=shelf
        )
        self.up = True

    def arm(self, cut: Cut) -> None:
        """Let ``cut`` count the steps of this gateway from now on."""
        self.spool._connection = CutConnection(self.spool._connection, cut)

    def step(self) -> None:
        if not self.up:
            return
        try:
            super().step()
        except PowerCut:
            self.crash()


class TrueServer:
    """The hospital's server on its folder; what `bedside_rig` calls ``server``."""

    def __init__(self, ward: "Ward") -> None:
        self.ward = ward
        self.folder = ward.directory / "server"
        self.folder.mkdir(mode=0o700)
        self.config = hospital_rig.configuration(self.folder, ward.learning, ward.privacy, **ward.rounds)
        self.up = False
        self.together = True
        # What it has signed is on disk before a signature leaves (test_parts.py), so it stands for its file in the next
        # life too: reading the file takes longer than all the rest.
        self._signer: HssSigner | None = None
        self.inbox: list[tuple[str, bytes]] = []
        self.cut: Cut | None = None
        self.start()

    def start(self) -> None:
        self.store = Store.open(self.folder)
        vault = Vault.open(self.folder / "kek", create=True)
        if self._signer is None:
            self._signer = hospital_rig.signer_in(self.folder, vault, self.store)
        if self.cut is not None:
            self.arm(self.cut)
        try:
            self.hospital = Hospital(
                config=self.config,
                store=self.store,
                vault=vault,
                signer=self._signer,
                identity=identity("server", "server"),
                root_key=root().public_key,
                clock_ms=lambda: self.ward.now_ms,
                send=lambda gateway, data: self.ward.deliver(Outgoing(to_gateway(gateway), data)),
            )
        except PowerCut:
            self.store.close()
            return
        self.up = True

    def arm(self, cut: Cut) -> None:
        """Let ``cut`` count the steps of the server from now on."""
        cut_store(self.store, cut)

    def crash(self) -> None:
        self.up = False
        self.store.close()

    def run(self, action: Callable[[], object]) -> None:
        """Do something in the server's process, which may end in it."""
        if self.up:
            try:
                action()
            except PowerCut:
                self.crash()

    def receive(self, gateway: str, data: bytes) -> None:
        self.inbox.append((gateway, data))

    def take(self) -> None:
        """Take what has come, together or one message after the other, and do what is due."""
        inbox, self.inbox = self.inbox, []
        for messages in [inbox] if self.together else [[each] for each in inbox]:
            self.run(lambda messages=messages: self.hospital.receive_all(messages))
        self.run(self.hospital.tick)


class Ward(Rig):
    """`bedside_rig.Rig` with the true server, every board enrolled by a key dock."""

    def __init__(
        self,
        directory: Path,
        *,
        gateways: int = 2,
        patients: int = 12,
        learning: LearningConfig | None = None,
        privacy: PrivacyConfig | None = None,
        **rounds: object,
    ) -> None:
        self.directory = directory
        self.now_ms = 1_800_000_000_000
        self.min_group = 10
        self.learning, self.privacy = learning, privacy
        self.rounds = {"gateways_expected": gateways, "patients_expected": patients, "period_s": 5} | rounds
        self.kme = LastingKme()
        self.queue: list[Outgoing] = []
        self.lose: Callable[[Outgoing], bool] = lambda _message: False
        self.sites: dict[str, TrueSite] = {}
        self.boards: dict[int, Board] = {}
        self.server = TrueServer(self)
        names = [f"gw-{i + 1}" for i in range(gateways)]
        for i in range(patients):
            self.boards[i + 1] = Board(i + 1, f"p-{i + 1}", names[i * gateways // patients], self.kme)
            self.enrol(self.boards[i + 1])
        for name in names:
            self.sites[name] = TrueSite(self, name)

    def request(self, board: Board, **changes: object) -> SignedEnrolment:
        dock, server = identity("dock", "dock"), identity("server", "server")
        fields = {"board": board.number, "patient": board.patient, "gateway": board.gateway} | changes
        info = enrolment_info(fields["board"], fields["patient"], fields["gateway"])
        sealed = seal_to(server.subject.seal_key, board.end_key, info)
        return SignedEnrolment.of(EnrolmentRequest(**fields, sealed_end_key=sealed), dock, ENROLMENT_CONTEXT)

    def enrol(self, board: Board) -> None:
        signed = self.server.hospital.enrolment.enrol(self.request(board))
        reply = EnrolmentReply.model_validate_json(signed.body)
        board.cohort_key = identity("dock", "dock").unseal(reply.sealed_cohort_key, cohort_info(board.number))
        board.model_root = reply.model_root

    def ask(self, action: Callable[[], object]) -> None:
        """A desk asks the server until it has answered."""
        answered = []
        while not answered:
            self.server.run(lambda: answered.append(action()))
            self.revive()

    def consent(self, board: Board, *, for_s: int = 600) -> bytes:
        """The consent desk signs; return the consent's identifier."""
        desk, now_s, consent_id = identity("desk", "consent"), self.now_ms // 1000, os.urandom(16)
        consent = Consent(
            consent_id=consent_id,
            patient=board.patient,
            boards=(board.number,),
            not_before_s=now_s - 10,
            not_after_s=now_s + for_s,
        )
        signed = SignedConsent.of(consent, desk, CONSENT_CONTEXT)
        self.ask(lambda: self.server.hospital.consents.accept(signed))
        return consent_id

    def withdraw(self, consent_id: bytes) -> None:
        desk = identity("desk", "consent")
        signed = SignedWithdrawal.of(Withdrawal(consent_id=consent_id), desk, WITHDRAWAL_CONTEXT)
        self.ask(lambda: self.server.hospital.consents.withdraw(signed))

    def pump(self) -> None:
        super().pump()
        self.server.take()

    def revive(self) -> None:
        """Who lost power starts again, and loses it no more."""
        for party in (self.server, *self.sites.values()):
            if not party.up:
                party.cut = None
                party.start()

    def until(self, condition: Callable[[], bool], *, within_ms: int = 60_000, every_ms: int = 500) -> None:
        """Let the ward's own time pass until ``condition`` holds; whoever lost power is started again."""
        end_ms = self.now_ms + within_ms
        while not condition():
            assert self.now_ms < end_ms, "it did not come to that"
            self.advance(every_ms, every_ms=every_ms)
            self.revive()

    def restart(self, party: "TrueServer | TrueSite", cut: Cut) -> None:
        """Start ``party`` again, with power until ``cut``."""
        party.crash()
        party.cut = cut
        party.start()
        self.revive()

    def last_round(self) -> int:
        last = self.server.hospital.ledger.last()
        return 0 if last is None else last.number

    def settled(self, number: int) -> bool:
        record = self.server.hospital.ledger.find(number)
        return record is not None and record.state in ("done", "void")

    def opened(self, number: int) -> list:
        """Opened sums of a round."""
        return [record for record in self.server.hospital.ledger.sums(number) if record.state == SUMMED]

    def check_sums(self, number: int) -> int:
        """Every opened sum is that of the boards it names, none of them twice; return how many there are."""
        found = self.opened(number)
        for record in found:
            assert list(record.total) == self.expected(number, record.stream, list(record.boards))
        for stream in (STATISTICS, UPDATE):
            boards = [board for record in found if record.stream == stream for board in record.boards]
            assert len(boards) == len(set(boards)), f"a board is in two sums of round {number}"
        return len(found)
