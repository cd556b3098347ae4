"""Watches how the boards' model moves: the mean update of each round, which is all that the server sees of it.

A line that was pushed or gone back to is another model: its first rounds say what is usual for it. Everything is read
from the ledger, so that a restart watches on.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qepa_uplink.releases import BOARD_MODEL
from qepa_wire.keystream import STREAM_UPDATE

from ..explain.drift import DriftMonitor, DriftSignal, Reference
from ..rounds.ledger import DONE, SUMMED, RoundLedger
from .versions import VersionStore

FITTED, KNOWN = 15, 40  # rounds that say what is usual; rounds whose distances later ones are ranked among
_REPLAYED = 400


class DriftWatch:
    """``told(signal)`` hears of each round once there are KNOWN of them; ``uniform()`` breaks ties."""

    def __init__(
        self,
        *,
        ledger: RoundLedger,
        versions: VersionStore,
        limit: float,
        uniform: Callable[[], float],
        told: Callable[[DriftSignal], None],
    ) -> None:
        self._ledger = ledger
        self._versions = versions
        self._limit = limit
        self._uniform = uniform
        self._told = told
        self._seen = 0
        self._base = 0
        self._means: list[NDArray[np.float64]] = []
        self._reference: Reference | None = None
        self._monitor: DriftMonitor | None = None
        self._look(_REPLAYED)

    def look(self) -> None:
        """Take rounds that ended since the last call."""
        newest = self._versions.newest(BOARD_MODEL)
        for signal in self._look(20):
            if newest is not None:
                self._told(replace(signal, version=newest.version))

    def _look(self, most: int) -> list[DriftSignal]:
        last = self._ledger.last()
        if last is None or last.number <= self._seen:
            return []
        base = self._versions.last_not_learned(BOARD_MODEL)
        if base != self._base:
            self._base, self._means, self._reference, self._monitor = base, [], None, None
        signals = []
        for record in reversed(self._ledger.newest(most)):
            if record.number <= self._seen or record.settled_ms is None:
                continue
            self._seen = record.number
            if record.state == DONE and (record.model_version or 0) > base:
                signal = self._take(record.number, record.settled_ms)
                signals += [] if signal is None else [signal]
        return signals

    def _take(self, number: int, settled_ms: int) -> DriftSignal | None:
        opened = [each for each in self._ledger.sums(number) if each.stream == STREAM_UPDATE and each.state == SUMMED]
        boards = sum(len(each.boards) for each in opened)
        if not boards:
            return None
        totals = np.array([each.total for each in opened], np.float64)
        mean: NDArray[np.float64] = totals.sum(axis=0) / boards
        if self._monitor is not None and self._reference is not None:
            return self._monitor.add(settled_ms, self._reference.score(mean))
        self._means.append(mean)
        if len(self._means) == KNOWN:
            self._reference = Reference(self._means[:FITTED])
            scores = [self._reference.score(each) for each in self._means[FITTED:]]
            self._monitor = DriftMonitor(BOARD_MODEL, self._base, scores, self._uniform, self._limit)
        return None
