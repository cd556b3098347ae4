"""A release goes to one board, the canary, and to the ward once that board has confirmed it and lived on with it.

A canary that does not confirm in time, crashes, or goes silent is a failure: the release is held back for a while and
then tried on another board; after a few failures it is withdrawn. Boards that do not have it keep what they have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """Who may have the release."""

    CANARY = "canary"
    WARD = "ward"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Terms:
    """Times in ms. ``soak_ms``: how long a canary must live on; ``most_failures`` withdraw a release.

    ``reboots``: a board restarts to take the release, as with firmware. Not ``staged``, all boards get it at once.
    """

    confirm_within_ms: int = 180_000
    soak_ms: int = 2000
    again_after_ms: int = 600_000
    most_failures: int = 3
    reboots: bool = False
    staged: bool = True


DEFAULT_TERMS: Final = Terms()


@dataclass(frozen=True, slots=True)
class View:
    """A board as the gateway knows it. ``speaks``: frames of it are due all the time, so that silence means something.

    ``version`` is what it uses for good; firmware on trial does not count. ``crashed``: its last start followed
    something else than power that came back.
    """

    online: bool
    version: int
    boots: int
    heard_ms: int
    speaks: bool
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Rollout:
    """Where a release stands. ``canary`` has it since ``since_ms``, confirmed it at ``confirmed_ms``.

    ``boots`` is the boot it was last seen in, None after a restart of the gateway.
    """

    version: int
    stage: Stage = Stage.CANARY
    canary: int | None = None
    since_ms: int = 0
    confirmed_ms: int | None = None
    boots: int | None = None
    failed: tuple[int, ...] = ()
    again_ms: int = 0

    def may_have(self, board: int) -> bool:
        """Whether the release is to be handed to ``board`` now."""
        return self.stage is Stage.WARD or (self.stage is Stage.CANARY and board == self.canary)


def advance(state: Rollout, boards: Mapping[int, View], now_ms: int, terms: Terms) -> Rollout:
    """Return what has become of ``state``; the same object if nothing."""
    if state.stage is not Stage.CANARY or not terms.staged:
        return state if state.stage is not Stage.CANARY else replace(state, stage=Stage.WARD)
    if state.canary is None:
        return _choose(state, boards, now_ms, terms)
    view = boards.get(state.canary)
    if view is None:  # it is not ours any more; that says nothing about the release
        return replace(state, canary=None)
    if state.boots != view.boots:
        expected = state.boots is None or (terms.reboots and state.confirmed_ms is None)
        if view.crashed and not expected:
            return _fail(state, now_ms, terms)
        state = replace(state, boots=view.boots)
    if state.confirmed_ms is None:
        return _await_confirmation(state, view, now_ms, terms)
    return _soak(state, state.confirmed_ms, view, now_ms, terms)


def fail(state: Rollout, board: int, now_ms: int, terms: Terms) -> Rollout:
    """Return ``state`` after ``board``, the canary or one of the ward, has shown that it does not take the release."""
    if not state.may_have(board) or board in state.failed:
        return state
    if state.stage is Stage.CANARY:
        return _fail(state, now_ms, terms)
    failed = (*state.failed, board)
    stage = Stage.WITHDRAWN if len(failed) >= terms.most_failures else state.stage
    return replace(state, stage=stage, failed=failed)


def resume(state: Rollout, now_ms: int) -> Rollout:
    """Return ``state`` after a restart of the gateway: what its canary did meanwhile is not held against it."""
    if state.stage is not Stage.CANARY or state.canary is None:
        return state
    confirmed_ms = None if state.confirmed_ms is None else now_ms
    return replace(state, since_ms=now_ms, confirmed_ms=confirmed_ms, boots=None)


def _await_confirmation(state: Rollout, view: View, now_ms: int, terms: Terms) -> Rollout:
    if view.version >= state.version:
        return replace(state, confirmed_ms=now_ms)
    return _fail(state, now_ms, terms) if _over(now_ms, state.since_ms, terms) else state


def _soak(state: Rollout, confirmed_ms: int, view: View, now_ms: int, terms: Terms) -> Rollout:
    silent = view.speaks and _over(now_ms, max(confirmed_ms, view.heard_ms), terms)
    if silent or view.version < state.version:
        return _fail(state, now_ms, terms)
    spoke = view.heard_ms > confirmed_ms or not view.speaks
    return replace(state, stage=Stage.WARD) if spoke and now_ms - confirmed_ms >= terms.soak_ms else state


def _over(now_ms: int, since_ms: int, terms: Terms) -> bool:
    return now_ms - since_ms > terms.confirm_within_ms


def _choose(state: Rollout, boards: Mapping[int, View], now_ms: int, terms: Terms) -> Rollout:
    if 0 <= state.again_ms - now_ms <= terms.again_after_ms and state.failed:
        return state
    fit = sorted(number for number, view in boards.items() if view.online and number not in state.failed)
    if not fit:
        return state
    # Another board each time, so that it is not always the same patient's.
    canary = fit[state.version % len(fit)]
    return replace(state, canary=canary, since_ms=now_ms, confirmed_ms=None, boots=boards[canary].boots)


def _fail(state: Rollout, now_ms: int, terms: Terms) -> Rollout:
    failed = (*state.failed, state.canary or 0)
    stage = Stage.WITHDRAWN if len(failed) >= terms.most_failures else Stage.CANARY
    return replace(
        state, stage=stage, canary=None, confirmed_ms=None, failed=failed, again_ms=now_ms + terms.again_after_ms
    )
