"""`qepa board release`: a person's order to the server, which hands a bundle to gateways; these take it to boards."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

from qepa_uplink.releases import FirmwareOrder, SignedFirmwareOrder
from qepa_wire.primitives import sha256

from ..errors import ToolError
from ..firmware_build.bundle import Bundle
from ..firmware_build.signing import public_key
from ..orders import OrderDesk
from .inventory import KnownBoard
from .pinmap import PinMap
from .station import StationConfig

_NAME_CHARS = 32


def release(
    bundle: Bundle,
    path: Path,
    station: StationConfig,
    inventory: Sequence[KnownBoard],
    identity: Path,
    *,
    reason: str = "",
    only: Iterable[int] | None = None,
    kind: str | None = None,
    dry_run: bool = False,
    transport: httpx.BaseTransport | None = None,
) -> dict[str, Any]:
    """Release the bundle in ``path`` for the boards that it fits, or for ``only`` these, signed with ``identity``.

    Raises ToolError.
    """
    if station.firmware_key is None:
        raise ToolError("the station's settings name no firmware_key: nobody here can tell who signed the bundle.")
    bundle.verify(public_key(station.firmware_key))
    chosen = _chosen(bundle, inventory, None if only is None else set(only))
    line = kind or _kind(bundle, chosen)
    done: dict[str, Any] = {"version": bundle.version, "kind": line, "boards": [each.board for each in chosen]}
    if dry_run:
        return done
    content, desk = path.read_bytes(), OrderDesk(station.server, identity, transport)
    order = desk.sign(FirmwareOrder, kind=line, boards=done["boards"], bundle=sha256(content), reason=reason)
    made = desk.post("/v1/firmware", SignedFirmwareOrder(order=order, bundle=content))
    return done | {"number": made["number"]}


def _chosen(bundle: Bundle, inventory: Sequence[KnownBoard], only: set[int] | None) -> list[KnownBoard]:
    profiles = PinMap.load().profiles
    chosen = []
    for each in inventory:
        if each.board is None or each.replaced_by is not None or (only is not None and each.board not in only):
            continue
        lacking = bundle.lacking(profiles.get(each.profile, ()))
        if each.target == bundle.target and not lacking:
            chosen.append(each)
        elif only is not None:
            why = f"is an {each.target}" if each.target != bundle.target else f"needs a driver for {lacking[0]}"
            raise ToolError(f"the bundle is not for board {each.board:08x}, which {why}.")
    missing = (only or set()) - {each.board for each in chosen}
    if missing:
        raise ToolError(f"board {min(missing):08x} is not in the inventory.")
    if not chosen:
        raise ToolError(f"no board of the inventory is an {bundle.target} whose sensors this bundle has drivers for.")
    return chosen


def _kind(bundle: Bundle, boards: Sequence[KnownBoard]) -> str:
    names = [bundle.target, *sorted({each.profile for each in boards if each.profile})]
    return "-".join(names).replace("_", "-")[:_NAME_CHARS].rstrip("-")
