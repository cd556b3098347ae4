"""How a model does on patients who are not in the ward."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qepa_board.learning.features import LIMIT, N_FEATURES, ONE
from qepa_board.learning.network import ModelShape
from qepa_tools.recordings.board_beats import BoardBeats, FeatureCache
from qepa_tools.recordings.recording import AAMI_CLASSES, Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Beat classification on persons whom the model never saw.

    confusion[annotated][predicted]: counts of found beats, classes in the order of AAMI_CLASSES. accuracy: share of
    right ones; majority: what answering N always would reach. Per class sensitivity, PPV and F1, None where there is
    nothing to divide by. macro_f1: mean F1 over the classes that are annotated at all.
    """

    persons: int
    beats: int
    confusion: tuple[tuple[int, ...], ...]
    accuracy: float
    majority: float
    sensitivity: tuple[float | None, ...]
    ppv: tuple[float | None, ...]
    f1: tuple[float | None, ...]
    macro_f1: float


class HeldOut:
    """Held-out recordings, their features computed once by the board's code; evaluating a model is then one product."""

    def __init__(self, recordings: Sequence[Recording], cache: FeatureCache, duration_s: float) -> None:
        beats = [cache.beats(recording, duration_s) for recording in recordings]
        self._persons = len({recording.person for recording in recordings})
        self._features, self._classes = _stack(beats)

    def evaluate(self, weights: Sequence[int], hidden: int = 0) -> Evaluation:
        """Evaluate a model of 4 classes and ``hidden`` units (0: softmax regression), words as on the board."""
        return _evaluation(predict(weights, self._features, hidden), self._classes, self._persons)


def predict(weights: Sequence[int], features: NDArray[np.int16], hidden: int = 0) -> NDArray[np.int64]:
    """Class numbers, the same as qepa_board.learning.network.predict gives beat by beat."""
    return np.asarray(class_scores(weights, features, hidden).argmax(axis=1), dtype=np.int64)


def class_scores(weights: Sequence[int], features: NDArray[np.int16], hidden: int = 0) -> NDArray[np.int64]:
    """Scores (Q20) of the classes, a row a beat, the same as qepa_board.learning.network.scores writes."""
    shape = ModelShape(len(AAMI_CLASSES), N_FEATURES, hidden)
    words = np.array(weights, dtype=np.int64)
    x = _with_bias(features.astype(np.int64))
    if hidden:
        z = x @ words[: shape.first].reshape(hidden, N_FEATURES + 1).T
        x = _with_bias(np.clip((z + 2048) >> 12, 0, LIMIT))
    return np.asarray(x @ words[shape.first :].reshape(shape.classes, -1).T, dtype=np.int64)


def _with_bias(inputs: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([inputs, np.full((len(inputs), 1), ONE)], axis=1)


def _stack(beats: Sequence[BoardBeats]) -> tuple[NDArray[np.int16], NDArray[np.int8]]:
    features = [b.features[b.labelled] for b in beats]
    classes = [b.classes[b.labelled] for b in beats]
    if not beats:
        return np.zeros((0, N_FEATURES), np.int16), np.zeros(0, np.int8)
    return np.concatenate(features), np.concatenate(classes)


def _evaluation(predicted: NDArray[np.int64], classes: NDArray[np.int8], persons: int) -> Evaluation:
    n = len(AAMI_CLASSES)
    confusion = np.zeros((n, n), np.int64)
    np.add.at(confusion, (classes.astype(np.int64), predicted), 1)
    right = np.diag(confusion)
    annotated = confusion.sum(axis=1)
    answered = confusion.sum(axis=0)
    f1 = [_share(2 * right[c], annotated[c] + answered[c]) if annotated[c] else None for c in range(n)]
    known = [value for value in f1 if value is not None]
    beats = int(confusion.sum())
    return Evaluation(
        persons=persons,
        beats=beats,
        confusion=tuple(tuple(int(v) for v in row) for row in confusion),
        accuracy=float(right.sum() / beats) if beats else 0.0,
        majority=float(annotated[0] / beats) if beats else 0.0,
        sensitivity=tuple(_share(right[c], annotated[c]) for c in range(n)),
        ppv=tuple(_share(right[c], answered[c]) for c in range(n)),
        f1=tuple(f1),
        macro_f1=float(np.mean(known)) if known else 0.0,
    )


def _share(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None
