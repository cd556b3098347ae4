"""A model for the bedside with its card, as it ships and as the server takes it."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from qepa_gateway.inference.contract import load_model
from qepa_gateway.inference.runtime import InferenceError
from qepa_tools.errors import ToolError
from qepa_uplink.bedside_models import CONTRACTS

Steps = Callable[[int, str], Iterable[int]]  # counts to a number and shows how far it is


def epochs_of(steps: Steps, what: str) -> Callable[[int], Iterable[int]]:
    """How training shows its epochs."""
    return lambda n: steps(n, what)


def track_of(steps: Steps) -> Callable[[Sequence[str], str], Iterable[str]]:
    """How a cohort shows its records."""
    return lambda names, what: (names[k] for k in steps(len(names), what))


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """``card``: name, version, SHA-256 of the blob, and facts that were measured."""

    blob: bytes
    card: Mapping[str, Any]


class Make(Protocol):
    """Cross-validate by person, then train on everybody; data: folder of the sets, raises DataError without them."""

    def __call__(self, data: Path | None, *, version: int, folds: int, epochs: int, steps: Steps) -> Made: ...


def made(name: str, version: int, blob: bytes, facts: Mapping[str, Any]) -> Made:
    """Put a card to a blob; ToolError if the blob is not of the shape that the name promises."""
    try:
        model = load_model(name, blob)
    except InferenceError as error:
        raise ToolError(str(error)) from error
    contract = CONTRACTS[name]
    card = {
        "name": name,
        "version": version,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "bytes": len(blob),
        "what": contract.what,
        "inputs": [[tensor.name, list(tensor.shape), tensor.unit] for tensor in contract.inputs],
        "outputs": list(contract.outputs),
        "output_step": model.output_step,
        **facts,
    }
    return Made(blob=blob, card=card)


def save(result: Made, out: Path) -> tuple[Path, Path]:
    """Write NAME.tflite and NAME.json; returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    name = result.card["name"]
    blob, card = out / f"{name}.tflite", out / f"{name}.json"
    blob.write_bytes(result.blob)
    card.write_text(json.dumps(dict(result.card), indent=1) + "\n", encoding="utf-8")
    return blob, card
