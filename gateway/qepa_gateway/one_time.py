"""One-time blocks that boards and this gateway share: fetched ahead of use, opened once, deleted as they are used."""

from qepa_wire.errors import WireError
from qepa_wire.frame import PADS_HELD, Frame
from qepa_wire.one_time import open_one_time, reference
from qepa_wire.payloads import BLOCK_GONE, MAX_BLOCKS, HeldBlock, decode_pads, encode_held

from .boards import Board, Boards
from .domain.keyring import EpochKeys
from .domain.pads import Block, used_up_to
from .errors import Refused
from .refusals import Refusals
from .spool.blocks import BlockStore
from .spool.boards import BoardStore

LEAST_BYTES, MOST_BYTES = 64, 4096
GIVEN_UP_AFTER = 5  # answers of the KME that it does not know a key: its other end may only be late
_MAX_WANTED = 256
_MAX_UNKNOWN = 4096


class OneTimeBlocks:
    """All blocks. ``key_requests`` lists what is to be fetched from the KME. Runs inside the caller's transaction."""

    def __init__(self, store: BlockStore, fetched: BoardStore, boards: Boards, refusals: Refusals) -> None:
        self._store = store
        self._fetched = fetched
        self._boards = boards
        self._refusals = refusals
        self._wanted: dict[bytes, tuple[int, int]] = {}  # board, number of the PADS that listed it
        self._unknown: dict[bytes, int] = {}
        self.key_requests: list[bytes] = []
        self.frames = 0

    def take_pads(self, board: Board, _keys: EpochKeys, frame: Frame) -> None:
        """Handle an authentic PADS frame: fetch what it lists, forget what it no longer lists, answer PADS_HELD."""
        key_ids = decode_pads(frame.payload)
        self._store.listed(board.number, key_ids, frame.seq)
        for key_id in key_ids:
            row = self._store.find(key_id)
            if row is not None and row.board != board.number:
                self._refusals.count("pad_board", f"board {board.number:08x}")
            elif row is None:
                self._want(key_id, board.number, frame.seq)
        self._answer(board, key_ids)

    def _want(self, key_id: bytes, board: int, seq: int) -> None:
        if self._adopt(key_id, board, seq) or key_id in self._wanted:
            return
        if len(self._wanted) < _MAX_WANTED and self._unknown.get(key_id, 0) < GIVEN_UP_AFTER:
            self._wanted[key_id] = (board, seq)
            self.key_requests.append(key_id)

    def _adopt(self, key_id: bytes, board: int, seq: int) -> bool:
        """Make a block of a key that the KME delivered. One of another size, say a link key's, is left where it is."""
        key = self._fetched.fetched(key_id)
        if key is None or not LEAST_BYTES <= len(key) <= MOST_BYTES:
            return False
        self._store.add(Block.fresh(key_id, board, key), seq)
        self._fetched.drop_fetched(key_id)
        return True

    def key_arrived(self, key_id: bytes) -> None:
        """The KME delivered a key, which is stored as fetched: if a board listed it, it is a block now."""
        wanted = self._wanted.pop(key_id, None)
        if wanted is None:
            return
        number, seq = wanted
        if not self._adopt(key_id, number, seq):
            self._unknown[key_id] = GIVEN_UP_AFTER
        self._tell(number, key_id)

    def key_failed(self, key_id: bytes, reason: str) -> None:
        """No block now. The board lists it again; once the KME has often said that it has none, the board is told."""
        wanted = self._wanted.pop(key_id, None)
        if wanted is None or reason != "key_unknown":
            return
        if len(self._unknown) >= _MAX_UNKNOWN:
            self._unknown.clear()  # at worst a board waits longer for the word that a block is gone
        self._unknown[key_id] = self._unknown.get(key_id, 0) + 1
        if self._unknown[key_id] >= GIVEN_UP_AFTER:
            self._tell(wanted[0], key_id)

    def _tell(self, number: int, key_id: bytes) -> None:
        try:
            board = self._boards.get(number)
        except Refused:
            return  # not served any more
        self._answer(board, [key_id])

    def _answer(self, board: Board, key_ids: list[bytes]) -> None:
        held = [HeldBlock(row.key_id, used_up_to(row.free, row.size)) for row in self._store.of_board(board.number)]
        gone = [HeldBlock(key_id, BLOCK_GONE) for key_id in key_ids if self._unknown.get(key_id, 0) >= GIVEN_UP_AFTER]
        self._boards.send_down(board, PADS_HELD, encode_held((held + gone)[:MAX_BLOCKS]))

    def open(self, board: Board, frame: Frame) -> Frame:
        """Return an authentic frame of suite otp with its body for payload and its pad; its bytes are used up then.

        Raises Refused("pad_unknown"), ("pad_used") or ("one_time_mac"), WireError("payload"); nothing is used then.
        """
        key_id, offset, n_bytes = reference(frame)
        row = self._store.find(key_id)
        if row is None or row.board != board.number:
            raise Refused("pad_unknown", f"a one-time block of board {board.number:08x}")
        block = self._store.open(row)
        try:
            opened = open_one_time(frame, block.read(offset, n_bytes))
        except WireError as error:
            raise Refused("one_time_mac", str(error)) from error
        block.use(offset, n_bytes)
        self._store.save(block)
        self.frames += 1
        return opened

    def left(self) -> dict[int, int]:
        """Unused bytes by board."""
        return self._store.left()
