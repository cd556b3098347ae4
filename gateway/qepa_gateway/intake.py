"""Frames of boards, from bytes to effects: admission, epochs, replay windows, then the handler of the type."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from qepa_uplink.errors import UplinkError
from qepa_wire.errors import WireError
from qepa_wire.frame import ALERT, HELLO, SUITE_OTP, WAVE, Frame
from qepa_wire.keys import KEY_BYTES
from qepa_wire.payloads import decode_hello

from .boards import Board, Boards
from .domain.admission import Arrival, address, admit
from .domain.keyring import EpochKeys, KeyReference, epoch_keys
from .domain.replay import Verdict, Window
from .errors import Refused
from .refusals import Refusals
from .spool.boards import BoardStore
from .transport import Clock

Handler = Callable[[Board, EpochKeys, Frame], None]

_MAX_PARKED = 32  # frames kept for one HELLO whose key is being fetched
_MAX_PARKED_BYTES = 8192  # of one of them
_MAX_PENDING = 256
_URGENCY = {HELLO: 0, ALERT: 1, WAVE: 3}
_USUAL = 2


@dataclass(slots=True)
class Pending:
    """A HELLO that waits for its pad, and the frames of its epoch that came behind it."""

    hello: Arrival
    parked: list[Arrival] = field(default_factory=list)


class Intake:
    """Takes frames inside the caller's transaction. ``key_requests`` lists pads to be fetched from the KME."""

    def __init__(
        self,
        boards: Boards,
        store: BoardStore,
        gateway: str,
        refusals: Refusals,
        clock: Clock,
        on_hello: Handler,
        open_one_time: Callable[[Board, Frame], Frame],
    ) -> None:
        self._boards = boards
        self._store = store
        self._gateway = gateway
        self._refusals = refusals
        self._clock = clock
        self._on_hello = on_hello
        self._open_one_time = open_one_time
        self._pending: dict[bytes, Pending] = {}
        self.handlers: dict[int, Handler] = {}
        self.key_requests: list[bytes] = []
        self.frames = 0
        self.authentic = 0
        self.refusal: Callable[[int], str | None] = lambda _type: None  # why a type of frame is not taken now

    def take_batch(self, arrivals: list[tuple[str, bytes]]) -> None:
        """Take frames in order of arrival; alerts first, but never past a HELLO of their board."""
        ranked: list[tuple[int, int, Arrival]] = []
        hellos: Counter[int] = Counter()
        for topic, data in arrivals:
            self.frames += 1
            try:
                arrival = address(topic, data, self._gateway)
            except (WireError, Refused) as error:
                self._refusals.count(error.reason, "board")
                continue
            board, type_ = arrival.frame.board, arrival.frame.type
            if (reason := self.refusal(type_)) is not None:
                self._refusals.count(reason, "spool")
                continue
            hellos[board] += type_ == HELLO
            ranked.append((hellos[board], _URGENCY.get(type_, _USUAL), arrival))
        ranked.sort(key=lambda each: each[:2])
        self._take_all([arrival for _, _, arrival in ranked])

    def key_arrived(self, key_id: bytes, key: bytes) -> None:
        """A key came: it is stored whatever becomes of the HELLO, since the KME will not give it again."""
        self._store.save_fetched(key_id, key)
        pending = self._pending.pop(key_id, None)
        if pending is not None:
            self._take_all([pending.hello, *pending.parked], paid=True)

    def key_failed(self, key_id: bytes, reason: str) -> None:
        """No pad: the HELLO stays unacknowledged, so that the board repeats it."""
        self._pending.pop(key_id, None)
        self._refusals.count(reason, "kme")

    def _take_all(self, arrivals: list[Arrival], *, paid: bool = False) -> None:
        touched: dict[int, Board] = {}
        for arrival in arrivals:
            try:
                board = self._boards.get(arrival.frame.board)
                touched[board.number] = board
                self._take(board, arrival, paid=paid)
            except (WireError, UplinkError, Refused) as error:
                self._refusals.count(error.reason, f"board {arrival.frame.board:08x}")
        self._boards.end_batch(touched.values())

    def _take(self, board: Board, arrival: Arrival, *, paid: bool) -> None:
        frame = arrival.frame
        keys = board.ring.keys(frame.epoch)
        if keys is None:
            if frame.type == HELLO:
                self._begin_epoch(board, arrival, paid=paid)
            elif not self._park(arrival):
                raise Refused("unknown_epoch", f"{frame.epoch}")
            return
        verdict = admit(arrival, keys, board.windows[frame.epoch])
        if verdict is Verdict.DUPLICATE:
            _acknowledge(board, frame)  # but no sign of life: anyone can repeat what was on the air
            return
        if frame.type == HELLO:
            hello = decode_hello(frame.payload)
            if frame.epoch != board.ring.highest or keys.reference != KeyReference(hello.key_id, hello.steps):
                raise Refused("epoch", f"HELLO of {frame.epoch} with another key")
        if frame.suite == SUITE_OTP:
            # Before the number counts as seen: under a stolen link key a forgery passes the frame's own MAC.
            arrival = Arrival(self._open_one_time(board, frame), arrival.data)
        self._accept(board, keys, arrival)

    def _accept(self, board: Board, keys: EpochKeys, arrival: Arrival) -> None:
        frame = arrival.frame
        board.seen(self._clock())
        self.authentic += 1
        # From here on the frame is held, so it is acknowledged even if what it says is refused: else it comes for ever.
        if board.windows[frame.epoch].admit(frame.seq, arrival.mark):
            self._store.prune_seen(board.number, frame.epoch, board.windows[frame.epoch].floor)
        self._store.note_seen(board.number, frame.epoch, frame.seq, arrival.mark)
        _acknowledge(board, frame)
        if frame.type == HELLO:
            self._note_hello(board, frame)
            self._on_hello(board, keys, frame)
        else:
            self.handlers[frame.type](board, keys, frame)

    def _note_hello(self, board: Board, frame: Frame) -> None:
        hello = decode_hello(frame.payload)
        row = board.row
        board.booted = board.booted or row.boots != hello.boots
        row.boots, row.model, row.pads = hello.boots, hello.model, hello.pads
        row.battery_permille = hello.battery_permille
        row.reset_cause, row.mode, row.firmware = hello.reset_cause, hello.mode, hello.firmware
        board.dirty = True

    def _begin_epoch(self, board: Board, arrival: Arrival, *, paid: bool) -> None:
        frame = arrival.frame
        hello = decode_hello(frame.payload)
        reference = KeyReference(hello.key_id, hello.steps)
        plan = board.ring.plan(frame.epoch, reference)
        if hello.key_id in self._pending:
            self._park(arrival)  # its pad is on the way; the HELLO that asked for it may have been a forgery
            return
        if not paid and not board.hello_budget.take(self._clock()):
            raise Refused("rate", "HELLOs of one board")
        base = plan.base if plan.base is not None else self._store.fetched(hello.key_id)
        if base is None:
            if len(self._pending) >= _MAX_PENDING:
                raise Refused("rate", "keys to be fetched")
            self._pending[hello.key_id] = Pending(arrival)
            self.key_requests.append(hello.key_id)
            return
        if len(base) != KEY_BYTES:
            raise Refused("key_unknown", "HELLO names a one-time block for a pad")
        keys = epoch_keys(frame.epoch, reference, base, plan.steps)
        window = Window()
        admit(arrival, keys, window)
        before = board.ring.current
        for epoch in board.ring.begin(keys):
            board.windows.pop(epoch, None)
            self._store.drop_epoch(board.number, epoch)
        if before is not None and before.epoch in board.ring.epochs:
            self._store.save_epoch(board.number, before.retired())
        self._store.save_epoch(board.number, keys)
        self._store.drop_fetched(hello.key_id)
        board.row.epoch = keys.epoch
        board.windows[keys.epoch] = window
        self._accept(board, keys, arrival)

    def _park(self, arrival: Arrival) -> bool:
        frame = arrival.frame
        if frame.type == WAVE:
            return False  # a second that is lost, not the place of an alert
        for pending in self._pending.values():
            hello = pending.hello.frame
            if (hello.board, hello.epoch) == (frame.board, frame.epoch):
                fits = len(pending.parked) < _MAX_PARKED and len(arrival.data) <= _MAX_PARKED_BYTES
                if fits:
                    pending.parked.append(arrival)
                return fits
        return False


def _acknowledge(board: Board, frame: Frame) -> None:
    if frame.type != WAVE:  # no board waits for that
        board.acks.append(frame.seq)
