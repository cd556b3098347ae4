"""From the opened update sums of a round to the next model."""

from collections.abc import Sequence

import numpy as np

from qepa_wire.keystream import STREAM_UPDATE
from qepa_wire.model import Model

from ..robust.aggregate import Aggregator
from ..training.averaging import LearningRule
from .ledger import SUMMED, SumRecord


def next_model(current: Model, sums: Sequence[SumRecord], aggregator: Aggregator, rule: LearningRule) -> Model | None:
    """Return the model after a round; None where no cell opened its update."""
    opened = [record for record in sums if record.stream == STREAM_UPDATE and record.state == SUMMED]
    if not opened:
        return None
    means = np.array([np.asarray(record.total, np.float64) / len(record.boards) for record in opened])
    words = rule.apply(current.words, aggregator(means))
    return current._replace(version=current.version + 1, words=words)
