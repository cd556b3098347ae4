"""The line of models that boards compute: the newest one, and the signed message that carries it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from qepa_uplink.envelope import sign
from qepa_uplink.identity import Identity
from qepa_uplink.messages import ModelRelease
from qepa_uplink.releases import BOARD_MODEL
from qepa_wire.model import CONTEXT, Model, decode_model, encode_model, encode_release
from qepa_wire.primitives import sha256

from ..errors import RefusedError
from ..store import settings
from . import cards
from .signer import HssSigner
from .versions import CANARY, FEDERATED, PREPARED, PUSHED, ROLLBACK, SHIPPED, WITHDRAWN, Card, Version, VersionStore

_USED_KEY = "hss_used"
HOLD_MS = 300_000  # rounds wait so long at most for a model that a person or a rollback brought


def signatures_used(connection: Connection) -> int:
    """Signatures of the model key that the database knows of."""
    used = settings.read(connection, _USED_KEY)
    return 0 if used is None else int(used)


def content_digest(model: Model) -> bytes:
    """Return what tells models apart whatever their version."""
    return sha256(encode_model(model._replace(version=0)))


class ModelRegistry:
    """The current model and its release; versions rise by one.

    ``facts(round)``: what is known of a round that a model came from, for its card.
    """

    def __init__(self, versions: VersionStore, signer: HssSigner, identity: Identity) -> None:
        self._versions = versions
        self._signer = signer
        self._identity = identity
        self.facts: Callable[[int], Card] = lambda _round: {}
        self._newest = versions.newest(BOARD_MODEL)
        self._current = None if self._newest is None else decode_model(self._newest.blob)
        self._start: tuple[int, tuple[int, ...]] = (0, ())

    @property
    def current(self) -> Model:
        """The newest model; :meth:`adopt` was called before."""
        if self._current is None:
            raise LookupError("no model was released yet")
        return self._current

    @property
    def newest(self) -> Version:
        """The version that :attr:`current` is."""
        if self._newest is None:
            raise LookupError("no model was released yet")
        return self._newest

    @property
    def rounds_trained(self) -> int:
        """Rounds that the current model has learned from since it began."""
        return self.newest.rounds_trained

    @property
    def start(self) -> tuple[int, ...]:
        """Words that learning began from, shipped or pushed; none where it began from zeros or random ones."""
        began = self.newest.began
        if self._start[0] != began:
            found = self._versions.find(BOARD_MODEL, began)
            learned = found is not None and found.origin in (SHIPPED, PUSHED)
            self._start = (began, decode_model(found.blob).words if found is not None and learned else ())
        return self._start[1]

    @property
    def empty(self) -> bool:
        """Tell whether there is no model yet."""
        return self._newest is None

    @property
    def envelope(self) -> bytes:
        """The newest ModelRelease, signed, as it is sent; nothing where it is withdrawn."""
        return b"" if self.newest.state == WITHDRAWN else self.newest.envelope

    @property
    def model_root(self) -> bytes:
        """The HSS public key."""
        return self._signer.public_key

    def settling(self, now_ms: int) -> bool:
        """Tell whether rounds should wait: a model that was pushed or gone back to is on its way to the boards."""
        newest = self.newest
        on_its_way = newest.origin in (PUSHED, ROLLBACK) and newest.state in (PREPARED, CANARY)
        return on_its_way and 0 <= now_ms - newest.created_ms < HOLD_MS

    def prepare(
        self,
        model: Model,
        now_ms: int,
        *,
        round_: int = 0,
        origin: str = FEDERATED,
        card: Card | None = None,
        **about: Any,
    ) -> Version:
        """Return ``model`` as a signed version, not yet in the registry (call :meth:`release` with it).

        ``card``: of the file that it came from, or of the version gone back to. ``about``: other fields of the Version.
        """
        blob = encode_model(model)
        release = encode_release(blob, self._signer.sign(CONTEXT + blob))
        if origin == FEDERATED:
            about |= {"rounds_trained": self.rounds_trained + 1, "began": self.newest.began}
            about["drift_windows"] = self.newest.drift_windows  # in a row: learning on ends no drift
        draft = Version(
            name=BOARD_MODEL,
            version=model.version,
            origin=origin,
            digest=content_digest(model),
            blob=blob,
            envelope=sign(self._identity, ModelRelease(version=model.version, round=round_, release=release)),
            parent=0 if self._newest is None else self._newest.version,
            round=round_,
            created_ms=now_ms,
            changed_ms=now_ms,
            **{"began": model.version, **about},
        )
        facts = self.facts(round_) if origin == FEDERATED else card or {}
        return replace(draft, card=cards.board_card(draft, model, facts, self._signer.public_key, self._identity.name))

    def again(self, kept: Version, now_ms: int, **about: Any) -> Version:
        """Return the contents of ``kept`` as a new version, signed; boards take no old number again."""
        model = decode_model(kept.blob)._replace(version=self.newest.version + 1)
        about |= {"rounds_trained": kept.rounds_trained, "began": kept.began}
        return self.prepare(model, now_ms, origin=ROLLBACK, card=cards.again(kept.card), **about)

    def pushed(self, model: Model, card: Card, now_ms: int, **about: Any) -> Version:
        """Return what a person pushed as a new version, signed; raises RefusedError("shape")."""
        mine = self.current
        if _shape(model) != _shape(mine):
            raise RefusedError("shape", f"{_said(model)}; boards here compute {_said(mine)}")
        return self.prepare(model._replace(version=self.newest.version + 1), now_ms, origin=PUSHED, card=card, **about)

    def release(self, connection: Connection, version: Version) -> None:
        """Store a prepared version in the caller's transaction; :meth:`adopt` it when that is durable."""
        self._versions.add(connection, version)
        settings.put(connection, _USED_KEY, str(self._signer.used).encode())

    def adopt(self, version: Version) -> None:
        """Make a stored version the current one, or take in how far the current one has come."""
        self._newest, self._current = version, decode_model(version.blob)


def _shape(model: Model) -> tuple[int, int, int, int]:
    return model.features, model.hidden, model.classes, model.fraction_bits


def _said(model: Model) -> str:
    return (
        f"{model.features} features, {model.hidden} hidden units, {model.classes} classes, "
        f"words of {model.fraction_bits} fractional bits"
    )
