"""Figures of beat classification by AAMI classes, with EC57's matching, from counts that can be added over people.

A tally is an int64 array [5, 5]: rows are the annotated N, S, V, F and "no beat", columns the answers N, S, V, F and
"not found". Beats of class Q are in no tally (EC57 4.3.2 leaves them out of both).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_tools.recordings.board_beats import BoardBeats
from qepa_tools.recordings.recording import AAMI_CLASSES, UNCLASSIFIED

Tally = NDArray[np.int64]

N_CLASSES = len(AAMI_CLASSES)
NONE = N_CLASSES  # row of false detections, column of beats not found
MACRO = 3  # macro F1 is over N, S, V: of F there is next to nothing outside one record
DRAWS = 2000
BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Shares, None where there is nothing to divide by; per class in the order of AAMI_CLASSES.

    accuracy: of annotated beats that were found. sensitivity: of annotated beats, found or not. ppv: of answers, false
    detections among them. f1: of these two, where the class is annotated. macro_f1: mean over N, S, V as far as
    annotated. detection_*: of beats whatever their class.
    """

    beats: int
    accuracy: float | None
    sensitivity: tuple[float | None, ...]
    ppv: tuple[float | None, ...]
    f1: tuple[float | None, ...]
    macro_f1: float | None
    detection_sensitivity: float | None
    detection_ppv: float | None


def tally(beats: BoardBeats, answers: NDArray[np.int64], chosen: NDArray[np.bool_] | None = None) -> Tally:
    """Count the answers for all beats that the board found, and the beats that it did not; chosen: only these.

    With `chosen`, beats that were not found are not counted: they are no rows.
    """
    counts = np.zeros((N_CLASSES + 1, N_CLASSES + 1), np.int64)
    counted = beats.classes != UNCLASSIFIED
    if chosen is not None:
        counted &= chosen
    annotated = np.where(beats.classes >= 0, beats.classes, NONE).astype(np.int64)
    np.add.at(counts, (annotated[counted], answers[counted]), 1)
    if chosen is None:
        for c in beats.missed[beats.missed >= 0]:
            counts[c, NONE] += 1
    return counts


def figures(counts: Tally) -> Figures:
    """Return the figures of a tally."""
    found = counts[:N_CLASSES, :N_CLASSES]
    right = np.diag(found)
    annotated, answered = counts[:N_CLASSES].sum(axis=1), counts[:, :N_CLASSES].sum(axis=0)
    f1 = tuple(share(2 * right[c], annotated[c] + answered[c]) if annotated[c] else None for c in range(N_CLASSES))
    known = [value for value in f1[:MACRO] if value is not None]
    return Figures(
        beats=int(annotated.sum()),
        accuracy=share(right.sum(), found.sum()),
        sensitivity=tuple(share(right[c], annotated[c]) for c in range(N_CLASSES)),
        ppv=tuple(share(right[c], answered[c]) for c in range(N_CLASSES)),
        f1=f1,
        macro_f1=sum(known) / len(known) if known else None,
        detection_sensitivity=share(found.sum(), annotated.sum()),
        detection_ppv=share(found.sum(), answered.sum()),
    )


def share(part: float, whole: float) -> float | None:
    """Return part / whole, None of nothing."""
    return float(part) / float(whole) if whole else None


def accuracy_and_f1(classes: NDArray[np.int64], answers: NDArray[np.int64]) -> tuple[float, list[float]]:
    """Accuracy over N, S, V, F and F1 of N, S, V, of beats found."""
    f1 = []
    for c in range(MACRO):
        whole = (classes == c).sum() + (answers == c).sum()
        f1.append(float(2 * ((classes == c) & (answers == c)).sum() / max(1, whole)))
    return float((classes == answers).mean()), f1


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95 % interval; None where most draws have nothing to divide by."""

    low: float
    high: float


def person_bootstrap(tallies: Mapping[str, Tally], draws: int = DRAWS, seed: int = 1) -> dict[str, Interval | None]:
    """Percentile intervals of figures when persons, not beats, are drawn with replacement; keys as in `flat`.

    Beats of one heart are alike: an interval over beats would be far too narrow.
    """
    names = sorted(tallies)
    stack = np.array([tallies[name] for name in names])
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {}
    for _ in range(draws):
        drawn = stack[rng.integers(0, len(names), len(names))].sum(axis=0)
        for key, value in flat(figures(drawn)).items():
            kept = values.setdefault(key, [])
            if value is not None:
                kept.append(value)
    return {key: _interval(kept, draws) for key, kept in values.items()}


def _interval(values: list[float], draws: int) -> Interval | None:
    if 2 * len(values) < draws:
        return None
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))


def flat(of: Figures) -> dict[str, float | None]:
    """Return figures under names such as `accuracy`, `S sensitivity`, `V ppv`."""
    result: dict[str, float | None] = {"accuracy": of.accuracy, "macro_f1": of.macro_f1}
    for c, name in enumerate(AAMI_CLASSES):
        result |= {f"{name} sensitivity": of.sensitivity[c], f"{name} ppv": of.ppv[c], f"{name} f1": of.f1[c]}
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Whether what the model calls 80 % certain is right in 80 % of cases.

    In each of BINS bins of equal width of the probability: beats, mean probability, share that is so; ece, the mean
    distance of the two, weighed by beats (Guo et al., ICML 2017).
    """

    beats: tuple[int, ...]
    probability: tuple[float | None, ...]
    frequency: tuple[float | None, ...]
    ece: float | None


def reliability(probability: NDArray[np.float64], so: NDArray[np.bool_]) -> Reliability:
    """Compare probabilities with what was so, a beat each."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    beats = np.bincount(place, minlength=BINS)
    sums, hits = (np.bincount(place, weights=v, minlength=BINS) for v in (probability, so.astype(float)))
    return Reliability(
        beats=tuple(int(n) for n in beats),
        probability=tuple(share(s, n) for s, n in zip(sums, beats, strict=True)),
        frequency=tuple(share(h, n) for h, n in zip(hits, beats, strict=True)),
        ece=share(float(np.abs(sums - hits).sum()), int(beats.sum())),
    )
