"""Models in files: a board's as qepa_tools.evaluation.model writes it, or NAME.tflite with its card NAME.json."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qepa_uplink.releases import BOARD_MODEL
from qepa_wire.model import HIDDEN, SOFTMAX, Model, encode_model

from ..errors import ToolError


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that has the shape its name promises, and its card."""

    name: str
    blob: bytes
    card: dict[str, Any]


def read_model(path: Path) -> ModelFile:
    """Read a model of either kind; raises ToolError for what no board or gateway would take."""
    return _bedside(path) if path.suffix == ".tflite" else _board(path)


def _board(path: Path) -> ModelFile:
    from qepa_board.learning.features import N_FEATURES  # noqa: PLC0415  # `qepa model list` needs none of it
    from qepa_board.learning.network import FRACTION_BITS  # noqa: PLC0415
    from qepa_tools.evaluation.model import load_model  # noqa: PLC0415
    from qepa_tools.recordings.recording import AAMI_CLASSES  # noqa: PLC0415

    found = load_model(path)
    kind = HIDDEN if found.hidden else SOFTMAX
    blob = encode_model(Model(0, kind, N_FEATURES, found.hidden, len(AAMI_CLASSES), FRACTION_BITS, found.words))
    card = {**found.card, "trained_on": sorted(found.trained_on)}
    return ModelFile(BOARD_MODEL, blob, card)


def _bedside(path: Path) -> ModelFile:
    from qepa_gateway.inference.contract import load_model  # noqa: PLC0415
    from qepa_gateway.inference.runtime import InferenceError  # noqa: PLC0415

    beside = path.with_suffix(".json")
    try:
        blob, card = path.read_bytes(), json.loads(beside.read_bytes())
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot read {path} and its card {beside.name}: {type(error).__name__}.") from error
    if not isinstance(card, dict) or not isinstance(card.get("name"), str):
        raise ToolError(f"{beside} is no card of a model.")
    if card.get("sha256") != hashlib.sha256(blob).hexdigest():
        raise ToolError(f"{beside} is the card of another model: its sha256 is not that of {path.name}.")
    try:
        load_model(card["name"], blob)
    except InferenceError as error:
        raise ToolError(f"{path}: {error}.") from error
    return ModelFile(card["name"], blob, card)
