"""The lines of models that gateways run themselves: one gateway first, then all.

A gateway tells in each Status which versions it runs. A new one goes to the first that tells of its line; when that one
has run it for a while without errors, to all. What a gateway ships is known here by version and digest alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from qepa_uplink.bedside_models import CONTRACTS
from qepa_uplink.envelope import sign
from qepa_uplink.identity import Identity
from qepa_uplink.messages import BedsideRelease, BedsideStatus
from qepa_wire.primitives import sha256

from ..errors import RefusedError
from . import cards
from .repetition import Repetition
from .versions import CANARY, PREPARED, PUSHED, RELEASED, ROLLBACK, SHIPPED, WITHDRAWN, Card, Version, VersionStore

_FURTHEST = 1000  # beyond the newest version: no package ships such a number
_MOST_SHIPPED = 8
_IDENTIFIER = b"TFL3"  # at bytes 4 to 8 (TensorFlow Lite schema, file_identifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class BedsideTerms:
    """``soak_ms``: how long the first gateway runs a version before all get it; within ``confirm_within_ms`` it has to
    have it, else another one tries. More errors than ``most_errors`` at one gateway withdraw it."""

    confirm_within_ms: int = 600_000
    soak_ms: int = 600_000
    most_errors: int = 3


class BedsideLines:
    """``send(gateway, data)`` queues bytes; ``failed(version, reason)`` is told of a version that is not borne."""

    def __init__(
        self,
        *,
        versions: VersionStore,
        identity: Identity,
        terms: BedsideTerms,
        clock_ms: Callable[[], int],
        send: Callable[[str, bytes], None],
    ) -> None:
        self._versions = versions
        self._identity = identity
        self._terms = terms
        self._clock_ms = clock_ms
        self._send = send
        self.failed: Callable[[Version, str], object] = lambda _version, _reason: None
        self.told: dict[str, dict[str, BedsideStatus]] = {}  # gateway, name: what it said last
        self._newest = {name: found for name in CONTRACTS if (found := versions.newest(name)) is not None}
        self._shipped: set[tuple[str, int]] = set()
        self._confirmed_ms: dict[tuple[str, int], int] = {}
        self._repetition = Repetition()

    def newest(self, name: str) -> Version | None:
        """The highest version of a line; None before a gateway told of one."""
        return self._newest.get(name)

    def adopt(self, version: Version) -> None:
        """Make a stored version the newest of its line, or take in how far it has come."""
        self._newest[version.name] = version

    def again(self, kept: Version, now_ms: int, **about: Any) -> Version:
        """Return the contents of ``kept`` as a new version, signed; it was borne before, so all gateways get it."""
        facts = cards.again(kept.card)
        return self._prepare(kept.name, kept.blob, kept.digest, facts, now_ms, origin=ROLLBACK, state=RELEASED, **about)

    def pushed(self, name: str, blob: bytes, card: Card, now_ms: int, **about: Any) -> Version:
        """Return what a person pushed as a new version, signed; raises RefusedError("model" or "digest").

        Whether its shape fits, gateways find out: they have the runtime.
        """
        if name not in CONTRACTS:
            raise RefusedError("model", f"no line of models is called {name}")
        if blob[4:8] != _IDENTIFIER:
            raise RefusedError("model", f"{len(blob)} bytes are no TFLite model")
        digest = sha256(blob)
        if card.get("name") != name or card.get("sha256") != digest.hex():
            raise RefusedError("digest", "the card is of another model")
        return self._prepare(name, blob, digest, card, now_ms, origin=PUSHED, **about)

    def _prepare(self, name: str, blob: bytes, digest: bytes, facts: Card, now_ms: int, **about: Any) -> Version:
        newest = self.newest(name)
        told = [each[name].version for each in self.told.values() if name in each and self._is_likely(each[name])]
        draft = Version(
            name=name,
            version=1 + max([0 if newest is None else newest.version, *told]),
            digest=digest,
            blob=blob,
            parent=0 if newest is None else newest.version,
            created_ms=now_ms,
            changed_ms=now_ms,
            **about,
        )
        draft = replace(draft, card=cards.bedside_card(draft, facts, self._identity.name))
        message = BedsideRelease(
            name=name, version=draft.version, digest=digest, blob=blob, card=cards.as_json(draft.card)
        )
        return replace(draft, envelope=sign(self._identity, message))

    def on_status(self, gateway: str, told: tuple[BedsideStatus, ...]) -> None:
        """A gateway tells what it runs: judge by it, and send what it lacks, less and less often."""
        self.told[gateway] = {each.name: each for each in told if each.name in CONTRACTS}
        for each in self.told[gateway].values():
            self._learn_shipped(each)
            version = self._newest.get(each.name)
            if version is None or version.state == WITHDRAWN or not version.envelope:
                continue
            self._judge(gateway, each, version)
            self._send_if_lacking(gateway, each, self._newest[each.name])

    def _learn_shipped(self, told: BedsideStatus) -> None:
        place = (told.name, told.version)
        if not told.shipped or not told.version or place in self._shipped or not self._is_likely(told):
            return
        if sum(name == told.name for name, _ in self._shipped) >= _MOST_SHIPPED:
            return
        self._shipped.add(place)
        if self._versions.find(*place) is not None:
            return
        now_ms = self._clock_ms()
        version = Version(
            name=told.name,
            version=told.version,
            origin=SHIPPED,
            digest=told.digest,
            state=RELEASED,
            created_ms=now_ms,
            changed_ms=now_ms,
        )
        version = replace(version, card=cards.bedside_card(version, {}, self._identity.name))
        with self._versions.store.write() as connection:
            self._versions.add(connection, version)
        newest = self._newest.get(told.name)
        if newest is None or newest.version < version.version:
            self.adopt(version)

    def _is_likely(self, told: BedsideStatus) -> bool:
        """A gateway that lies must not use the numbers up."""
        newest = self._newest.get(told.name)
        return told.version <= _FURTHEST + (0 if newest is None else newest.version)

    def _judge(self, gateway: str, told: BedsideStatus, version: Version) -> None:
        now_ms = self._clock_ms()
        if told.refused_version == version.version:
            self.failed(version, f"{gateway} refuses it: {told.refused}")
        elif told.version == version.version and told.errors > self._terms.most_errors:
            self.failed(version, f"{told.errors} errors at {gateway}")
        elif version.state == CANARY and gateway == version.canary and told.version == version.version:
            since_ms = self._confirmed_ms.setdefault((version.name, version.version), now_ms)
            if now_ms - since_ms >= self._terms.soak_ms:
                self._advance(version, RELEASED)
        elif version.state == PREPARED or (version.state == CANARY and self._is_overdue(version, now_ms)):
            self._advance(version, CANARY, canary=gateway)

    def _is_overdue(self, version: Version, now_ms: int) -> bool:
        confirmed = (version.name, version.version) in self._confirmed_ms
        return not confirmed and now_ms - version.changed_ms > self._terms.confirm_within_ms

    def _advance(self, version: Version, state: str, *, canary: str = "") -> None:
        now_ms = self._clock_ms()
        with self._versions.store.write() as connection:
            self._versions.advance(connection, version, state, now_ms, canary=canary)
        self.adopt(replace(version, state=state, canary=canary or version.canary, changed_ms=now_ms))

    def _send_if_lacking(self, gateway: str, told: BedsideStatus, version: Version) -> None:
        meant = version.state == RELEASED or (version.state == CANARY and version.canary == gateway)
        if not meant or told.version >= version.version or told.refused_version == version.version:
            return
        if self._repetition.is_due((gateway, version.name), version.version, self._clock_ms()):
            self._send(gateway, version.envelope)
