"""Gateways over real spools; boards, KME and server played by the test: same bytes, no sockets, a clock set by hand."""

import os
import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256

from qepa_gateway.core import Gateway, Trusted
from qepa_gateway.errors import SpoolError
from qepa_gateway.firmware import FIRMWARE_TERMS
from qepa_gateway.spool.database import Spool
from qepa_gateway.transport import Outgoing
from qepa_uplink import envelope, session
from qepa_uplink.enrolment import CONSENT_CONTEXT
from qepa_uplink.errors import UplinkError
from qepa_uplink.identity import Identity, Root
from qepa_uplink.lighthe import SealedVector, add_all, open_sum, sum_masks
from qepa_uplink.messages import (
    Ack,
    Adopted,
    AlertReport,
    CareGrant,
    CareRecord,
    CellVoid,
    Consent,
    Directory,
    Message,
    ModelRelease,
    Partial,
    Ready,
    RoundOpen,
    RoundStart,
    SessionOpen,
    SessionUnknown,
    SignedConsent,
    Status,
    StreamSpec,
    WaveRecord,
    Welcome,
)
from qepa_uplink.topics import to_gateway, to_server
from qepa_wire import frame, keys, measures, one_time, payloads
from qepa_wire.frame import Frame
from qepa_wire.lighthe import seal
from qepa_wire.model import Model, encode_model, encode_release
from qepa_wire.topics import board_up

STREAMS = ((1, 16), (2, 72))
COHORT = sha256(b"cohort").digest()
CHECK = keys.derive(COHORT, keys.COHORT_CHECK)


@lru_cache(maxsize=1)
def root() -> Root:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

    return Root(MLDSA65PrivateKey.generate())


@lru_cache(maxsize=32)
def identity(name: str, role: str) -> Identity:
    return root().issue(name, role)


class Kme:
    """Bob's KME: gives each key once."""

    def __init__(self) -> None:
        self.stock: dict[bytes, bytes] = {}
        self.down = False
        self.calls = 0

    def pad(self, size: int = 32) -> tuple[bytes, bytes]:
        key_id, key = os.urandom(16), os.urandom(size)
        self.stock[key_id] = key
        return key_id, key

    def fetch(self, key_id: bytes) -> bytes | str:
        self.calls += 1
        if self.down:
            return "kme_down"
        return self.stock.pop(key_id, None) or "key_unknown"


