"""The boards that the server adopted: presence, keys, windows, and frames down under a counter that never repeats."""

from collections.abc import Collection, Iterable, Mapping

from qepa_wire.frame import ACK, encode
from qepa_wire.payloads import MAX_ACKS, encode_ack
from qepa_wire.topics import board_down

from .domain.keyring import Keyring
from .domain.rate import TokenBucket
from .domain.replay import Window
from .errors import Refused
from .spool.boards import BoardRow, BoardStore
from .transport import Clock, Outgoing, Send

ONLINE_MS = 90_000
SEQ_BLOCK = 256
_MAX_SEQ = 0xFFFFFFFF
_HELLO_BURST, _HELLO_REFILL_MS = 4, 1000


class Board:
    """One adopted board as it is now."""

    def __init__(self, row: BoardRow, ring: Keyring, windows: Mapping[int, Window]) -> None:
        self.row = row
        self.ring = ring
        self.windows = dict(windows)
        self.hello_budget = TokenBucket(burst=_HELLO_BURST, refill_ms=_HELLO_REFILL_MS)
        self.acks: list[int] = []
        self.dirty = False
        self.booted = True  # since it was last told how often to change its key; nobody knows what it was told before
        self.starved = False  # its key was ratcheted because there was no pad
        self.ratchets_by_plan = False
        self.next_seq = row.seq_down + 1

    @property
    def number(self) -> int:
        """The board's number."""
        return self.row.board

    @property
    def key_source(self) -> str:
        """``qkd``; ``ratchet`` while its key is ratcheted because pads or the link are wanting; ``none``."""
        current = self.ring.current
        if current is None:
            return "none"
        return "qkd" if self.ratchets_by_plan or not current.reference.steps else "ratchet"

    @property
    def key_steps(self) -> int:
        """Ratchet steps from the last pad to the key in use."""
        return self.ring.current.reference.steps if self.ring.current is not None else 0

    @property
    def exhausted(self) -> bool:
        """All numbers down are used: the board must be enrolled anew."""
        return self.next_seq > _MAX_SEQ

    def seen(self, now_ms: int) -> None:
        """An authentic frame came."""
        self.row.last_seen_ms = now_ms
        self.dirty = True

    def is_online(self, now_ms: int) -> bool:
        """Whether it has keys and was heard lately."""
        return self.ring.current is not None and not self.exhausted and abs(now_ms - self.row.last_seen_ms) < ONLINE_MS


class Boards:
    """All boards, adopted or not; only adopted ones are served."""

    def __init__(self, store: BoardStore, gateway: str, send: Send, clock: Clock) -> None:
        self._store = store
        self._gateway = gateway
        self._send = send
        self._clock = clock
        self._boards: dict[int, Board] = {}
        for row in store.load():
            ring = store.load_keyring(row.board, row.epoch)
            windows = {epoch: store.load_window(row.board, epoch) for epoch in ring.epochs}
            self._boards[row.board] = Board(row, ring, windows)

    def adopt(self, adopted: Mapping[int, str]) -> list[int]:
        """Serve these boards of these patients and no others; return those no longer served or moved to another.

        Counters and keys of the others stay: a board may come back. Runs inside the caller's transaction.
        """
        changed = []
        for number, patient in adopted.items():
            board = self._boards.get(number)
            if board is None:
                board = self._boards[number] = Board(BoardRow(number, patient, True), Keyring(), {})
            elif board.row.adopted and board.row.patient == patient:
                continue
            elif board.row.patient != patient:
                changed.append(number)
            board.row.patient, board.row.adopted = patient, True
            self._store.save(board.row)
        for board in self.served():
            if board.number not in adopted:
                board.row.adopted = False
                self._store.save(board.row)
                changed.append(board.number)
        return changed

    def bar(self, streams: Mapping[int, Collection[int]]) -> None:
        """Ask the boards for all streams but these from the next round on. Runs inside the caller's transaction."""
        for number, barred in streams.items():
            row, bits = self._boards[number].row, sum(1 << stream for stream in set(barred))
            if row.barred != bits:
                row.barred = bits
                self._store.save(row)

    def barred(self, streams: Iterable[int]) -> set[tuple[int, int]]:
        """(board, stream) of ``streams`` that are not to be asked for."""
        served = self.served()
        return {(board.number, stream) for stream in streams for board in served if board.row.barred >> stream & 1}

    def served(self) -> list[Board]:
        """Adopted boards, by number."""
        return [board for _, board in sorted(self._boards.items()) if board.row.adopted]

    def serves(self, number: int) -> bool:
        """Whether the board is adopted."""
        board = self._boards.get(number)
        return board is not None and board.row.adopted

    def get(self, number: int) -> Board:
        """An adopted board; raises Refused("unknown_board")."""
        board = self._boards.get(number)
        if board is None or not board.row.adopted:
            raise Refused("unknown_board", f"{number:08x}")
        if board.exhausted:
            raise Refused("exhausted", f"board {number:08x} must be enrolled anew")
        return board

    def patients_online(self) -> dict[int, str]:
        """All boards, with their patient, of the patients of whom a board is online."""
        now_ms = self._clock()
        there = {board.row.patient for board in self.served() if board.is_online(now_ms)}
        return {board.number: board.row.patient for board in self.served() if board.row.patient in there}

    def reserve_seq(self, board: Board) -> int:
        """The next number down: never returned before, on any run (labels are encrypted at that position)."""
        if board.exhausted:
            raise Refused("exhausted", f"board {board.number:08x} must be enrolled anew")
        if board.next_seq > board.row.seq_down:
            board.row.seq_down = min(board.next_seq + SEQ_BLOCK - 1, _MAX_SEQ)
            self._store.save(board.row)
        seq = board.next_seq
        board.next_seq += 1
        return seq

    def send_down(self, board: Board, type_: int, payload: bytes, *, seq: int | None = None, qos: int = 0) -> None:
        """Queue a frame for ``board`` under its current epoch; without keys there is nothing to say it in."""
        keys = board.ring.current
        if keys is None or (board.exhausted and seq is None):
            return
        number = self.reserve_seq(board) if seq is None else seq
        data = encode(type_, board.number, keys.epoch, number, payload, keys.mac_down)
        self._send(Outgoing(board_down(self._gateway, board.number), data, qos))

    def end_batch(self, touched: Iterable[Board]) -> None:
        """Write what a batch changed and queue its acknowledgements, inside the batch's transaction."""
        for board in touched:
            for start in range(0, len(board.acks), MAX_ACKS):
                self.send_down(board, ACK, encode_ack(board.acks[start : start + MAX_ACKS]))
            board.acks = []
            if board.dirty:
                self._store.save(board.row)
                board.dirty = False
