"""Firmware over the air: bundles from the server, verified here, handed to one board and then to the others.

A board asks for every piece (qepa_wire/PROTOCOL.md, section 15), so nothing of a transfer need be kept here: after a
break, or a restart of either side, it goes on with the piece that the board lacks. The boards verify the signature
themselves; that it holds is checked here too, so that nothing travels that no board would take.
"""

import json
import logging
from dataclasses import dataclass, field
from typing import Final

from qepa_uplink.errors import UplinkError
from qepa_uplink.firmware import Package, open_bundle
from qepa_uplink.messages import FirmwareRelease, FirmwareStatus
from qepa_wire.firmware import (
    COMPLETE,
    ID_BYTES,
    PIECE_BYTES,
    STATES,
    WANTS,
    Offer,
    Piece,
    Want,
    decode_want,
    encode_offer,
    encode_piece,
)
from qepa_wire.frame import FIRMWARE_OFFER, FIRMWARE_PIECE, Frame
from qepa_wire.payloads import MODES

from .boards import Board, Boards
from .domain.keyring import EpochKeys
from .domain.rollout import Stage, Terms
from .errors import CorruptError, Refused
from .rollout import StagedRollout
from .spool.database import Spool
from .transport import Clock

_LOG = logging.getLogger(__name__)
OFFER_AGAIN_MS = 20_000
_CHECK_EVERY_MS = 500
_NORMAL = MODES.index("normal")
_LINES = "firmware_lines"

FIRMWARE_TERMS: Final = Terms(
    confirm_within_ms=3_600_000, soak_ms=300_000, again_after_ms=3_600_000, most_failures=1, reboots=True
)


@dataclass(slots=True)
class _Line:
    """The last release of a kind. ``restarting``: boards that have all of it, and their boot at that moment."""

    kind: str
    number: int
    boards: frozenset[int]
    package: Package
    rollout: StagedRollout
    restarting: dict[int, int] = field(default_factory=dict)

    @property
    def release(self) -> bytes:
        """What names the release in frames."""
        return self.package.digest[:ID_BYTES]

    def may_have(self, board: Board) -> bool:
        """Whether it is a board's turn, as far as the roll-out says."""
        state = self.rollout.state
        return (
            board.number in self.boards
            and state is not None
            and state.may_have(board.number)
            and board.number not in state.failed
        )


def _runs(board: Board) -> int:
    """Version that a board runs for good."""
    return board.row.firmware if board.row.mode == _NORMAL else 0