class VirtualBoard:
    """A board in CPython: epochs, numbered frames kept until acknowledged, vectors, care, one-time blocks."""

    def __init__(self, number: int, patient: str, gateway: str, kme: Kme) -> None:
        self.number, self.patient, self.gateway, self.kme = number, patient, gateway, kme
        self.end_key = sha256(b"end%d" % number).digest()
        self.epoch = self.seq = self.boots = self.down_seq = self.steps = self.model = 0
        self.key_id, self.link = b"", b""
        self.outbox: dict[int, bytes] = {}
        self.sealed: dict[tuple[int, int], list[int]] = {}
        self.values: Callable[[int, int, int], list[int]] = self._values
        self.received: list[tuple[int, bytes]] = []
        self.care_key: bytes | None = None
        self.consent_id = b""
        self.labels: list[payloads.Label] = []
        self.measures: tuple[tuple[int, int, int], ...] = ()
        self.on = False
        self.deaf_to_rounds = False
        self.blocks: dict[bytes, bytes] = {}
        self.offsets: dict[bytes, int] = {}
        self.held: dict[bytes, int] = {}
        self.one_time = False  # vectors under one-time pads
        self.reset_cause, self.mode, self.firmware = 1, 0, 1
        self.take_firmware: Callable[[Frame], None] = lambda _frame: None
        self.pads_left = 5
        self.rekey_ages: tuple[int, ...] | None = None  # what REKEY told it

    def _values(self, round_: int, stream: int, n_words: int) -> list[int]:
        return [((self.number * 7919 + round_ * 31 + stream * 17 + j * 13) % 2001) - 1000 for j in range(n_words)]

    def boot(self, *, pad: bool = True) -> bytes:
        self.on = True
        self.boots += 1
        self.care_key = None
        return self.rekey(pad=pad)

    def rekey(self, *, pad: bool = True) -> bytes:
        if pad:
            self.key_id, self.link = self.kme.pad()
            self.steps = 0
        else:
            self.link, self.steps = keys.ratchet(self.link, 1), self.steps + 1
        self.epoch += 1
        self.down_seq = 0
        return self.hello()

    def derive(self, label: bytes) -> bytes:
        return keys.derive(self.link, label)

    def hello(self) -> bytes:
        state = (self.boots, self.model, self.pads_left, self.firmware, 900, self.reset_cause, self.mode)
        record = payloads.Hello(self.key_id, self.steps, *state)
        return self.frame(frame.HELLO, payloads.encode_hello(record), keep=True)

    def frame(self, type_: int, payload: bytes, *, keep: bool = False) -> bytes:
        self.seq += 1
        data = frame.encode(type_, self.number, self.epoch, self.seq, payload, self.derive(keys.LINK_MAC_UP))
        if keep:
            self.outbox[self.seq] = data
        return data

    def load_block(self, size: int = 1024) -> bytes:
        """The dock gave it a block: its key_ID."""
        key_id, self.blocks[key_id] = self.kme.pad(size)
        self.offsets[key_id] = 0
        return key_id

    def pads(self) -> bytes:
        return self.frame(frame.PADS, payloads.encode_pads(list(self.blocks)))

    def take(self, key_id: bytes, n_bytes: int) -> one_time.OneTime:
        offset = self.offsets[key_id]
        self.offsets[key_id] = offset + 32 + n_bytes
        return one_time.split(key_id, offset, self.blocks[key_id][offset : offset + 32 + n_bytes])

    def masked(self, type_: int, body: bytes, used: one_time.OneTime) -> bytes:
        self.seq += 1
        mac_key = self.derive(keys.LINK_MAC_UP)
        data = one_time.encode_one_time(type_, self.number, self.epoch, self.seq, body, used, mac_key)
        self.outbox[self.seq] = data
        return data

    def masked_alert(self, key_id: bytes, kind: int = 1, active: int = 1, value: int = 0) -> bytes:
        used = self.take(key_id, 10)
        alert = payloads.Alert(1000, self.boots, kind, active, value)
        return self.masked(frame.ALERT, one_time.mask_alert(used.pad, alert), used)

    def alert(self, kind: int = 1, active: int = 1) -> bytes:
        alert = payloads.Alert(1000, self.boots, kind, active, 0)
        payload = payloads.encode_alert(self.derive(keys.LINK_ALERT), self.seq + 1, alert)
        return self.frame(frame.ALERT, payload, keep=True)

    def care(self, hr_bpm: int = 72) -> bytes:
        heart_rate = (measures.HEART_RATE, 95, hr_bpm)
        record = payloads.Care(5000, self.boots, 0, 0, 12, self.model, (heart_rate, *self.measures))
        payload = payloads.encode_care(self.care_key, self.consent_id, self.number, self.seq + 1, record)
        return self.frame(frame.CARE, payload)

    def vector(self, round_: int, stream: int, n_words: int, *, model: int | None = None) -> bytes:
        values = self.values(round_, stream, n_words)
        self.sealed[round_, stream] = values
        end_mask = keys.derive(self.end_key, keys.END_MASK)
        version = self.model if model is None else model
        if self.one_time:
            used = self.take(next(iter(self.held)), 4 * n_words + 16)
            sealed = seal(values, [end_mask], CHECK, stream, round_, [used.pad])
            return self.masked(frame.VECTOR, payloads.encode_vector(round_, stream, version, sealed), used)
        sealed = seal(values, [self.derive(keys.LINK_MASK), end_mask], CHECK, stream, round_)
        return self.frame(frame.VECTOR, payloads.encode_vector(round_, stream, version, sealed), keep=True)

    def receive(self, data: bytes) -> None:
        if not self.on:
            return
        parsed = frame.parse(data, frame.DOWN_TYPES)
        if parsed.epoch != self.epoch:
            return
        frame.authenticate(data, self.derive(keys.LINK_MAC_DOWN))
        if parsed.seq <= self.down_seq:
            return
        self.down_seq = parsed.seq
        self.received.append((parsed.type, parsed.payload))
        self._obey(parsed)

    def _obey(self, parsed: Frame) -> None:
        if parsed.type == frame.ACK:
            for seq in payloads.decode_ack(parsed.payload):
                self.outbox.pop(seq, None)
        elif parsed.type == frame.ROUND and not self.deaf_to_rounds:
            order = payloads.decode_round(parsed.payload)
            for item in order.streams:
                if (order.round, item.stream) not in self.sealed and (item.stream == 1 or order.model == self.model):
                    self.vector(order.round, item.stream, item.n_words)
        elif parsed.type == frame.PADS_HELD:
            self.held = dict(payloads.decode_held(parsed.payload))
        elif parsed.type == frame.MODEL:
            self.take_model(parsed.payload)
        elif parsed.type in (frame.FIRMWARE_OFFER, frame.FIRMWARE_PIECE):
            self.take_firmware(parsed)
        elif parsed.type == frame.REKEY:
            self.rekey_ages = payloads.decode_rekey(parsed.payload)
        else:
            self._receive_care(parsed)

    def take_model(self, release: bytes) -> None:
        self.model = int.from_bytes(release[6:10], "little")
        self.hello()

    def _receive_care(self, parsed: Frame) -> None:
        if parsed.type == frame.CARE_GRANT:
            consent_id = payloads.grant_consent(parsed.payload)
            key = keys.care_key(self.end_key, consent_id)
            payloads.decode_grant(key, self.number, parsed.payload)
            self.consent_id, self.care_key = consent_id, key
        elif parsed.type == frame.CARE_REVOKE:
            if payloads.decode_revoke(parsed.payload) == self.consent_id:
                self.care_key = None
        elif parsed.type == frame.LABELS:
            self.labels += payloads.decode_labels(self.care_key, self.number, parsed.seq, parsed.payload)


