"""The gateway without sockets: arrivals in, outgoing messages and key requests out, everything durable in between.

The caller hands in what arrives, then calls :meth:`Gateway.step`, then publishes :meth:`Gateway.drain`. Nothing is
drained before the transaction that it was made in is committed. A SpoolError ends the gateway: the state in memory
may be ahead of the disk, so the process starts again from the spool.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from qepa_uplink.identity import Identity, Subject
from qepa_uplink.messages import (
    AuditHead,
    BedsideRelease,
    BoardStatus,
    FirmwareRelease,
    LinkStatus,
    ModelRelease,
    Status,
    Welcome,
)
from qepa_uplink.topics import to_gateway
from qepa_wire.frame import ALERT, CARE, FIRMWARE_WANT, PADS, VECTOR, WAVE, Frame
from qepa_wire.payloads import BATTERY_UNKNOWN, MODES, NO_REKEY, RESET_CAUSES

from .aggregation import Aggregation
from .alerts import Alerts
from .audit_heads import AuditHeads
from .bedside_models import BedsideModels
from .boards import Board, Boards
from .care import CareStreams
from .domain.keyring import EpochKeys
from .domain.rollout import DEFAULT_TERMS, Terms
from .domain.storage import DEFAULT_LIMITS, Limits, Room, refusal, room
from .errors import Refused
from .firmware import FIRMWARE_TERMS, Firmware
from .inference.activity import ActivityReader
from .inference.ecg import EcgReader
from .inference.glucose import GlucoseReader
from .inference.service import Inference
from .inference.shelf import ModelShelf
from .intake import Intake
from .models import Models
from .one_time import OneTimeBlocks
from .pairs import PairKeys
from .refusals import Refusals
from .rekeying import BETWEEN_DOCKS_S, Rekeying
from .server_link import ServerLink
from .spool.blocks import BlockStore
from .spool.boards import BoardStore
from .spool.database import Spool
from .spool.trust import TrustStore
from .transport import Clock, Outgoing
from .waves import WaveStreams

_LOG = logging.getLogger(__name__)
STATUS_EVERY_MS = 2000
ROOM_EVERY_MS = 1000
EXPECTED_MS = 3_600_000
STREAM_EVERY_MS = 5000
MAX_QUEUED, MAX_QUEUED_BYTES = 20_000, 64 << 20


@dataclass(frozen=True, slots=True)
class Trusted:
    """Who the gateway is and whom it trusts; ``server`` is certified by the root."""

    identity: Identity
    root_key: bytes
    server: Subject


class Gateway:
    """One gateway over one spool. Not thread-safe: one event loop calls it."""

    def __init__(
        self,
        trusted: Trusted,
        spool: Spool,
        clock: Clock,
        *,
        min_group: int,
        between_docks_s: int = BETWEEN_DOCKS_S,
        limits: Limits = DEFAULT_LIMITS,
        model_terms: Terms = DEFAULT_TERMS,
        firmware_root: bytes | None = None,
        firmware_terms: Terms = FIRMWARE_TERMS,
        firmware_at_once: int = 2,
        shelf: ModelShelf | None = None,
    ) -> None:
        """``shelf``: models for the care stream; without it there is no inference and no board is asked for waves."""
        self.name = trusted.identity.name
        self.refusals = Refusals()
        self.optical_link: LinkStatus | None = None
        self._spool = spool
        self._clock = clock
        self._out: list[Outgoing] = []
        self._frames: list[tuple[str, bytes]] = []
        self._messages: list[bytes] = []
        self._queued_bytes = 0
        self._keys: list[tuple[bytes, bytes]] = []
        self._status_at_ms = 0
        self._limits = limits
        self._room_at_ms = -ROOM_EVERY_MS
        self.room = Room.AMPLE
        store = BoardStore(spool)
        self.boards = Boards(store, self.name, self._out.append, clock)
        self.link = ServerLink(
            trusted.identity,
            trusted.server,
            trusted.root_key,
            spool,
            self._out.append,
            self.refusals,
            clock,
            most_results=limits.most_results,
        )
        self.models = Models(spool, self.boards, clock, model_terms, speaks=self._speaks)
        self.firmware = Firmware(spool, self.boards, clock, firmware_terms, firmware_root, at_once=firmware_at_once)
        self.rekeying = Rekeying(self.boards, clock, between_docks_s=between_docks_s)
        pairs = PairKeys(self.link, TrustStore(spool), clock)
        self.rounds = Aggregation(spool, self.boards, self.link, pairs, self.models, clock, min_group=min_group)
        self.care = CareStreams(spool, self.boards, self.link, self.models, clock)
        self.waves = WaveStreams(self.boards, self.care, self.link, clock, wanted=shelf is not None)
        self.lacks_runtime = False  # though inference is wanted
        self.inference = None if shelf is None else Inference(self.care, self.link, shelf, clock)
        if self.inference is not None:
            of = self.inference.shelf, self.inference.errors
            glucose = GlucoseReader(*of, clock)
            self.care.on_care.append(glucose.take)
            beats = EcgReader(self.waves, *of, self.inference.explain)
            self.inference.add([beats, ActivityReader(self.waves, *of), glucose])
        errors = Counter[str]() if self.inference is None else self.inference.errors
        self.bedside_models = BedsideModels(spool, shelf, errors)
        self.audit = AuditHeads(spool, self.link, trusted.server.sign_key)
        self.alerts = Alerts(spool, self.link, clock)
        self.one_time = OneTimeBlocks(BlockStore(spool), store, self.boards, self.refusals)
        self.intake = Intake(self.boards, store, self.name, self.refusals, clock, self._greet, self.one_time.open)
        self.intake.refusal = self._refusal
        self.intake.handlers = {
            VECTOR: self.rounds.take_vector,
            CARE: self.care.take,
            ALERT: self.alerts.take,
            PADS: self.one_time.take_pads,
            FIRMWARE_WANT: self.firmware.take_want,
            WAVE: self.waves.take,
        }
        self.link.handlers[Welcome] = self._take_welcome
        self.link.handlers[AuditHead] = self.audit.take
        self.link.handlers[ModelRelease] = self.models.take
        self.link.handlers[BedsideRelease] = self.bedside_models.take
        self.link.handlers[FirmwareRelease] = self.firmware.take
        self._own_topic = to_gateway(self.name)

    def receive(self, topic: str, data: bytes) -> None:
        """Queue one message of the broker; :meth:`step` takes it. What a flood brings beyond a limit is dropped."""
        size = self._queued_bytes + len(data)
        if len(self._frames) + len(self._messages) >= MAX_QUEUED or size > MAX_QUEUED_BYTES:
            self.refusals.count("overload", "broker")
            return
        self._queued_bytes = size
        if topic == self._own_topic:
            self._messages.append(data)
        else:
            self._frames.append((topic, data))

    def key_arrived(self, key_id: bytes, key: bytes) -> None:
        """Queue a pad or one-time block that the KME delivered."""
        self._keys.append((key_id, key))

    def key_failed(self, key_id: bytes, reason: str) -> None:
        """A pad cannot be had now; ``reason`` is a counter's label."""
        self.intake.key_failed(key_id, reason)
        with self._spool.transaction():
            self.one_time.key_failed(key_id, reason)

    def save_keys(self) -> None:
        """Store pads that came and were not taken yet: the KME does not give them twice. For the way out."""
        keys, self._keys = self._keys, []
        with self._spool.transaction():
            for key_id, key in keys:
                self._take_key(key_id, key)

    def _take_key(self, key_id: bytes, key: bytes) -> None:
        self.intake.key_arrived(key_id, key)
        self.one_time.key_arrived(key_id)

    def step(self) -> None:
        """Take all that is queued and do what is due, in one transaction: a commit costs more. Raises SpoolError."""
        self._measure_room()
        with self._spool.transaction():
            self._take_queued()
            self._do_what_is_due()
        if self.inference is not None:
            self.inference.tick()

    def _take_queued(self) -> None:
        keys, self._keys = self._keys, []
        frames, self._frames = self._frames, []
        messages, self._messages = self._messages, []
        self._queued_bytes = 0
        for key_id, key in keys:
            self._take_key(key_id, key)
        self.intake.take_batch(frames)
        for message in messages:
            self.link.receive(message)

    def _do_what_is_due(self) -> None:
        self.rekeying.advised_s = None if self.optical_link is None else self.optical_link.rekey_s
        self.rekeying.tick()
        self.models.tick()
        self.firmware.tick()
        self.rounds.tick()
        self.care.tick()
        self.waves.tick()
        self.link.tick()
        self._report_status()

    def drain(self) -> list[Outgoing]:
        """Return what is to be published now, in this order."""
        out = list(self._out)
        self._out.clear()  # the same list object is what the parts append to
        return out

    def take_key_requests(self) -> Sequence[bytes]:
        """Return key_IDs to be fetched from the KME now; answer with :meth:`key_arrived` or :meth:`key_failed`."""
        wanted = [*self.intake.key_requests, *self.one_time.key_requests]
        self.intake.key_requests, self.one_time.key_requests = [], []
        return wanted

    def expected_every_ms(self) -> int | None:
        """The longest time between two frames of all boards together that is usual now; None if none need come.

        Boards that were heard within the hour are expected: to stream under a consent, to rekey when they are told to.
        """
        now_ms = self._clock()
        every = [
            self._every_ms(board)
            for board in self.boards.served()
            if not board.exhausted and abs(now_ms - board.row.last_seen_ms) < EXPECTED_MS
        ]
        return min((ms for ms in every if ms is not None), default=None)

    def _every_ms(self, board: Board) -> int | None:
        told = self.rekeying.schedule_of(board.number)
        if self.care.has_consent(board.number):
            return STREAM_EVERY_MS
        return 1000 * told.step_s if told is not None and told.step_s != NO_REKEY else None

    def _speaks(self, board: Board) -> bool:
        return self._every_ms(board) is not None

    def _measure_room(self) -> None:
        now_ms = self._clock()
        if 0 <= now_ms - self._room_at_ms < ROOM_EVERY_MS:
            return
        self._room_at_ms, before = now_ms, self.room
        self.room = room(self._spool.free_bytes(), self._limits)
        if self.room < before:
            _LOG.error("the disk is nearly full room=%s", self.room.name.lower())

    def _refusal(self, type_: int) -> str | None:
        return refusal(type_, self.room, self.link.outbox.alerts() if type_ == ALERT else 0, self._limits)

    def status(self) -> Status:
        """The heartbeat."""
        now_ms = self._clock()
        left = self.one_time.left()
        return Status(
            now_ms=now_ms,
            boards=tuple(
                self._board_status(board, now_ms, left.get(board.number, 0)) for board in self.boards.served()
            ),
            link=self.optical_link,
            refused=self.refusals.snapshot(),
            spool=len(self.link.outbox),
            audit=self.audit.refused,
            model=self.models.status(),
            firmware=self.firmware.status(),
            bedside=self.bedside_models.status(),
        )

    def _board_status(self, board: Board, now_ms: int, pad_bytes: int) -> BoardStatus:
        battery = board.row.battery_permille
        return BoardStatus.model_validate(
            {
                "board": board.number,
                "online": board.is_online(now_ms),
                "last_seen_ms": board.row.last_seen_ms,
                "epoch": board.ring.highest,
                "key_source": board.key_source,
                "pads": board.row.pads,
                "model_version": board.row.model,
                "battery_permille": None if battery == BATTERY_UNKNOWN else battery,
                "reset_cause": RESET_CAUSES[board.row.reset_cause],
                "mode": MODES[board.row.mode],
                "pad_bytes": pad_bytes,
                "firmware": board.row.firmware,
            }
        )

    def _report_status(self) -> None:
        now_ms = self._clock()
        if self.link.welcomed and not 0 <= now_ms - self._status_at_ms < STATUS_EVERY_MS:
            self._status_at_ms = now_ms
            self.link.send_sealed(self.status())

    def _greet(self, board: Board, _keys: EpochKeys, _frame: Frame) -> None:
        self.rekeying.greet(board)
        self.models.push(board)
        self.firmware.greet(board)
        self.rounds.greet(board)
        self.care.greet(board)

    def _take_welcome(self, message: Welcome, _sender: str) -> None:
        adopted = {each.board: each.patient for each in message.boards}
        if len(adopted) != len(message.boards):
            raise Refused("welcome", "a board is adopted twice")
        with self._spool.transaction():
            for number in self.boards.adopt(adopted):
                self.care.forget(number)
                self.alerts.forget(number)
            self.boards.bar({each.board: each.barred for each in message.boards})
