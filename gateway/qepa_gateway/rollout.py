"""The roll-out of one kind of release (domain/rollout.py), kept in the spool so that a restart goes on with it."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace

from qepa_wire.payloads import RESET_CAUSES

from .boards import Board, Boards
from .domain.rollout import Rollout, Stage, Terms, View, advance, fail, resume
from .errors import CorruptError
from .spool.database import Spool
from .transport import Clock

_LOG = logging.getLogger(__name__)
_CHECK_EVERY_MS = 250
_NO_CRASH = (RESET_CAUSES.index("unknown"), RESET_CAUSES.index("power_on"))


class StagedRollout:
    """``kind`` names it in the spool, ``version_of`` tells what a board uses for good, ``speaks`` whether it must,
    ``concerns`` whether the release is for it."""

    def __init__(
        self,
        kind: str,
        spool: Spool,
        boards: Boards,
        clock: Clock,
        terms: Terms,
        *,
        version_of: Callable[[Board], int],
        speaks: Callable[[Board], bool],
        concerns: Callable[[Board], bool] = lambda _board: True,
    ) -> None:
        self._name = f"rollout_{kind}"
        self._kind = kind
        self._spool = spool
        self._boards = boards
        self._clock = clock
        self._terms = terms
        self._version_of = version_of
        self._speaks = speaks
        self._concerns = concerns
        self._checked_ms = 0
        self.state = self._load()

    @property
    def withdrawn(self) -> bool:
        """The last release was."""
        return self.state is not None and self.state.stage is Stage.WITHDRAWN

    def begin(self, version: int) -> None:
        """Start with a new release, inside the caller's transaction; what was under way is over."""
        self._keep(Rollout(version))
        self._advance()

    def may_have(self, board: Board) -> bool:
        """Whether the release is to be handed to ``board`` now. One from before roll-outs were staged is for all."""
        return self.state is None or self.state.may_have(board.number)

    def tick(self) -> bool:
        """Judge the canary; True if the stage or the canary changed."""
        now_ms = self._clock()
        if self.state is None or self.state.stage is not Stage.CANARY:
            return False
        if 0 <= now_ms - self._checked_ms < _CHECK_EVERY_MS:
            return False
        self._checked_ms = now_ms
        return self._advance()

    def fail(self, board: Board) -> None:
        """A board that was handed the release does not take it."""
        if self.state is not None:
            self._follow(self.state, fail(self.state, board.number, self._clock(), self._terms))

    def _advance(self) -> bool:
        before = self.state
        if before is None:
            return False
        return self._follow(before, advance(before, self._views(), self._clock(), self._terms))

    def _follow(self, before: Rollout, after: Rollout) -> bool:
        if after is before:
            return False
        self._keep(after)
        if len(after.failed) > len(before.failed):
            _LOG.error("%s %d failed board=%08x stage=%s", self._kind, after.version, after.failed[-1], after.stage)
        elif after.stage is Stage.WARD:
            _LOG.info("%s %d confirmed board=%08x", self._kind, after.version, after.canary or 0)
        return (before.stage, before.canary) != (after.stage, after.canary)

    def _views(self) -> dict[int, View]:
        now_ms = self._clock()
        return {
            board.number: View(
                online=board.is_online(now_ms),
                version=self._version_of(board),
                boots=board.row.boots,
                heard_ms=board.row.last_seen_ms,
                speaks=self._speaks(board),
                crashed=board.row.reset_cause not in _NO_CRASH,
            )
            for board in self._boards.served()
            if self._concerns(board)
        }

    def _keep(self, state: Rollout) -> None:
        self._spool.set(self._name, json.dumps(asdict(state)).encode())
        self.state = state

    def _load(self) -> Rollout | None:
        stored = self._spool.get(self._name)
        if stored is None:
            return None
        try:
            state = Rollout(**json.loads(stored))
            state = replace(state, stage=Stage(state.stage), failed=tuple(state.failed))
        except (ValueError, TypeError) as error:
            raise CorruptError(f"{self._name} has another shape") from error
        return resume(state, self._clock())
