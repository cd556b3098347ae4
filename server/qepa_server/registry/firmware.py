"""Firmware on its way to gateways: the last release of each kind, sent until every gateway concerned tells of it.

What boards run is decided by the signature that the gateways and the boards verify, with a key that the server lacks.
Which boards get it, and when, a person orders.
"""

import json
from collections.abc import Callable

from qepa_uplink.envelope import sign
from qepa_uplink.firmware import Package, open_bundle
from qepa_uplink.identity import Identity
from qepa_uplink.messages import FirmwareRelease, FirmwareStatus, Status
from qepa_uplink.releases import FirmwareOrder, SignedFirmwareOrder
from qepa_wire.primitives import sha256

from ..audit import chain
from ..enrolment.register import BoardRegister
from ..errors import RefusedError
from ..parsing import parse
from ..store import settings
from ..store.database import Store
from .orders import Orders
from .repetition import Repetition

_RELEASE = "firmware:"
_STAGE = "firmware stage:"


class FirmwareDesk:
    """``send(gateway, data)`` queues bytes for a gateway."""

    def __init__(
        self,
        *,
        store: Store,
        identity: Identity,
        register: BoardRegister,
        orders: Orders,
        clock_ms: Callable[[], int],
        send: Callable[[str, bytes], None],
    ) -> None:
        self._store = store
        self._identity = identity
        self._register = register
        self._orders = orders
        self._clock_ms = clock_ms
        self._send = send
        self._repetition = Repetition()
        self._told: dict[str, dict[str, dict[str, str | int]]] = {}  # gateway, kind: how far it is there
        self._releases: dict[str, FirmwareRelease] = {}
        with store.read() as connection:
            for kind, value in settings.under(connection, _RELEASE).items():
                self._releases[kind] = parse(FirmwareRelease, value)
            for gateway, value in settings.under(connection, _STAGE).items():
                self._told[gateway] = json.loads(value)

    def order(self, signed: SignedFirmwareOrder) -> FirmwareRelease:
        """Carry out a person's order: hand a bundle to the gateways of its boards. Returns the release.

        Raises UplinkError (certificate, signature, schema, bundle) or RefusedError (replay, time, older, digest,
        board).
        """
        given = self._orders.open(signed.order, FirmwareOrder)
        order = given.order
        if sha256(signed.bundle) != order.bundle:
            raise RefusedError("digest", "the order is about another bundle")
        package = open_bundle(signed.bundle)
        self._check_newer(order.kind, package)
        boards = tuple(sorted(set(order.boards)))
        for board in boards:
            if board not in self._register:
                raise RefusedError("board", f"no board {board:08x} is enrolled")
        number = 1 + max((each.number for each in self._releases.values()), default=0)
        message = FirmwareRelease(number=number, kind=order.kind, boards=boards, bundle=signed.bundle)
        with self._store.write() as connection:
            self._orders.spend(connection, given)
            settings.put(connection, _RELEASE + order.kind, message.model_dump_json().encode())
            chain.append(
                connection,
                self._clock_ms(),
                "firmware.released",
                kind=order.kind,
                number=number,
                version=package.version,
                manifest=package.digest.hex(),
                boards=len(boards),
                by=given.by,
                reason=order.reason,
                order=given.digest.hex(),
            )
        self._releases[order.kind] = message
        return message

    def _check_newer(self, kind: str, package: Package) -> None:
        """The same again is a new attempt; gateways and boards would refuse anything else that is no newer."""
        last = self._releases.get(kind)
        if last is None:
            return
        there = open_bundle(last.bundle)
        if package.digest != there.digest and package.version <= there.version:
            raise RefusedError("older", f"version {package.version} of {kind} after {there.version}: build a newer one")

    def on_status(self, gateway: str, status: Status) -> None:
        """A gateway tells how far it is: note what is new, send what it lacks, less and less often."""
        told = {each.kind: each for each in status.firmware}
        for kind, release in self._releases.items():
            known = told.get(kind)
            if known is not None and known.number >= release.number:
                self._repetition.arrived((gateway, kind))
                self._note(gateway, known)
                continue
            mine = {board.board for board in self._register.of_gateway(gateway)} & set(release.boards)
            if mine and self._repetition.is_due((gateway, kind), release.number, self._clock_ms()):
                message = release.model_copy(update={"boards": tuple(sorted(mine))})
                self._send(gateway, sign(self._identity, message))

    def _note(self, gateway: str, known: FirmwareStatus) -> None:
        state: dict[str, str | int] = {
            "number": known.number,
            "version": known.version,
            "stage": known.stage,
            "failed": len(known.failed),
            "refused": known.refused,
        }
        told = self._told.get(gateway, {})
        if told.get(known.kind) == state:
            return
        told = self._told[gateway] = told | {known.kind: state}
        with self._store.write() as connection:
            settings.put(connection, _STAGE + gateway, json.dumps(told).encode())
            chain.append(connection, self._clock_ms(), "firmware.stage", gateway=gateway, kind=known.kind, **state)

    def state(self) -> list[dict[str, object]]:
        """Every kind's release, and its stage at each gateway."""
        return [
            {
                "kind": kind,
                "number": release.number,
                "boards": list(release.boards),
                "gateways": {gateway: told[kind] for gateway, told in sorted(self._told.items()) if kind in told},
            }
            for kind, release in sorted(self._releases.items())
        ]
