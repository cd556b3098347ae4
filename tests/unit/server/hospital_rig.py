"""A hospital without sockets, and scripted gateways with boards, for tests: same bytes, a clock that is set by hand."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from qepa_server.config import ApiConfig, LearningConfig, PrivacyConfig, RoundsConfig, ServerConfig
from qepa_server.hospital import Hospital
from qepa_server.registry.models import signatures_used
from qepa_server.registry.signer import HssSigner
from qepa_server.store.database import Store
from qepa_server.store.vault import Vault
from qepa_uplink.audit import Head, countersign
from qepa_uplink.cells import Cell, assign_patients, draw_cells, round_seed
from qepa_uplink.enrolment import (
    CONSENT_CONTEXT,
    ENROLMENT_CONTEXT,
    REPLY_CONTEXT,
    WITHDRAWAL_CONTEXT,
    EnrolmentReply,
    EnrolmentRequest,
    SignedEnrolment,
    SignedReply,
    SignedWithdrawal,
    Withdrawal,
    cohort_info,
    enrolment_info,
)
from qepa_uplink.envelope import open_signed, parse, peek, sign
from qepa_uplink.identity import Identity, Root, verify_signature
from qepa_uplink.lighthe import SealedVector, add_all, mask
from qepa_uplink.messages import (
    Ack,
    AuditHead,
    AuditKept,
    BoardStatus,
    CareGrant,
    CareRevoke,
    Consent,
    Directory,
    Message,
    ModelRelease,
    Partial,
    Purpose,
    Ready,
    RoundOpen,
    RoundStart,
    SessionUnknown,
    SignedConsent,
    Status,
    StreamSpec,
    WaveWatch,
    Welcome,
)
from qepa_uplink.sealing import seal_to
from qepa_uplink.session import Session, is_sealed, offer, session_id
from qepa_wire import lms
from qepa_wire.keys import COHORT_CHECK, END_MASK, LINK_MASK, PAIR_MASK, derive
from qepa_wire.lighthe import seal
from qepa_wire.model import CONTEXT, decode_model, decode_release
from qepa_wire.payloads import StreamOrder, terms_key


@lru_cache(maxsize=1)
def certified(root_seed: bytes = b"") -> tuple[Root, dict[str, Identity]]:
    """The offline root and its certificates, made once for all tests."""
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

    root = Root(MLDSA65PrivateKey.generate())
    roles = {"server": "server", "dock": "dock", "desk": "consent", "releaser": "release"}
    roles |= {f"gw-{i}": "gateway" for i in range(1, 4)}
    return root, {name: root.issue(name, role) for name, role in roles.items()}  # type: ignore[arg-type]


@dataclass
class Board:
    """A board as far as the server can tell: its keys and what it would send."""

    number: int
    patient: str
    end_key: bytes = field(default_factory=lambda: os.urandom(32))
    link_key: bytes = field(default_factory=lambda: os.urandom(32))
    cohort_key: bytes = b""
    sealed: set[tuple[int, int]] = field(default_factory=set)

    def values(self, stream: int, n_words: int, round_: int) -> list[int]:
        """What it measures: known to the test alone."""
        if stream == 1:
            words = [0] * n_words
            hr = 60 + self.number % 40
            words[0], words[1], words[2], words[11] = 1, hr, hr * hr, 1
            return words
        return [(self.number * 37 + 11 * k + 5 * round_) % 401 - 200 for k in range(n_words)]

    def vector(self, spec: StreamSpec, opening: RoundOpen) -> bytes:
        """Seal its values; a test fails here if anybody makes it use a mask twice."""
        stream, round_ = spec.stream, opening.round
        assert (stream, round_) not in self.sealed, "a mask would be used twice"
        self.sealed.add((stream, round_))
        keys = [derive(self.link_key, LINK_MASK), derive(self.end_key, END_MASK)]
        order = StreamOrder(stream, spec.n_words, spec.bound, spec.q_max, spec.rounding, spec.noise_q8, spec.clip_norm)
        check = terms_key(derive(self.cohort_key, COHORT_CHECK), opening.model_version, opening.n_max, order)
        return seal(self.values(stream, spec.n_words, round_), keys, check, stream, round_)


class Gateway:
    """A scripted gateway: bytes in, bytes out through ``send``."""

    def __init__(
        self,
        identity: Identity,
        server: Identity,
        boards: list[Board],
        pair_keys: dict[frozenset[str], bytes],
        clock_ms: Callable[[], int],
        send: Callable[[bytes], None],
    ) -> None:
        self.identity, self.server, self.boards = identity, server, {b.number: b for b in boards}
        self.pair_keys, self.clock_ms, self.send = pair_keys, clock_ms, send
        self.number = 0
        self.session: Session | None = None
        self.welcome: Welcome | None = None
        self.directory: Directory | None = None
        self.opening: RoundOpen | None = None
        self.nonces: dict[int, Ready] = {}
        self.done: dict[int, list[Partial]] = {}
        self.spool: dict[str, Message] = {}
        self.releases: list[ModelRelease] = []
        self.grants: list[CareGrant] = []
        self.watches: list[WaveWatch] = []
        self.revoked: list[bytes] = []
        self.acked: list[str] = []
        self.model_version = 0
        self.model_root = b""
        self.silent = False
        self.frames_ms = 0
        self.heads: list[AuditHead] = []  # of the audit log; it countersigns the newest
        self.tamper: Callable[[Partial], Partial] = lambda partial: partial

    @property
    def name(self) -> str:
        return self.identity.name

    def connect(self) -> None:
        self.number += 1
        message, self.session = offer(self.identity, self.server.name, self.server.subject.seal_key, self.number)
        self.opened = sign(self.identity, message)
        self.send(self.opened)

    def status(self) -> None:
        if self.session is None:
            return
        now = self.clock_ms()
        boards = tuple(
            BoardStatus(
                board=n,
                online=True,
                last_seen_ms=now,
                epoch=1,
                key_source="qkd",
                pads=3,
                model_version=self.model_version,
            )
            for n in self.boards
        )
        self.send(self.session.seal(Status(now_ms=now, boards=boards, link=None, refused={}, spool=len(self.spool))))

    def seal(self, message: Message) -> None:
        assert self.session is not None
        self.send(self.session.seal(message))

    def keeps(self, head: Head) -> None:
        self.seal(AuditKept(seq=head.seq, hash=head.hash, signature=countersign(head, self.identity)))

    def resend(self) -> None:
        for message in list(self.spool.values()):
            self.send(sign(self.identity, message))

    def receive(self, data: bytes) -> None:  # noqa: PLR0912  # one branch a message
        if is_sealed(data):
            assert self.session is not None
            if session_id(data) != self.session.id:
                return  # of a session that is over: a gateway counts it and goes on
            message = self.session.open(data)
        else:
            message = open_signed(parse(data), self.server.subject.sign_key)
        match message:
            case Welcome():
                self.welcome = message
                self.status()
                self.resend()
            case Ack():
                self.acked += message.ids
                for done in message.ids:
                    self.spool.pop(done, None)
            case Directory():
                self.directory = message
            case SessionUnknown() if self.session is not None and message.session == self.session.id:
                self.connect()
            case RoundOpen() if not self.silent:
                self.on_open(message)
            case RoundStart() if not self.silent and message.round not in self.done:
                self.on_start(message)
            case AuditHead():
                self.heads.append(message)
                self.keeps(Head(message.seq, message.hash))
            case ModelRelease():
                self.on_release(message)
            case CareGrant():
                self.grants.append(message)
            case WaveWatch():
                self.watches.append(message)
            case CareRevoke():
                self.revoked.append(message.consent_id)

    def on_open(self, message: RoundOpen) -> None:
        self.opening = message
        if message.round not in self.nonces:
            self.nonces[message.round] = Ready(
                round=message.round,
                gateway=self.name,
                nonce=os.urandom(32),
                commitment=message.commitment,
                patients=len({b.patient for spec in message.streams for b in self.asked(spec.stream)}),
            )
        self.send(sign(self.identity, self.nonces[message.round]))

    def asked(self, stream: int) -> list[Board]:
        """Boards that are not barred from ``stream``."""
        barred = {each.board: each.barred for each in self.welcome.boards} if self.welcome else {}
        return [board for board in self.boards.values() if stream not in barred.get(board.number, ())]

    def cells(self, message: RoundStart) -> tuple[bytes, tuple[Cell, ...]]:
        assert self.opening is not None
        readies = [peek(parse(raw)) for raw in message.readies]
        nonces = {r.gateway: r.nonce for r in readies if isinstance(r, Ready)}
        patients = {r.gateway: r.patients for r in readies if isinstance(r, Ready)}
        seed = round_seed(message.round, message.server_nonce, nonces)
        return seed, draw_cells(seed, patients, min_group=self.opening.min_group, target=self.opening.cell_target)

    def on_start(self, message: RoundStart) -> None:
        assert self.opening is not None
        assert self.opening.round == message.round
        seed, cells = self.cells(message)
        asked = {b.patient for spec in self.opening.streams for b in self.asked(spec.stream)}
        where = assign_patients(seed, self.name, sorted(asked), cells)
        self.done[message.round] = []
        self.frames_ms = self.clock_ms()
        for cell in cells:
            if self.name not in cell.gateways:
                continue
            for spec in self.opening.streams:
                boards = [b for b in self.asked(spec.stream) if where[b.patient] == cell.id]
                partial = self.partial(self.opening, cell, spec, boards)
                self.done[message.round].append(partial)
                partial = self.tamper(partial)
                self.spool[partial.id] = partial
                self.send(sign(self.identity, partial))

    def partial(self, opening: RoundOpen, cell: Cell, spec: StreamSpec, boards: list[Board]) -> Partial:
        round_, stream, n_words = opening.round, spec.stream, spec.n_words
        vectors = []
        for board in boards:
            sealed = SealedVector.from_bytes(board.vector(spec, opening))
            vectors.append(
                sealed - mask(derive(board.link_key, LINK_MASK), stream=stream, round_=round_, n_words=n_words)
            )
        total = add_all(vectors, n_words)
        for other in cell.gateways:
            if other != self.name:
                key = derive(self.pair_keys[frozenset((self.name, other))], PAIR_MASK)
                pad = mask(key, stream=stream, round_=round_, n_words=n_words, cell=cell.id)
                total = total + pad if self.name < other else total - pad
        return Partial(
            id=f"p-{round_}-{cell.id}-{stream}",
            round=round_,
            cell=cell.id,
            stream=stream,
            gateway=self.name,
            contributors=tuple(sorted(b.number for b in boards)),
            patients=len({b.patient for b in boards}),
            n_words=n_words,
            sealed=total.to_bytes(),
            last_frame_ms=self.frames_ms,
        )

    def on_release(self, message: ModelRelease) -> None:
        blob, signature = decode_release(message.release)
        lms.verify(self.model_root, CONTEXT + blob, signature)
        model = decode_model(blob)
        if model.version > self.model_version:
            self.model_version = model.version
            self.releases.append(message)
            self.status()


def configuration(
    folder: Path,
    learning: LearningConfig | None = None,
    privacy: PrivacyConfig | None = None,
    **rounds: object,
) -> ServerConfig:
    """A configuration for tests."""
    settings: dict[str, object] = {
        "period_s": 1,
        "ready_within_s": 2,
        "collect_within_s": 3,
        "settle_within_s": 2,
        **rounds,
    }
    return ServerConfig(
        state_dir=folder,
        identity=folder / "id",
        root_key=folder / "root",
        api=ApiConfig(),
        rounds=RoundsConfig.model_validate(settings),
        learning=learning or LearningConfig(),
        privacy=privacy or PrivacyConfig(),
    )


_KEYS: dict[str, bytes] = {}


def signer_in(folder: Path, vault: Vault, store: Store) -> HssSigner:
    """A signer with a small tree (a large one takes seconds), or the one that is there."""
    path = folder / "model-signing.key"
    if path.exists():
        with store.read() as connection:
            return HssSigner.load(path, vault, public_key=_KEYS[str(path)], used_at_least=signatures_used(connection))
    signer = HssSigner.generate(path, vault, height=5)
    _KEYS[str(path)] = signer.public_key
    return signer


class Rig:
    """A hospital with gateways on a lossless in-memory broker and a clock set by hand."""

    def __init__(
        self,
        folder: Path,
        layout: dict[str, list[Board]],
        learning: LearningConfig | None = None,
        privacy: PrivacyConfig | None = None,
        **rounds: object,
    ) -> None:
        self.folder = folder
        self.now = 1_800_000_000_000
        self.root, self.identities = certified()
        self.config = configuration(folder, learning, privacy, **rounds)
        self.to_gateways: list[tuple[str, bytes]] = []
        self.to_server: list[tuple[str, bytes]] = []
        self.dead: set[str] = set()
        self.start()
        names = sorted(layout)
        pairs = {frozenset((a, b)): os.urandom(32) for a in names for b in names if a < b}
        self.gateways = {
            name: Gateway(
                self.identities[name],
                self.identities["server"],
                boards,
                pairs,
                lambda: self.now,
                lambda data, name=name: self.to_server.append((name, data)),
            )
            for name, boards in layout.items()
        }
        for name, boards in layout.items():
            for board in boards:
                self.enrol(board, name)

    def start(self) -> None:
        self.store = Store.open(self.folder)
        vault = Vault.open(self.folder / "kek", create=True)
        self.hospital = Hospital(
            config=self.config,
            store=self.store,
            vault=vault,
            signer=signer_in(self.folder, vault, self.store),
            identity=self.identities["server"],
            root_key=self.root.public_key,
            clock_ms=lambda: self.now,
            send=lambda gateway, data: self.to_gateways.append((gateway, data)),
        )

    def crash(self) -> None:
        """Forget everything that is not on disk, and start again."""
        self.to_gateways.clear()
        self.store.close()
        self.start()

    def request(self, board: Board, gateway: str, signer: str = "dock") -> SignedEnrolment:
        dock, server = self.identities[signer], self.identities["server"]
        sealed = seal_to(server.subject.seal_key, board.end_key, enrolment_info(board.number, board.patient, gateway))
        request = EnrolmentRequest(board=board.number, patient=board.patient, gateway=gateway, sealed_end_key=sealed)
        return SignedEnrolment.of(request, dock, ENROLMENT_CONTEXT)

    def enrol(self, board: Board, gateway: str) -> None:
        self.take_reply(board, gateway, self.hospital.enrolment.enrol(self.request(board, gateway)))

    def take_reply(self, board: Board, gateway: str, signed: SignedReply) -> None:
        verify_signature(self.identities["server"].subject.sign_key, signed.signature, signed.body, REPLY_CONTEXT)
        reply = EnrolmentReply.model_validate_json(signed.body)
        board.cohort_key = self.identities["dock"].unseal(reply.sealed_cohort_key, cohort_info(board.number))
        if gateway in self.gateways:
            self.gateways[gateway].model_root = reply.model_root

    def consent(
        self,
        board: Board,
        consent_id: bytes,
        *,
        begin_s: int = -10,
        end_s: int = 600,
        signer: str = "desk",
        purpose: Purpose = "care",
    ) -> SignedConsent:
        desk, now_s = self.identities[signer], self.now // 1000
        consent = Consent(
            consent_id=consent_id,
            patient=board.patient,
            purpose=purpose,
            boards=(board.number,),
            not_before_s=now_s + begin_s,
            not_after_s=now_s + end_s,
        )
        return SignedConsent.of(consent, desk, CONSENT_CONTEXT)

    def withdrawal(self, consent_id: bytes, signer: str = "desk") -> SignedWithdrawal:
        return SignedWithdrawal.of(Withdrawal(consent_id=consent_id), self.identities[signer], WITHDRAWAL_CONTEXT)

    def pump(self) -> None:
        """Deliver until nothing is under way."""
        while self.to_gateways or self.to_server:
            while self.to_gateways:
                name, data = self.to_gateways.pop(0)
                if name in self.gateways and name not in self.dead:
                    self.gateways[name].receive(data)
            while self.to_server:
                name, data = self.to_server.pop(0)
                if name not in self.dead:
                    self.hospital.receive(name, data)

    def connect(self) -> None:
        for gateway in self.gateways.values():
            gateway.connect()
        self.pump()

    def pass_time(self, seconds: float, step_ms: int = 500) -> None:
        """Let time pass: ticks, heartbeats and deliveries."""
        end = self.now + round(1000 * seconds)
        while self.now < end:
            self.now += step_ms
            for gateway in self.gateways.values():
                if gateway.name not in self.dead:
                    gateway.status()
                    gateway.resend()
            self.pump()
            self.hospital.tick()
            self.pump()

    def hospital_cells(self, number: int, stream: int) -> list[dict]:
        from qepa_server.api.state import StateView

        detail = StateView(self.hospital).round_detail(number)
        return [cell for cell in detail["cells"] if cell["stream"] == stream]

    def state(self) -> dict:
        from qepa_server.api.state import StateView

        return StateView(self.hospital).state()


def ward(gateways: int, each: int) -> dict[str, list[Board]]:
    """Boards of ``gateways`` gateways with ``each`` patients, one board a patient."""
    return {f"gw-{g}": [Board(100 * g + i, f"p-{g}-{i}") for i in range(1, each + 1)] for g in range(1, gateways + 1)}
