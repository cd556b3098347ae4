"""Releases of models: pushed by a person's signed order, tried, released, and taken back when they are not borne.

Going back is a new version with the contents of an old one: boards and gateways refuse old numbers. It happens by
itself when boards or gateways do not bear the newest version, or when its drift stays beyond its limit; never twice in
a row, since two failures say that the fault is not the model's. Then a person decides. One gateway's word is enough: a
lie costs what was learned since, not a patient's safety, and the audit log has the liar's name.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from qepa_uplink.errors import UplinkError
from qepa_uplink.messages import ModelStatus, Status
from qepa_uplink.releases import BOARD_MODEL, ModelOrder, SignedOrder
from qepa_wire.errors import WireError
from qepa_wire.model import decode_model

from ..errors import RefusedError
from ..explain.drift import DriftSignal
from .bedside import BedsideLines
from .models import ModelRegistry
from .orders import Given, Orders
from .versions import CANARY, PREPARED, PUSHED, RELEASED, ROLLBACK, UNBORNE, WITHDRAWN, Version, VersionStore

_LOG = logging.getLogger(__name__)
_DEEPEST_CARD = 8


class ReleaseDesk:
    """``concerned()`` are gateways that are there and have boards; ``send(gateway, data)`` queues bytes.

    drift_windows: so many windows in a row beyond the limit take the newest version back.
    """

    def __init__(
        self,
        *,
        versions: VersionStore,
        registry: ModelRegistry,
        bedside: BedsideLines,
        orders: Orders,
        drift_windows: int,
        clock_ms: Callable[[], int],
        concerned: Callable[[], frozenset[str]],
        send: Callable[[str, bytes], None],
    ) -> None:
        self.versions = versions
        self.bedside = bedside
        self._registry = registry
        self._orders = orders
        self._drift_windows = drift_windows
        self._clock_ms = clock_ms
        self._concerned = concerned
        self._send = send
        self._stages: dict[str, ModelStatus] = {}
        bedside.failed = self._fail

    def newest(self, name: str) -> Version | None:
        """The highest version of a line."""
        return self._registry.newest if name == BOARD_MODEL else self.bedside.newest(name)

    def order(self, signed: SignedOrder) -> Version:
        """Carry out a person's order and return the version that it made; the same order again makes no other.

        Raises UplinkError (certificate, signature, schema) or RefusedError (time, older, model, shape, digest,
        version).
        """
        given = self._orders.verify(signed, ModelOrder)
        done = self.versions.of_order(given.digest)
        if done is not None:
            return done
        self._orders.admit(given)
        return self._push(given) if given.order.what == "push" else self._roll_back(given)

    def _push(self, given: Given[ModelOrder]) -> Version:
        order = given.order
        card = _card(order)
        about: dict[str, Any] = {"by": given.by, "reason": order.reason, "order_digest": given.digest}
        if order.name != BOARD_MODEL:
            return self._store(
                self.bedside.pushed(order.name, order.blob, card, self._clock_ms(), **about), given=given
            )
        try:
            model = decode_model(order.blob)
        except WireError as error:
            raise RefusedError("model", str(error)) from error
        return self._store(self._registry.pushed(model, card, self._clock_ms(), **about), given=given)

    def _roll_back(self, given: Given[ModelOrder]) -> Version:
        order = given.order
        newest = self.newest(order.name)
        if newest is None:
            raise RefusedError("model", f"no line of models is called {order.name}, or it has no version")
        kept = self.versions.find(order.name, order.to) if order.to else self.versions.before(newest)
        if kept is None or kept.version >= newest.version:
            raise RefusedError("version", f"there is no version of {order.name} to go back to")
        reason = f"rolled back by {given.by}" + (f": {order.reason}" if order.reason else "")
        return self._go_back(newest, kept, reason, given)

    def on_status(self, gateway: str, status: Status) -> None:
        """A gateway tells how far models have come there."""
        self.bedside.on_status(gateway, status.bedside)
        if status.model is not None:
            self._stages[gateway] = status.model
            self._judge_board_model()

    def _judge_board_model(self) -> None:
        newest = self._registry.newest
        stages = {name: told for name, told in self._stages.items() if told.version == newest.version}
        for gateway, told in stages.items():
            if told.stage == WITHDRAWN:
                self._fail(newest, f"{len(told.failed)} boards at {gateway} do not bear it")
                return
        if newest.state == PREPARED and stages:
            self._advance(newest, CANARY, min(stages))
        elif newest.state == CANARY and all(
            name in stages and stages[name].stage == "ward" for name in self._concerned()
        ):
            self._advance(newest, RELEASED)

    def on_drift(self, signal: DriftSignal) -> None:
        """A monitor tells of one more window; those of another version than the newest say nothing of it."""
        newest = self.newest(signal.name)
        if newest is None or newest.version != signal.version or newest.state == WITHDRAWN:
            return
        windows = newest.drift_windows + 1 if signal.raised else 0
        if windows >= self._drift_windows:
            reason = f"drift {signal.score:.3g} beyond {signal.limit:.3g} in {windows} windows since {signal.since}"
            self._fail(newest, reason, steady=True)
            newest = self.newest(signal.name) or newest
        if newest.version == signal.version and windows != newest.drift_windows:
            with self.versions.store.write() as connection:
                self.versions.note_drift(connection, newest, windows)
            self._adopt(replace(newest, drift_windows=windows))

    def _fail(self, version: Version, reason: str, *, steady: bool = False) -> None:
        """Go back from ``version``; where that cannot be it stays, unless it is a gateways' first model of its line."""
        if version.state == WITHDRAWN:
            return
        kept = None if version.origin == ROLLBACK else self.versions.before(version, steady=steady)
        if kept is not None:
            self._go_back(version, kept, reason)
        elif version.name != BOARD_MODEL and version.origin == PUSHED:
            self._advance(version, WITHDRAWN, reason=reason)
        else:
            self._note_unborne(version, reason)

    def _note_unborne(self, version: Version, reason: str) -> None:
        if version.reason.startswith(UNBORNE):
            return
        _LOG.error("model %s %d: %s; a person has to decide", version.name, version.version, reason)
        told = f"{UNBORNE}{reason}" + (f"; {version.reason}" if version.reason else "")
        with self.versions.store.write() as connection:
            self.versions.note_unborne(connection, version, told, self._clock_ms())
        self._adopt(replace(version, reason=told))

    def _go_back(self, newest: Version, kept: Version, reason: str, given: Given[ModelOrder] | None = None) -> Version:
        now_ms = self._clock_ms()
        said = f"version {newest.version}: {reason}"
        about: dict[str, Any] = {"reason": said[:200]}
        if given is not None:
            about |= {"by": given.by, "order_digest": given.digest}
        line = self._registry if newest.name == BOARD_MODEL else self.bedside
        version = line.again(kept, now_ms, **about)
        _LOG.warning(
            "model %s goes back to the words of %d as %d: %s", newest.name, kept.version, version.version, said
        )
        return self._store(version, kept, given)

    def _store(self, version: Version, kept: Version | None = None, given: Given[ModelOrder] | None = None) -> Version:
        """Make a version the newest of its line, and withdraw what came after ``kept``, in one transaction."""
        with self.versions.store.write() as connection:
            if given is not None:
                self._orders.spend(connection, given)
            if kept is not None:
                self.versions.withdraw_after(connection, version.name, kept.version, version.reason, version.created_ms)
            if version.name == BOARD_MODEL:
                self._registry.release(connection, version)
            else:
                self.versions.add(connection, version)
        self._adopt(version)
        if version.name == BOARD_MODEL:
            for gateway in self._concerned():
                self._send(gateway, version.envelope)
        return version

    def _advance(self, version: Version, state: str, canary: str = "", *, reason: str = "") -> None:
        now_ms = self._clock_ms()
        with self.versions.store.write() as connection:
            self.versions.advance(connection, version, state, now_ms, reason=reason, canary=canary)
        self._adopt(
            replace(
                version,
                state=state,
                canary=canary or version.canary,
                reason=reason or version.reason,
                changed_ms=now_ms,
            )
        )

    def _adopt(self, version: Version) -> None:
        if version.name == BOARD_MODEL:
            self._registry.adopt(version)
        else:
            self.bedside.adopt(version)


def _card(order: ModelOrder) -> dict[str, Any]:
    try:
        card = json.loads(order.card, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UplinkError("schema", "the card is no JSON") from error
    if not isinstance(card, dict) or _depth(card) > _DEEPEST_CARD:
        raise UplinkError("schema", f"a card is a JSON object of at most {_DEEPEST_CARD} levels")
    return card


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _depth(value: object) -> int:
    inner: list[object] = [value]
    for depth in range(_DEEPEST_CARD + 1):
        inner = [
            item
            for each in inner
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not inner:
            return depth
    return _DEEPEST_CARD + 1
