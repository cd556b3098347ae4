"""A board model in a file: its words, how it was made, and digests of what it was trained on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qepa_server
from qepa_board.learning.features import N_FEATURES
from qepa_board.learning.network import FRACTION_BITS, WORD_LIMIT, ModelShape
from qepa_tools.recordings.evaluation import class_scores
from qepa_tools.recordings.recording import AAMI_CLASSES, DataError, Recording
from qepa_wire.errors import WireError
from qepa_wire.model import MAGIC, decode_model

SHIPPED = Path(qepa_server.__file__).parent / "registry" / "shipped" / "board-beats.json"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardModel:
    """words: as on the board, Q12. trained_on: digests of the recordings it saw. card: facts about how it was made."""

    words: tuple[int, ...]
    hidden: int
    trained_on: frozenset[str]
    card: Mapping[str, Any]

    def scores(self, features: NDArray[np.int16]) -> NDArray[np.int64]:
        """Scores (Q20) of the classes, a row a beat, the board's own integers."""
        return class_scores(self.words, features, self.hidden)


def recording_digest(recording: Recording) -> str:
    """What a recording is known by, whatever its file is called: SHA-256 of the counts, in 16 hexadecimal digits."""
    return hashlib.sha256(recording.samples.tobytes()).hexdigest()[:16]


def load_model(path: Path) -> BoardModel:
    """Read a model, as save_model writes it or as boards get it; DataError if it is not one that a board can compute.

    What boards get does not tell whom it was trained on: trained_on is empty then, and so is the card.
    """
    try:
        content = path.read_bytes()
        if content.startswith(MAGIC):
            return _from_blob(content)
        body = json.loads(content)
        format_, hidden = body["format"], body["hidden"]
        words, trained_on, card = body["words"], body["trained_on"], body["card"]
        if format_ != FORMAT or not isinstance(card, dict) or not all(isinstance(d, str) for d in trained_on):
            raise ValueError(f"format {format_} is not {FORMAT}")
        if not all(type(word) is int and abs(word) <= WORD_LIMIT for word in words):
            raise ValueError(f"words must be whole numbers within {WORD_LIMIT}")
        expected = ModelShape(len(AAMI_CLASSES), N_FEATURES, hidden).words
        if len(words) != expected:
            raise ValueError(f"it has {len(words)} words, not {expected}")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, WireError) as error:
        raise DataError(f"{path} is no model of a board ({type(error).__name__}: {error}).") from error
    return BoardModel(words=tuple(words), hidden=hidden, trained_on=frozenset(trained_on), card=card)


def _from_blob(blob: bytes) -> BoardModel:
    model = decode_model(blob)
    if (model.features, model.classes, model.fraction_bits) != (N_FEATURES, len(AAMI_CLASSES), FRACTION_BITS):
        raise ValueError(f"{model.features} features, {model.classes} classes, words of {model.fraction_bits} bits")
    return BoardModel(words=tuple(model.words), hidden=model.hidden, trained_on=frozenset(), card={})


def save_model(path: Path, model: BoardModel) -> None:
    """Write a model, so that load_model reads it."""
    body = {
        "format": FORMAT,
        "hidden": model.hidden,
        "words": list(model.words),
        "trained_on": sorted(model.trained_on),
        "card": model.card,
    }
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in body.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def probabilities(scores: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax of scores in Q20; the board's own (in integers) is within 2^-11 of it."""
    z = (scores - scores.max(axis=1, keepdims=True)) / float(1 << 20)
    e = np.exp(z)
    return np.asarray(e / e.sum(axis=1, keepdims=True), dtype=np.float64)
