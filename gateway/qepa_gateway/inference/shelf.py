"""The newest model of each name: shipped with the package, or kept in the state directory since the server sent it.

A model is NAME.tflite with its card NAME.json, which holds at least ``name``, ``version`` and ``sha256`` of the blob.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qepa_uplink.identity import write_private

from ..errors import Refused, SpoolError
from .contract import load_model
from .runtime import InferenceError, Int8Model

SHIPPED = Path(__file__).with_name("models")
MAX_CARD = 256 * 1024
MAX_VERSION = 2**32 - 1

Card = Mapping[str, Any]


class ModelShelf:
    """Models by name. Without ``state_dir`` only those that ship are there, and none is taken."""

    def __init__(self, state_dir: Path | None, shipped: Path = SHIPPED) -> None:
        self._kept = None if state_dir is None else state_dir / "models"
        self._shipped = shipped
        self._loaded: dict[str, tuple[Int8Model, Card]] = {}
        self._shipped_cards: dict[str, Card | None] = {}
        self.faults: dict[str, str] = {}  # by name: why a file of it was passed over

    def get(self, name: str) -> tuple[Int8Model, Card]:
        """Return the newest usable model and its card; raises InferenceError if there is none."""
        if name not in self._loaded:
            self._loaded[name] = self._newest(name)
        return self._loaded[name]

    def version(self, name: str) -> int:
        """Version of the newest usable model, 0 without one."""
        try:
            return int(self.get(name)[1]["version"])
        except InferenceError:
            return 0

    def put(self, name: str, version: int, card: Card, blob: bytes) -> None:
        """Keep an authentic model; it is what :meth:`get` returns from now on.

        Raises Refused("model") if it is no newer than what is here, InferenceError if it is no model of this name's
        shape or its card is another's, SpoolError if it cannot be stored.
        """
        if self._kept is None:
            raise Refused("model", "there is no place for models")
        model = load_model(name, blob)
        if version <= self.version(name):
            raise Refused("model", f"{name} {version} is no newer than {self.version(name)}")
        _check(card, name, blob)
        if card["version"] != version:
            raise InferenceError(f"the card of {name} {version} is that of version {card['version']}")
        text = json.dumps(dict(card))
        if len(text) > MAX_CARD:
            raise InferenceError(f"the card of {name} has {len(text)} bytes, more than {MAX_CARD}")
        folder = self._kept / name
        try:
            # Blob first: a card is there only when its blob is.
            write_private(folder / f"{version}.tflite", blob)
            write_private(folder / f"{version}.json", text.encode())
            self._forget_older(folder, version)
        except OSError as error:
            raise SpoolError(f"cannot store the model {name}: {error.strerror}") from error
        self._loaded[name] = (model, card)

    def shipped(self, name: str) -> tuple[bytes, Card]:
        """Return the blob and card that the package ships; raises InferenceError if there is none."""
        _, card = _load(self._shipped / f"{name}.json", name)
        return (self._shipped / f"{name}.tflite").read_bytes(), card

    def is_shipped(self, name: str) -> bool:
        """Whether what :meth:`get` returns is the package's own, under the version that it ships as."""
        return self.get(name)[1] == self._shipped_card(name)

    def _shipped_card(self, name: str) -> Card | None:
        if name not in self._shipped_cards:
            try:
                self._shipped_cards[name] = self.shipped(name)[1]
            except InferenceError:
                self._shipped_cards[name] = None
        return self._shipped_cards[name]

    def _newest(self, name: str) -> tuple[Int8Model, Card]:
        self.faults.pop(name, None)
        places = [self._shipped / f"{name}.json"]
        if self._kept is not None:
            kept = [path for path in (self._kept / name).glob("*.json") if path.stem.isdecimal()]
            places += sorted(kept, key=lambda path: int(path.stem))
        found: tuple[Int8Model, Card] | None = None
        for path in places:
            try:
                model, card = _load(path, name)
            except InferenceError as error:
                self.faults[name] = str(error)
                continue
            if found is None or card["version"] > found[1]["version"]:
                found = model, card
        if found is None:
            raise InferenceError(f"there is no usable model {name}: {self.faults.get(name, 'none ships')}")
        return found

    @staticmethod
    def _forget_older(folder: Path, version: int) -> None:
        for path in folder.iterdir():
            if path.stem.isdecimal() and int(path.stem) < version:
                path.unlink()


def _load(path: Path, name: str) -> tuple[Int8Model, Card]:
    try:
        card = json.loads(path.read_bytes())
        blob = path.with_suffix(".tflite").read_bytes()
    except (OSError, ValueError, RecursionError) as error:
        raise InferenceError(f"{path.name} or its model cannot be read ({type(error).__name__})") from error
    _check(card, name, blob)
    return load_model(name, blob), card


def _check(card: Card, name: str, blob: bytes) -> None:
    if not isinstance(card, dict) or card.get("name") != name:
        raise InferenceError(f"a card of {name} is another's")
    version = card.get("version")
    if type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise InferenceError(f"a card of {name} has the version {version!r}")
    if card.get("sha256") != hashlib.sha256(blob).hexdigest():
        raise InferenceError(f"a model {name} is not the one that its card describes")