class Server:
    """The server's side, scripted: answers sessions, stores and acknowledges, opens sums."""

    def __init__(self, rig: "Rig") -> None:
        self.rig = rig
        self.identity = identity("server", "server")
        self.sessions: dict[str, session.Session] = {}
        self.numbers: dict[str, int] = {}
        self.readies: dict[int, dict[str, bytes]] = {}
        self.partials: dict[str, bytes] = {}
        self.decided: dict[tuple[int, int, int, str], Partial | CellVoid] = {}
        self.submitted_bytes: dict[str, set[bytes]] = {}
        self.alerts: dict[str, AlertReport] = {}
        self.care: list[CareRecord] = []
        self.waves: list[WaveRecord] = []
        self.status: dict[str, Status] = {}
        self.nonces: dict[int, bytes] = {}
        self.acknowledge = True
        self.barred: dict[int, tuple[int, ...]] = {}
        self.refused: Counter[str] = Counter()

    def send(self, gateway: str, message: Message) -> None:
        self.rig.deliver(Outgoing(to_gateway(gateway), envelope.sign(self.identity, message)))

    def send_sealed(self, gateway: str, message: Message) -> None:
        self.rig.deliver(Outgoing(to_gateway(gateway), self.sessions[gateway].seal(message)))

    def broadcast(self, message: Message) -> None:
        data = envelope.sign(self.identity, message)
        for gateway in self.rig.sites:
            self.rig.deliver(Outgoing(to_gateway(gateway), data))

    def welcome(self, gateway: str) -> None:
        boards = tuple(
            Adopted(board=board.number, patient=board.patient, barred=self.barred.get(board.number, ()))
            for board in self.rig.boards.values()
            if board.gateway == gateway
        )
        self.send_sealed(gateway, Welcome(boards=boards))

    def directory(self) -> Directory:
        return Directory(certificates=tuple(identity(name, "gateway").certificate for name in self.rig.sites))

    def receive(self, gateway: str, data: bytes) -> None:
        try:
            self._take(gateway, data)
        except UplinkError as error:
            self.refused[error.reason] += 1

    def _take(self, gateway: str, data: bytes) -> None:
        if session.is_sealed(data):
            held = self.sessions.get(gateway)
            if held is None or session.session_id(data) != held.id:
                self.send(gateway, SessionUnknown(session=session.session_id(data)))
                return
            self._take_sealed(gateway, held.open(data))
            return
        parsed = envelope.parse(data)
        message = envelope.open_signed(parsed, identity(gateway, "gateway").subject.sign_key)
        if isinstance(message, SessionOpen):
            last = self.numbers.get(gateway, 0)
            if message.number < last or (message.number == last and gateway not in self.sessions):
                return
            if message.number > last:  # else it is welcomed once more
                self.numbers[gateway] = message.number
                self.sessions[gateway] = session.accept(self.identity, gateway, message)
            self.welcome(gateway)
            self.send(gateway, self.directory())
        elif isinstance(message, Ready):
            self.readies.setdefault(message.round, {})[gateway] = data
        elif isinstance(message, Partial | CellVoid):
            self.submitted_bytes.setdefault(message.id, set()).add(data)
            self.decided[message.round, message.cell, message.stream, gateway] = message
            if self.acknowledge and gateway in self.sessions:
                self.send_sealed(gateway, Ack(ids=(message.id,)))

    def _take_sealed(self, gateway: str, message: Message) -> None:
        if isinstance(message, AlertReport):
            self.alerts[message.id] = message
            if self.acknowledge:
                self.send_sealed(gateway, Ack(ids=(message.id,)))
        elif isinstance(message, Status):
            self.status[gateway] = message
        elif isinstance(message, CareRecord):
            self.care.append(message)
        elif isinstance(message, WaveRecord):
            self.waves.append(message)

    def round_open(self, number: int, **changes: object) -> RoundOpen:
        nonce = self.nonces.setdefault(number, os.urandom(32))
        fields: dict[str, object] = {
            "round": number,
            "commitment": sha256(nonce).digest(),
            "model_version": 0,
            "streams": tuple(
                StreamSpec(stream=stream, n_words=n, bound=1000, q_max=1000, rounding=0) for stream, n in STREAMS
            ),
            "n_max": 64,
            "min_group": 10,
            "cell_target": 12,
            "ready_within_ms": 2000,
            "collect_within_ms": 10_000,
            "settle_within_ms": 5000,
        }
        return RoundOpen.model_validate(fields | changes)

    def round_start(self, number: int) -> RoundStart:
        readies = self.readies.get(number, {})
        return RoundStart(
            round=number, server_nonce=self.nonces[number], readies=tuple(readies[name] for name in sorted(readies))
        )

    def release(self, version: int) -> ModelRelease:
        blob = encode_model(Model(version, 1, 17, 0, 4, 8, [0] * 72))
        return ModelRelease(version=version, round=1, release=encode_release(blob, b"signature"))

    def partials_of(self, number: int, stream: int) -> list[Partial]:
        return [
            message
            for (round_, _, stream_, _), message in sorted(self.decided.items())
            if (round_, stream_) == (number, stream) and isinstance(message, Partial)
        ]

    def open(self, partials: list[Partial]) -> list[int]:
        """Open the sum of ``partials``; raises UplinkError("check") if it does not open."""
        first = partials[0]
        total = add_all([SealedVector.from_bytes(each.sealed) for each in partials], first.n_words)
        ends = [
            keys.derive(self.rig.boards[board].end_key, keys.END_MASK)
            for each in partials
            for board in each.contributors
        ]
        masks = sum_masks(ends, stream=first.stream, round_=first.round, n_words=first.n_words)
        opened = open_sum(total - masks, CHECK, stream=first.stream, round_=first.round)
        return [int(word) for word in opened]

    def opens(self, partials: list[Partial]) -> bool:
        try:
            self.open(partials)
        except UplinkError as error:
            if error.reason != "check":
                raise
            return False
        return True

    def grant(self, board: VirtualBoard, *, desk: str = "desk", role: str = "consent", **changes: object) -> CareGrant:
        now_s = self.rig.now_ms // 1000
        fields: dict[str, object] = {
            "consent_id": sha256(b"consent%d" % board.number).digest()[:16],
            "patient": board.patient,
            "boards": (board.number,),
            "not_before_s": now_s - 10,
            "not_after_s": now_s + 3600,
        }
        consent = Consent.model_validate(fields | changes)
        signed = SignedConsent.of(consent, identity(desk, role), CONSENT_CONTEXT)
        key = keys.care_key(board.end_key, consent.consent_id)
        return CareGrant(consent=signed, board=board.number, care_key=key)


