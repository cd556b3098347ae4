"""Counts what passes a gateway's transport, by round: bytes, frames, times. It changes nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field

from qepa_gateway.domain.silence import Step
from qepa_gateway.transport import Outgoing, Transport
from qepa_uplink.envelope import MAGIC, parse, peek
from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import ModelRelease, RoundOpen, RoundStart
from qepa_uplink.topics import to_gateway, to_server
from qepa_wire.frame import HEADER_BYTES, VECTOR

_ROUND_AT = slice(HEADER_BYTES, HEADER_BYTES + 8)  # a VECTOR's payload begins with its round
_TOLD_OF = b'{"type":"round_open"', b'{"type":"round_start"', b'{"type":"model_release"'


@dataclass(slots=True)
class RoundTraffic:
    """What one gateway saw of one round. Times are wall clock, ms; 0 is never."""

    opened_ms: int = 0
    started_ms: int = 0
    first_vector_ms: int = 0
    model_ms: int = 0
    vectors: int = 0
    bytes: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, n_bytes: int) -> None:
        """Count bytes of a kind."""
        self.bytes[kind] = self.bytes.get(kind, 0) + n_bytes


class MeteredTransport:
    """Another transport, counted. ``lost(round)``: whether power goes as that round starts; then ``on_loss()``."""

    def __init__(
        self,
        inner: Transport,
        gateway: str,
        rounds: dict[int, RoundTraffic],
        clock: Callable[[], int],
        lost: Callable[[int], bool],
        on_loss: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._own, self._server = to_gateway(gateway), to_server(gateway)
        self._rounds = rounds
        self._clock = clock
        self._lost, self._on_loss = lost, on_loss
        self._dead = False
        self._current = max(rounds, default=0)

    @property
    def faults(self) -> tuple[str, ...]:
        """Those of the transport."""
        return self._inner.faults

    def publish(self, message: Outgoing) -> None:
        """Count and send."""
        if self._dead:
            return
        if message.topic == self._server:
            kind = "to server"
        else:
            kind = "to gateways" if "/gateway/" in message.topic else "to boards"
        self._of(self._current).add(kind, len(message.payload))
        self._inner.publish(message)

    async def run(self, receive: Callable[[str, bytes], None]) -> None:
        """Run the transport, counting what it hands over."""

        def count(topic: str, data: bytes) -> None:
            self._note(topic, data)
            if not self._dead:
                receive(topic, data)

        await self._inner.run(count)

    async def recover(self, step: Step) -> None:
        """Pass on."""
        await self._inner.recover(step)

    def _of(self, round_: int) -> RoundTraffic:
        return self._rounds.setdefault(round_, RoundTraffic())

    def _note(self, topic: str, data: bytes) -> None:
        if topic == self._own:
            self._note_uplink(data)
            return
        now_ms = self._clock()
        self._of(self._current).add("from boards", len(data))
        if data[2:3] == bytes([VECTOR]):
            traffic = self._of(int.from_bytes(data[_ROUND_AT], "little"))
            traffic.vectors += 1
            traffic.first_vector_ms = traffic.first_vector_ms or now_ms

    def _note_uplink(self, data: bytes) -> None:
        # Unauthenticated, and only looked at: the gateway behind decides for itself.
        from_server = data[: len(MAGIC)] != MAGIC or data[len(MAGIC) + 1 :].startswith(b"server")
        if from_server and any(data.find(start, 0, 64) >= 0 for start in _TOLD_OF):
            self._note_round(data)
        self._of(self._current).add("from server" if from_server else "from gateways", len(data))

    def _note_round(self, data: bytes) -> None:
        try:
            message = peek(parse(data))
        except UplinkError:
            return
        if isinstance(message, RoundOpen):
            self._current = max(self._current, message.round)
            self._of(message.round).opened_ms = self._of(message.round).opened_ms or self._clock()
        elif isinstance(message, RoundStart):
            self._of(message.round).started_ms = self._of(message.round).started_ms or self._clock()
            if self._lost(message.round) and not self._dead:
                self._dead = True
                self._on_loss()
        elif isinstance(message, ModelRelease):
            self._of(message.round).model_ms = self._of(message.round).model_ms or self._clock()