class Firmware:
    """``root``: the HSS public key that signs firmware, None: this gateway hands none on.

    At most ``at_once`` boards are under way at a time, never two of one patient: they restart.
    """

    def __init__(
        self, spool: Spool, boards: Boards, clock: Clock, terms: Terms, root: bytes | None, *, at_once: int = 2
    ) -> None:
        self._spool = spool
        self._boards = boards
        self._clock = clock
        self._terms = terms
        self._root = root
        self._at_once = at_once
        self._refused: dict[str, FirmwareStatus] = {}
        self._offered_ms: dict[int, int] = {}  # boards under way: when one last spoke of it, or was spoken to
        self._checked_ms = 0
        self._lines: dict[str, _Line] = {}
        for kind in json.loads(spool.get(_LINES) or b"[]"):
            self._lines[kind] = self._load(kind)

    @property
    def withdrawn(self) -> bool:
        """The last release of some kind was."""
        return any(line.rollout.withdrawn for line in self._lines.values())

    def status(self) -> tuple[FirmwareStatus, ...]:
        """Where each kind's release stands; those that were refused as well."""
        found = []
        for line in self._lines.values():
            state = line.rollout.state
            if state is not None:
                found.append(
                    FirmwareStatus(
                        kind=line.kind,
                        number=line.number,
                        version=line.package.version,
                        stage=state.stage.value,
                        canary=state.canary,
                        failed=state.failed,
                    )
                )
        return (*found, *self._refused.values())

    # Releases

    def take(self, message: FirmwareRelease, _sender: str) -> None:
        """Take a release and begin with it; raises Refused("firmware") for one that no board should be offered."""
        known, told = self._lines.get(message.kind), self._refused.get(message.kind)
        if message.number <= max(known.number if known else 0, told.number if told else 0):
            return
        try:
            package = self._checked(message, known)
        except (UplinkError, Refused) as error:
            self._refused[message.kind] = FirmwareStatus(
                kind=message.kind, number=message.number, version=0, stage="refused", refused=str(error)[:200]
            )
            _LOG.error("firmware refused kind=%s number=%d: %s", message.kind, message.number, error)
            raise Refused("firmware", str(error)) from error
        self._refused.pop(message.kind, None)
        with self._spool.transaction():
            self._spool.set(f"firmware_bundle_{message.kind}", message.bundle)
            line = self._lines[message.kind] = _Line(
                message.kind, message.number, frozenset(message.boards), package, self._rollout(message.kind)
            )
            self._save(line)
            _LOG.info("firmware kind=%s version=%d boards=%d", line.kind, package.version, len(line.boards))
            for number in message.boards:
                self._offered_ms.pop(number, None)
            line.rollout.begin(package.version)
            self._offer_all(line)

    def _checked(self, message: FirmwareRelease, known: _Line | None) -> Package:
        if self._root is None:
            raise Refused("firmware", "this gateway's configuration names no [firmware] root")
        package = open_bundle(message.bundle)
        package.verify(self._root)
        if known is not None:
            same = package.version == known.package.version and package.digest == known.package.digest
            if not same and package.version <= known.package.version:
                raise Refused("firmware", f"version {package.version} after {known.package.version}")
        return package

    def _rollout(self, kind: str) -> StagedRollout:
        return StagedRollout(
            f"firmware_{kind}",
            self._spool,
            self._boards,
            self._clock,
            self._terms,
            version_of=_runs,
            speaks=lambda _board: False,
            concerns=lambda board: self._line_of(board) is self._lines.get(kind),
        )

    def _line_of(self, board: Board) -> _Line | None:
        """The newest release that names a board."""
        mine = [line for line in self._lines.values() if board.number in line.boards]
        return max(mine, key=lambda line: line.number, default=None)

    def _save(self, line: _Line) -> None:
        record = {"number": line.number, "boards": sorted(line.boards), "restarting": list(line.restarting.items())}
        self._spool.set(f"firmware_{line.kind}", json.dumps(record).encode())
        self._spool.set(_LINES, json.dumps(sorted(self._lines)).encode())

    def _load(self, kind: str) -> _Line:
        try:
            record = json.loads(self._spool.get(f"firmware_{kind}"))
            package = open_bundle(self._spool.get(f"firmware_bundle_{kind}"))
            return _Line(
                kind,
                record["number"],
                frozenset(record["boards"]),
                package,
                self._rollout(kind),
                dict(record["restarting"]),
            )
        except (UplinkError, ValueError, TypeError, KeyError) as error:
            raise CorruptError(f"firmware of kind {kind} has another shape") from error

    # Boards

    def tick(self) -> None:
        """Go on with the roll-outs."""
        now_ms = self._clock()
        if not self._lines or 0 <= now_ms - self._checked_ms < _CHECK_EVERY_MS:
            return
        self._checked_ms = now_ms
        with self._spool.transaction():
            for line in self._lines.values():
                line.rollout.tick()
                self._offer_all(line)

    def greet(self, board: Board) -> None:
        """A board said HELLO: what it runs now tells how a trial went."""
        line = self._line_of(board)
        if line is None or board.row.mode != _NORMAL:
            return
        if _runs(board) >= line.package.version:
            self._offered_ms.pop(board.number, None)
            if line.restarting.pop(board.number, None) is not None:
                self._save(line)
        elif line.restarting.get(board.number, board.row.boots) != board.row.boots:
            self._fail(line, board, "it went back to the version before")
        elif board.number in self._offered_ms:  # it has started or connected anew: an offer may not have reached it
            self._offered_ms[board.number] = self._clock() - OFFER_AGAIN_MS

    def _fail(self, line: _Line, board: Board, reason: str) -> None:
        _LOG.error("firmware %d: board=%08x: %s", line.package.version, board.number, reason)
        line.restarting.pop(board.number, None)
        self._offered_ms.pop(board.number, None)
        self._save(line)
        line.rollout.fail(board)

    def _offer_all(self, line: _Line) -> None:
        for board in self._boards.served():
            if line.may_have(board) and self._line_of(board) is line:
                self._offer(line, board)

    def _offer(self, line: _Line, board: Board) -> None:
        now_ms = self._clock()
        if _runs(board) >= line.package.version or not board.is_online(now_ms):
            if board.number in self._offered_ms and board.number not in line.restarting:
                del self._offered_ms[board.number]  # its place is another's until it is back
            return
        last_ms = self._offered_ms.get(board.number)
        if last_ms is None and not self._has_place(board):
            return
        if last_ms is not None and 0 <= now_ms - last_ms < OFFER_AGAIN_MS:
            return
        self._offered_ms[board.number] = now_ms
        manifest, signature = line.package.files[:2]
        offer = Offer(line.package.digest, line.package.version, len(manifest), len(signature))
        self._boards.send_down(board, FIRMWARE_OFFER, encode_offer(offer))

    def _has_place(self, board: Board) -> bool:
        under_way = [each for each in self._boards.served() if each.number in self._offered_ms]
        return len(under_way) < self._at_once and all(each.row.patient != board.row.patient for each in under_way)

    def take_want(self, board: Board, _keys: EpochKeys, frame: Frame) -> None:
        """Send the piece that a board asks for, or note what it says; raises WireError or Refused."""
        want = decode_want(frame.payload)
        line = self._line_of(board)
        if line is None or want.release != line.release or not line.may_have(board):
            return  # of a release that is over; the board asks less and less often
        self._offered_ms[board.number] = self._clock()
        if want.state == COMPLETE:
            if line.restarting.get(board.number) != board.row.boots:
                line.restarting[board.number] = board.row.boots
                self._save(line)
        elif want.state != WANTS:
            self._fail(line, board, f"it refuses it: {STATES[want.state]}")
        elif want.target != line.package.target:
            self._fail(line, board, "it is for other boards")
        elif (lacking := line.package.lacking(want.needs.split())) is not None:
            self._fail(line, board, f"it lacks {lacking}")
        else:
            self._send_piece(line, board, want)

    def _send_piece(self, line: _Line, board: Board, want: Want) -> None:
        files = line.package.files
        data = files[want.file][want.offset : want.offset + PIECE_BYTES] if want.file < len(files) else b""
        if not data:
            raise Refused("firmware", f"board {board.number:08x} asks for file {want.file} at {want.offset}")
        self._boards.send_down(board, FIRMWARE_PIECE, encode_piece(Piece(want.release, want.file, want.offset, data)))

    def under_way(self) -> list[int]:
        """Boards that take a release now."""
        return sorted(self._offered_ms)

    def stage(self, kind: str) -> Stage | None:
        """Where the release of a kind stands."""
        line = self._lines.get(kind)
        return None if line is None or line.rollout.state is None else line.rollout.state.stage