class Site:
    """One gateway with its state directory; ``crash`` leaves the directory as kill -9 would."""

    def __init__(self, rig: "Rig", name: str) -> None:
        self.rig, self.name = rig, name
        self.directory = rig.directory / name
        self.spool: Spool
        self.gateway: Gateway
        self.up = False
        self.start()

    def start(self) -> None:
        trusted = Trusted(identity(self.name, "gateway"), root().public_key, identity("server", "server").subject)
        self.spool = Spool.open(self.directory)
        self.gateway = Gateway(
            trusted,
            self.spool,
            lambda: self.rig.now_ms,
            min_group=self.rig.min_group,
            firmware_root=self.rig.firmware_root,
            firmware_terms=self.rig.firmware_terms,
        )
        self.up = True

    def crash(self) -> None:
        self.up = False
        self.spool.close()  # rolls an open transaction back, as the next opening after kill -9 does

    @property
    def refused(self) -> dict[str, int]:
        return self.gateway.refusals.snapshot()

    def step(self) -> None:
        if not self.up:
            return
        try:
            self.gateway.step()
        except SpoolError:
            self.crash()
            return
        for message in self.gateway.drain():
            self.rig.deliver(message)
        for key_id in self.gateway.take_key_requests():
            found = self.rig.kme.fetch(key_id)
            if isinstance(found, str):
                self.gateway.key_failed(key_id, found)
            else:
                self.gateway.key_arrived(key_id, found)


