"""The board model that ships with the package: what a fresh ward starts with where it has the shape asked for."""

import json
import struct
from pathlib import Path
from typing import Any

from qepa_wire.model import Model, encode_model

from ..errors import ServerError

_FRACTION_BITS = 12
SHIPPED = Path(__file__).parent / "shipped" / "board-beats.json"


def shipped_model(like: Model, path: Path = SHIPPED) -> tuple[Model, dict[str, Any]] | None:
    """Return the shipped model as version 1, and its card; None where it has another shape than ``like``.

    The file is one of qepa_tools.evaluation.model, words of 12 fractional bits. Raises ServerError("model") if it is
    damaged.
    """
    try:
        body = json.loads(path.read_bytes())
        words, card = tuple(body["words"]), {**body["card"], "trained_on": list(body["trained_on"])}
        if (len(words), body["hidden"], _FRACTION_BITS) != (len(like.words), like.hidden, like.fraction_bits):
            return None
        model = like._replace(version=1, words=words)
        encode_model(model)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ServerError("model", f"the shipped model {path.name} is damaged ({type(error).__name__})") from error
    return model, card
