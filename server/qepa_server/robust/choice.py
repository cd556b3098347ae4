"""The aggregator that a configuration names."""

from enum import StrEnum

import numpy as np

from .aggregate import Aggregator, ClippedTrimmedMean, Floats, Rows, clip_norms
from .bucketing import Bucketing
from .rules import CoordinateMedian, GeometricMedian, Krum, Mean, MultiKrum, rows


class Rule(StrEnum):
    """Names of the rules."""

    TRIMMED_MEAN = "trimmed_mean"
    KRUM = "krum"
    MULTI_KRUM = "multi_krum"
    MEDIAN = "median"
    GEOMETRIC_MEDIAN = "geometric_median"
    MEAN = "mean"


class Clipped:
    """Rows clipped to ``norm_bound`` and then joined by ``rule``: no rule has to bear an enormous row."""

    def __init__(self, rule: Aggregator, *, norm_bound: float) -> None:
        self._rule = rule
        self._norm_bound = norm_bound

    def __call__(self, means: Rows) -> Floats:
        """Return the aggregate of ``means`` (cells, words)."""
        return self._rule(clip_norms(rows(means), self._norm_bound))


def aggregator(
    rule: Rule, *, norm_bound: float, hostile_share: float, bucket: int, rng: np.random.Generator
) -> Aggregator:
    """Return the clipped ``rule`` behind buckets of ``bucket`` cells (1: none).

    ``hostile_share``: of the cells, what trimming and Krum are set for, from 0 to below 0.5.
    """
    rules: dict[Rule, Aggregator] = {
        Rule.TRIMMED_MEAN: ClippedTrimmedMean(norm_bound=norm_bound, trim_fraction=hostile_share),
        Rule.KRUM: Krum(hostile_share=hostile_share),
        Rule.MULTI_KRUM: MultiKrum(hostile_share=hostile_share),
        Rule.MEDIAN: CoordinateMedian(),
        Rule.GEOMETRIC_MEDIAN: GeometricMedian(),
        Rule.MEAN: Mean(),
    }
    clipped = Clipped(rules[rule], norm_bound=norm_bound)
    return clipped if bucket == 1 else Bucketing(clipped, size=bucket, rng=rng)