class Rig:
    """A ward: ``sites`` by name, ``boards`` by number, one ``server``; ``lose`` tells what the broker drops."""

    firmware_root: bytes | None = None  # whose firmware the gateways hand on
    firmware_terms = FIRMWARE_TERMS

    def __init__(self, directory, *, gateways: int = 1, patients: int = 12, min_group: int = 10) -> None:
        self.directory = directory
        self.now_ms = 1_700_000_000_000
        self.min_group = min_group
        self.kme = Kme()
        self.queue: list[Outgoing] = []
        self.lose: Callable[[Outgoing], bool] = lambda _message: False
        self.sites: dict[str, Site] = {}
        self.boards: dict[int, VirtualBoard] = {}
        self.server = Server(self)
        names = [f"gw-{i + 1}" for i in range(gateways)]
        for i in range(patients):
            number = i + 1
            self.boards[number] = VirtualBoard(number, f"p-{number}", names[i * gateways // patients], self.kme)
        for name in names:
            self.sites[name] = Site(self, name)

    @property
    def site(self) -> Site:
        return self.sites["gw-1"]

    def deliver(self, message: Outgoing) -> None:
        if not self.lose(message):
            self.queue.append(message)

    def up(self, board: VirtualBoard, data: bytes, *, topic: str | None = None) -> None:
        """A board publishes ``data``."""
        self.deliver(Outgoing(topic or board_up(board.gateway, board.number), data))

    def flush(self, *, resend: bool = True) -> None:
        """Boards publish what is unacknowledged."""
        for board in self.boards.values():
            if board.on and resend:
                for seq in sorted(board.outbox):
                    self.up(board, board.outbox[seq])

    def settle(self, rounds: int = 12) -> None:
        """Carry messages until nothing moves."""
        for _ in range(rounds):
            self.flush()
            self.pump()

    def pump(self) -> None:
        queue, self.queue = self.queue, []
        for message in queue:
            self._hand_over(message)
        for site in list(self.sites.values()):
            site.step()

    def _hand_over(self, message: Outgoing) -> None:
        for name, site in self.sites.items():
            if message.topic == to_server(name):
                self.server.receive(name, message.payload)
            elif site.up and re.fullmatch(f"qepa/1/(gateway/{name}|board/{name}/.*/up)", message.topic):
                site.gateway.receive(message.topic, message.payload)
        for board in self.boards.values():
            if message.topic == f"qepa/1/board/{board.gateway}/{board.number:08x}/down":
                board.receive(message.payload)

    def advance(self, ms: int, *, every_ms: int = 500) -> None:
        """Let time pass, carrying messages."""
        until_ms = self.now_ms + ms
        while self.now_ms < until_ms:
            self.now_ms = min(until_ms, self.now_ms + every_ms)
            self.settle(3)

    def begin(self) -> "Rig":
        """Sessions open, all boards booted."""
        self.settle(6)
        for board in self.boards.values():
            board.boot()
        self.settle(6)
        return self

    def open_round(self, number: int, **changes: object) -> None:
        self.server.broadcast(self.server.round_open(number, **changes))
        self.settle(3)

    def start_round(self, number: int) -> None:
        self.server.broadcast(self.server.round_start(number))
        self.settle(6)

    def run_round(self, number: int, **changes: object) -> None:
        self.open_round(number, **changes)
        self.start_round(number)
        self.advance(4000)

    def expected(self, number: int, stream: int, boards: list[int] | None = None) -> list[int]:
        """The plain sum, which only the test knows."""
        chosen = boards if boards is not None else [n for n, b in self.boards.items() if (number, stream) in b.sealed]
        return [sum(column) for column in zip(*(self.boards[n].sealed[number, stream] for n in chosen), strict=True)]
