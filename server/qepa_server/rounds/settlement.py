"""The end of a round: the next model from what its cells opened, and the accounts closed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from qepa_wire.keystream import STREAM_UPDATE
from qepa_wire.model import Model

from ..audit import chain
from ..privacy.ledger import BudgetLedger
from ..registry.models import ModelRegistry
from ..registry.versions import Version
from ..robust.aggregate import Aggregator
from ..training.averaging import LearningRule
from .ledger import DONE, SUMMED, VOID, RoundLedger, SumRecord
from .running import RunningRound

_LOG = logging.getLogger(__name__)


class Settlement:
    """Ends rounds: with ``rule`` and ``aggregator`` where a sum was opened, for nothing where none was."""

    def __init__(
        self,
        *,
        ledger: RoundLedger,
        registry: ModelRegistry,
        accounts: BudgetLedger,
        aggregator: Aggregator,
        rule: LearningRule,
        clock_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._accounts = accounts
        self._aggregator = aggregator
        self._rule = rule
        self._clock_ms = clock_ms

    def settle(self, running: RunningRound, now_ms: int) -> Version | None:
        """End a round that has all its verdicts; return the model that it made, which is the current one now."""
        verdicts = [running.sums[slot] for slot in sorted(running.sums)]
        opened = [record for record in verdicts if record.state == SUMMED]
        if not opened:
            self.void(running, "; ".join(sorted({record.reason for record in verdicts})), now_ms)
            return None
        version = self._next_version(running, verdicts, now_ms)
        now_ms = self._clock_ms()
        latency_ms = max(0, now_ms - max(record.last_frame_ms or 0 for record in opened))
        with self._ledger.store.write() as connection:
            if version is not None:
                self._registry.release(connection, version)
            number = self._registry.current.version if version is None else version.version
            self._ledger.settle(
                connection, running.number, DONE, "", now_ms, latency_ms=latency_ms, model_version=number
            )
            self._accounts.close(connection, running.number)
            chain.append(connection, now_ms, "round.done", round=running.number, model=number)
        if version is not None:
            self._registry.adopt(version)
        return version

    def void(self, running: RunningRound, reason: str, now_ms: int) -> None:
        """End a round that gives nothing."""
        with self._ledger.store.write() as connection:
            self._ledger.settle(connection, running.number, VOID, reason, now_ms)
            self._accounts.close(connection, running.number)
            chain.append(connection, now_ms, "round.void", round=running.number, reason=reason)
        _LOG.warning("round %d is void: %s", running.number, reason)

    def _next_version(self, running: RunningRound, verdicts: Sequence[SumRecord], now_ms: int) -> Version | None:
        """What the model has learned, signed; None if nothing, or if another model took its place meanwhile."""
        current = self._registry.current
        if current.version != running.opening.model_version:
            _LOG.warning("round %d learned from model %d, which is over", running.number, running.opening.model_version)
            return None
        rule = replace(self._rule, towards=self._registry.start)
        model = next_model(current, verdicts, self._aggregator, rule)
        # The signature's state is on disk before the database hears of it: a crash between wastes one, repeats none.
        return None if model is None else self._registry.prepare(model, now_ms, round_=running.number)


def next_model(current: Model, sums: Sequence[SumRecord], aggregator: Aggregator, rule: LearningRule) -> Model | None:
    """Return the model after a round; None where no cell opened its update."""
    opened = [record for record in sums if record.stream == STREAM_UPDATE and record.state == SUMMED]
    if not opened:
        return None
    means = np.array([np.asarray(record.total, np.float64) / len(record.boards) for record in opened])
    words = rule.apply(current.words, aggregator(means))
    return current._replace(version=current.version + 1, words=words)
