"""Model releases: taken from the server with rising versions, handed to one board and then to all."""

import logging
from collections.abc import Callable

from qepa_uplink.messages import ModelRelease, ModelStatus
from qepa_wire.errors import WireError
from qepa_wire.frame import MODEL
from qepa_wire.model import decode_model, decode_release

from .boards import Board, Boards
from .domain.rollout import Terms
from .errors import Refused
from .rollout import StagedRollout
from .spool.database import Spool
from .transport import Clock

_LOG = logging.getLogger(__name__)
PUSH_AGAIN_MS = 5000


class Models:
    """Holds the last release. The boards verify its HSS signature themselves."""

    def __init__(
        self,
        spool: Spool,
        boards: Boards,
        clock: Clock,
        terms: Terms,
        *,
        speaks: Callable[[Board], bool] = lambda _board: False,
    ) -> None:
        self._spool = spool
        self._boards = boards
        self._clock = clock
        self.version = int(spool.get("model_version") or 0)
        self._release: bytes = spool.get("model_release") or b""
        self.rollout = StagedRollout(
            "model", spool, boards, clock, terms, version_of=lambda board: board.row.model, speaks=speaks
        )
        self._pushed: dict[int, tuple[int, int, int]] = {}  # board: version, epoch, when

    def take(self, message: ModelRelease, _sender: str) -> None:
        """Store a release and push it; raises Refused("model") for one that is older or malformed."""
        if message.version == self.version and message.release == self._release:
            return
        if message.version <= self.version:
            raise Refused("model", f"version {message.version} after {self.version}")
        try:
            model = decode_model(decode_release(message.release)[0])
        except WireError as error:
            raise Refused("model", str(error)) from error
        if model.version != message.version:
            raise Refused("model", f"blob of version {model.version} announced as {message.version}")
        with self._spool.transaction():
            self._spool.set("model_version", message.version)
            self._spool.set("model_release", message.release)
            self.version, self._release = message.version, message.release
            _LOG.info("model version=%d round=%d", message.version, message.round)
            self.rollout.begin(message.version)
            self._push_all()

    def status(self) -> ModelStatus | None:
        """How far the newest release has come; None before there was one."""
        state = self.rollout.state
        if state is None:
            return None
        return ModelStatus(version=state.version, stage=state.stage.value, canary=state.canary, failed=state.failed)

    def tick(self) -> None:
        """Go on with a roll-out."""
        if self.rollout.tick():
            with self._spool.transaction():
                self._push_all()

    def _push_all(self) -> None:
        for board in self._boards.served():
            self.push(board)

    def push(self, board: Board) -> None:
        """Send the release to an online board with an older model that may have it, every few seconds at most."""
        current, now_ms = board.ring.current, self._clock()
        if current is None or board.row.model >= self.version or not board.is_online(now_ms):
            return
        if not self.rollout.may_have(board):
            return
        version, epoch, at_ms = self._pushed.get(board.number, (0, 0, 0))
        if (version, epoch) == (self.version, current.epoch) and now_ms - at_ms < PUSH_AGAIN_MS:
            return
        self._pushed[board.number] = (self.version, current.epoch, now_ms)
        self._boards.send_down(board, MODEL, self._release)

    def uses(self, board: Board, version: int) -> None:
        """A board's vector says which model it uses."""
        if board.row.model < version <= self.version:
            board.row.model = version
            board.dirty = True

    def uses_low_bits(self, board: Board, low_bits: int) -> None:
        """A board's care record says so mod 2^16: enough to tell whether it is the last release."""
        if low_bits == self.version & 0xFFFF:
            self.uses(board, self.version)
