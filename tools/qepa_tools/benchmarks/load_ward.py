"""What loads a gateway in its benchmark: boards that send frames made ahead, and as much of a server as they need."""

import asyncio
import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from qepa_gateway.spool.boards import BoardStore
from qepa_gateway.spool.database import Spool
from qepa_uplink import envelope, session
from qepa_uplink.enrolment import CONSENT_CONTEXT
from qepa_uplink.identity import Identity
from qepa_uplink.lighthe import seal_values
from qepa_uplink.messages import (
    Ack,
    Adopted,
    CareGrant,
    CellVoid,
    Consent,
    Directory,
    Message,
    Partial,
    Ready,
    RoundOpen,
    RoundStart,
    SessionOpen,
    SignedConsent,
    StreamSpec,
    Welcome,
)
from qepa_uplink.topics import to_gateway
from qepa_wire import frame, keys, measures, payloads
from qepa_wire.topics import board_up

GATEWAY = "gw-1"
STREAMS = ((1, 48), (2, 240))
_PER_PATIENT = 8
_MIN_GROUP, _CELL_TARGET = 5, 6
_PATIENCE_S = 120.0


class LoadBoard:
    """One board: its keys and its counter. All frames are of its first epoch."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.patient = f"p-{number // _PER_PATIENT}"
        self.topic = board_up(GATEWAY, number)
        self.key_id, self.link, self.end_key = os.urandom(16), os.urandom(32), os.urandom(32)
        self.seq = 0
        self.consent_id = sha256(b"consent%d" % number).digest()[:16]
        self._mac = keys.derive(self.link, keys.LINK_MAC_UP)
        self._masks = [keys.derive(self.link, keys.LINK_MASK), keys.derive(self.end_key, keys.END_MASK)]
        self.care_key = keys.care_key(self.end_key, self.consent_id)

    def _frame(self, type_: int, payload: bytes) -> bytes:
        self.seq += 1
        return frame.encode(type_, self.number, 1, self.seq, payload, self._mac)

    def hello(self) -> bytes:
        """The first frame."""
        return self._frame(frame.HELLO, payloads.encode_hello(payloads.Hello(self.key_id, 0, 1, 0, 5, 1, 900, 1, 0)))

    def care(self) -> bytes:
        """A care record with three measures."""
        values = ((measures.HEART_RATE, 95, 72), (measures.SPO2, 95, 970), (measures.RESP_RATE, 90, 150))
        record = payloads.Care(5000, 1, 0, 0, 12, 0, values)
        payload = payloads.encode_care(self.care_key, self.consent_id, self.number, self.seq + 1, record)
        return self._frame(frame.CARE, payload)

    def vector(self, round_: int, stream: int, n_words: int, check_key: bytes) -> bytes:
        """A sealed vector of a round."""
        values = [(self.number + word) % 100 for word in range(n_words)]
        sealed = seal_values(values, self._masks, check_key, stream=stream, round_=round_).to_bytes()
        return self._frame(frame.VECTOR, payloads.encode_vector(round_, stream, 0, sealed))


def stock(state_dir: Path, boards: list[LoadBoard]) -> None:
    """Put the boards' pads into the gateway's spool, as if its KME had delivered them."""
    spool = Spool.open(state_dir)
    store = BoardStore(spool)
    with spool.transaction():
        for board in boards:
            store.save_fetched(board.key_id, board.link)
    spool.close()


class LoadServer:
    """Adopts boards, grants care, runs rounds; counts what else comes. It opens nothing."""

    def __init__(
        self,
        identity: Identity,
        gateway: Identity,
        desk: Identity,
        boards: list[LoadBoard],
        publish: Callable[[str, bytes], None],
    ) -> None:
        self._identity = identity
        self._gateway = gateway
        self._desk = desk
        self._boards = boards
        self._publish = publish
        self._session: session.Session | None = None
        self._readies: dict[int, bytes] = {}
        self._moved = asyncio.Event()
        self.settled: dict[int, int] = {}
        self.sealed = 0

    def receive(self, _topic: str, data: bytes) -> None:
        """Take a message of the gateway."""
        if session.is_sealed(data):
            self.sealed += 1  # care records and heartbeats: opening them would load the machine, not the gateway
            return
        message = envelope.open_signed(envelope.parse(data), self._gateway.subject.sign_key)
        if isinstance(message, SessionOpen):
            self._session = session.accept(self._identity, GATEWAY, message)
            adopted = tuple(Adopted(board=board.number, patient=board.patient) for board in self._boards)
            self._seal(Welcome(boards=adopted))
            self._say(Directory(certificates=(self._gateway.certificate,)))
        elif isinstance(message, Ready):
            self._readies[message.round] = data
        elif isinstance(message, Partial | CellVoid):
            self.settled[message.round] = self.settled.get(message.round, 0) + isinstance(message, Partial)
            self._seal(Ack(ids=(message.id,)))
        self._moved.set()

    def _say(self, message: Message) -> None:
        self._publish(to_gateway(GATEWAY), envelope.sign(self._identity, message))

    def _seal(self, message: Message) -> None:
        if self._session is not None:
            self._publish(to_gateway(GATEWAY), self._session.seal(message))

    def grant(self, board: LoadBoard) -> None:
        """Hand on a consent for the board's care stream."""
        now_s = int(time.time())
        consent = Consent(
            consent_id=board.consent_id,
            patient=board.patient,
            boards=(board.number,),
            not_before_s=now_s - 60,
            not_after_s=now_s + 3600,
        )
        signed = SignedConsent.of(consent, self._desk, CONSENT_CONTEXT)
        self._seal(CareGrant(consent=signed, board=board.number, care_key=board.care_key))

    async def welcomed(self) -> None:
        """Wait until the gateway has a session."""
        await self._until(lambda: self._session is not None)

    async def begin_round(self, number: int) -> None:
        """Open and start a round."""
        nonce = os.urandom(32)
        opening = RoundOpen(
            round=number,
            commitment=sha256(nonce).digest(),
            model_version=0,
            streams=tuple(
                StreamSpec(stream=stream, n_words=n, bound=1000, q_max=1000, rounding=0) for stream, n in STREAMS
            ),
            n_max=4096,
            min_group=_MIN_GROUP,
            cell_target=_CELL_TARGET,
            ready_within_ms=60_000,
            collect_within_ms=600_000,
            settle_within_ms=60_000,
        )
        self._say(opening)
        await self._until(lambda: number in self._readies)
        self._say(RoundStart(round=number, server_nonce=nonce, readies=(self._readies[number],)))

    async def round_settled(self, number: int) -> int:
        """Wait until a partial sum came; return how many did."""
        await self._until(lambda: self.settled.get(number, 0) > 0)
        return self.settled[number]

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not condition():
                self._moved.clear()
                await self._moved.wait()
