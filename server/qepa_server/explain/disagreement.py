"""Whether a new version of the boards' model answers otherwise than the one before, measured by a model that stayed.

Two models see the same beats of a patient: the board's, and the one at the gateway. An episode of a rhythm moves what
both say; a board model that went bad moves what it says alone. So each minute the boards' share of S and of V beats
less the gateways' is taken, each board's by what it was for that board under the versions that held, in its standard
deviations (a patient who comes or goes shifts nothing thereby), and n |mean|^2 over n boards is the minute's score.

Scores under versions that held are the reference of a DriftMonitor for the next one. It watches the first hour of a
version; without an alarm in it the version holds, and its minutes are what is usual from then on. Versions that follow
one another within the hour are watched together. Not noticed: what goes bad a little at a time over many hours.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .drift import DriftMonitor, DriftSignal

LIMIT = 1e5  # minutes of one ward are less alike than chance has it: LEARNING.md
LEAST_BOARDS = 8
LEAST_MINUTES = 60  # of the reference: after few, what is bad is usual before it is noticed
WATCHED_MINUTES = 60  # since the first version that is watched, and
FOLLOWED_MINUTES = 20  # since the newest of them

_LEAST_OWN = 10  # minutes of a board before it counts
_OWN = 60  # minutes after which old ones fade
_LEAST_SD = 0.02  # of a share
_CLIPPED = 4.0  # standard deviations
_KEPT = 500  # scores

Difference = tuple[float, float]  # board's share less gateway's: of S, of V


@dataclass(slots=True)
class _Usual:
    """Mean and variance of a board's differences, old ones fading; ``source``: the gateway's model that they are to."""

    source: int
    n: int = 0
    mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    variance: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    def add(self, of: Difference) -> None:
        """One more minute."""
        self.n = min(self.n + 1, _OWN)
        step = np.array(of) - self.mean
        self.mean = self.mean + step / self.n
        self.variance = (1 - 1 / self.n) * (self.variance + step**2 / self.n)

    def deviations(self, of: Difference) -> NDArray[np.float64]:
        """How unusual a minute is, in standard deviations within +-4."""
        sd = np.maximum(np.sqrt(self.variance), _LEAST_SD)
        return np.clip((np.array(of) - self.mean) / sd, -_CLIPPED, _CLIPPED)


class Disagreement:
    """Compares versions of the model ``name``. What is usual for a board tells of a patient: it is in memory only.

    After a restart there is no verdict until it is known anew.

    uniform: numbers in [0, 1), to break ties. boards: how many the last minute's score was made of, or would have been.
    """

    def __init__(self, name: str, uniform: Callable[[], float], limit: float = LIMIT) -> None:
        self._name = name
        self._uniform = uniform
        self.limit = limit
        self._held = b""  # contents
        self._newest = 0
        self._usual: dict[int, _Usual] = {}
        self._fresh: dict[int, _Usual] = {}
        self._scores: deque[float] = deque(maxlen=_KEPT)
        self._monitor: DriftMonitor | None = None
        self._minutes = self._followed = 0
        self.boards = 0
        self.signal: DriftSignal | None = None

    @property
    def standing(self) -> str:
        """``unknown``: too few boards or minutes for a verdict. Else ``usual``, ``watched`` or ``raised``."""
        if self.signal is not None and self.signal.raised:
            return "raised"
        if self.boards < LEAST_BOARDS or len(self._scores) < LEAST_MINUTES:
            return "unknown"
        return "usual" if self._monitor is None else "watched"

    def forget(self, board: int) -> None:
        """Nothing of this board stays."""
        self._usual.pop(board, None)
        self._fresh.pop(board, None)

    @property
    def known(self) -> frozenset[int]:
        """Boards that something is held of."""
        return frozenset(self._usual) | frozenset(self._fresh)

    def add(
        self, t_ms: int, version: int, digest: bytes, minute: Mapping[int, tuple[int, Difference]], *, learned: bool
    ) -> DriftSignal | None:
        """Take a minute that ended at t_ms, in which boards had ``version`` with contents ``digest``.

        minute: for each board the gateway's version and the difference. learned: whether the version went on from the
        one before it; what was pushed or gone back to is watched from its own beginning. Returns a signal where there
        is a verdict.
        """
        self._begin(version, digest, learned=learned)
        score = self._score(minute)
        usual = self._usual if self._monitor is None else self._fresh
        for board, (source, of) in minute.items():
            usual.setdefault(board, _Usual(source)).add(of)
        if self._monitor is None:
            if score is not None:
                self._scores.append(score)
            return None
        if len(minute) >= LEAST_BOARDS:  # others have no version of it yet, or say nothing
            self._minutes += 1
            self._followed += 1
        if score is None:
            signal = None
        else:
            signal = self.signal = replace(self._monitor.add(t_ms, score), version=version)
        over = self._minutes >= WATCHED_MINUTES and self._followed >= FOLLOWED_MINUTES
        if over and not (self.signal is not None and self.signal.raised):
            self._hold(digest)
        return signal

    def _begin(self, version: int, digest: bytes, *, learned: bool) -> None:
        """Notice a new version; contents that held already need no watching."""
        if version == self._newest:
            return
        self._newest = version
        if digest == self._held or (self._monitor is None and len(self._scores) < LEAST_MINUTES):
            self._held = digest
            self._monitor = self.signal = None
            self._fresh = {}
        elif self._monitor is None or not learned:
            self._monitor = DriftMonitor(self._name, version, list(self._scores), self._uniform, self.limit)
            self.signal = None
            self._minutes = self._followed = 0
            self._fresh = {}
        else:
            self._followed = 0

    def _hold(self, digest: bytes) -> None:
        self._held = digest
        self._usual, self._fresh = self._fresh, {}
        self._monitor = self.signal = None

    def _score(self, minute: Mapping[int, tuple[int, Difference]]) -> float | None:
        """Of the boards that have been known for long enough; None with too few of them."""
        rows = []
        for board, (source, of) in minute.items():
            for held in (self._usual, self._fresh):
                if board in held and held[board].source != source:
                    del held[board]  # the gateway's model is another one
            usual = self._usual.get(board)
            if usual is not None and usual.n >= _LEAST_OWN:
                rows.append(usual.deviations(of))
        self.boards = len(rows)
        if self.boards < LEAST_BOARDS:
            return None
        return float(self.boards * (np.mean(rows, axis=0) ** 2).sum())
