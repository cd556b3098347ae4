"""Models that the gateway runs itself: taken from the server with rising versions, told of in the heartbeat.

What is not taken is remembered, with the reason, until a newer version comes: the server goes back then.
"""

import json
import logging
from collections import Counter
from hashlib import sha256

from qepa_uplink.bedside_models import CONTRACTS
from qepa_uplink.messages import BedsideRelease, BedsideStatus

from .errors import Refused
from .inference.runtime import InferenceError
from .inference.shelf import ModelShelf
from .spool.database import Spool

_LOG = logging.getLogger(__name__)
_REFUSED = "bedside_refused_"
_NO_DIGEST = bytes(32)


class BedsideModels:
    """``errors`` counts, by name of a model, how often it failed; a new version begins at none.

    Without a ``shelf`` there is no runtime for models.
    """

    def __init__(self, spool: Spool, shelf: ModelShelf | None, errors: Counter[str]) -> None:
        self._spool = spool
        self._shelf = shelf
        self._errors = errors
        self._refused: dict[str, tuple[int, str]] = {}
        for name in CONTRACTS:
            stored = spool.get(_REFUSED + name)
            if stored is not None:
                version, reason = json.loads(stored)
                self._refused[name] = (int(version), str(reason))

    def take(self, message: BedsideRelease, _sender: str) -> None:
        """Keep and use a release; raises Refused("model") for one that is older, damaged, or of another shape."""
        shelf = self._shelf
        if shelf is None:
            raise Refused("model", "this gateway runs no models")
        if message.name not in CONTRACTS:
            raise Refused("model", f"no model is called {message.name}")
        current = shelf.version(message.name)
        if message.version == current and shelf.get(message.name)[1]["sha256"] == message.digest.hex():
            return
        if message.version <= current:
            raise Refused("model", f"version {message.version} of {message.name} after {current}")
        try:
            # Without a blob: the package's own, whose facts the server does not know.
            blob, facts = (message.blob, {}) if message.blob else shelf.shipped(message.name)
            if sha256(blob).digest() != message.digest:
                raise InferenceError(f"the model {message.name} is not the one that the release names")
            shelf.put(message.name, message.version, {**facts, **_card(message)}, blob)
        except InferenceError as error:
            self._remember(message, str(error))
            raise Refused("model", str(error)) from error
        self._errors[message.name] = 0
        _LOG.info("model name=%s version=%d", message.name, message.version)

    def _remember(self, message: BedsideRelease, reason: str) -> None:
        self._refused[message.name] = (message.version, reason[:200])
        with self._spool.transaction():
            self._spool.set(_REFUSED + message.name, json.dumps(self._refused[message.name]).encode())

    def status(self) -> tuple[BedsideStatus, ...]:
        """What runs here, for the heartbeat; nothing without a runtime."""
        shelf = self._shelf
        return () if shelf is None else tuple(self._status(shelf, name) for name in CONTRACTS)

    def _status(self, shelf: ModelShelf, name: str) -> BedsideStatus:
        refused_version, refused = self._refused.get(name, (0, ""))
        try:
            _, card = shelf.get(name)
        except InferenceError:
            version, digest = 0, _NO_DIGEST
        else:
            version, digest = int(card["version"]), bytes.fromhex(card["sha256"])
        return BedsideStatus(
            name=name,
            version=version,
            digest=digest,
            shipped=version > 0 and shelf.is_shipped(name),
            errors=self._errors[name],
            refused_version=refused_version if refused_version > version else 0,
            refused=refused if refused_version > version else "",
        )


def _card(message: BedsideRelease) -> dict[str, object]:
    try:
        card = json.loads(message.card)
    except (ValueError, RecursionError) as error:
        raise InferenceError(f"the card of {message.name} is no JSON") from error
    if not isinstance(card, dict):
        raise InferenceError(f"the card of {message.name} is no JSON object")
    return card
