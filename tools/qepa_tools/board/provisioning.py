"""`provision`, `dock` and `replace`: give a board its identity and keys, over the cable only."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx

from ..errors import ToolError
from .inventory import Inventory, KnownBoard
from .pinmap import PinMap
from .screen import Screen
from .session import BoardSession, DockCradle
from .station import StationConfig, open_dock

_DEFAULT_FS_HZ = 256
_LOWEST_FS_HZ = 200  # of an ECG; slower ones are another sensor's


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who a board becomes. ``renew``: also if it is somebody already, whose end key then ends."""

    board: int
    patient: str
    gateway: str
    renew: bool = False


def provision(
    session: BoardSession,
    station: StationConfig,
    enrolment: Enrolment,
    inventory: Inventory,
    *,
    dry_run: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
) -> dict[str, Any]:
    """Enrol the board with the server and write its identity; the board must be reset then. Raises ToolError."""
    chip, status = session.who()["id"], session.dock("status()")
    if status["provisioned"] and not enrolment.renew:
        raise ToolError(
            f"this board is {status['board']:08x} of {status['gateway']} already: add --renew to end its key and give "
            "it another."
        )
    done = {"chip": chip, "board": enrolment.board, "gateway": enrolment.gateway, "was": status["board"]}
    taken = inventory.by_number(enrolment.board)
    if taken is not None and taken.id != chip:
        raise ToolError(
            f"number {enrolment.board:08x} belongs to the board with chip {taken.id}: give this one another."
        )
    if dry_run:
        return done
    settings = station.settings(_ecg_rate(inventory, chip))

    async def enrol() -> None:
        async with open_dock(station, transport=transport) as dock:
            await dock.enrol(
                DockCradle(session),
                board=enrolment.board,
                patient=enrolment.patient,
                gateway=enrolment.gateway,
                settings=settings,
            )

    asyncio.run(enrol())
    inventory.note(
        chip,
        board=enrolment.board,
        patient=enrolment.patient,
        gateway=enrolment.gateway,
        replaced_by=None,
        seen_s=int(time.time()),
    )
    return done


def load_pads(
    session: BoardSession,
    station: StationConfig,
    pads: int,
    *,
    dry_run: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
) -> dict[str, Any]:
    """Take ``pads`` keys from Alice's KME on the link to the board's gateway and write them to the board."""
    status = session.dock("status()")
    gateway = status["gateway"]
    if not status["provisioned"]:
        raise ToolError("this board is not provisioned: run qepa board provision first.")
    if gateway not in station.kme:
        raise ToolError(f"the dock's settings name no KME for gateway {gateway}: add [kme.{gateway}].")
    done = {"board": status["board"], "gateway": gateway, "pads_before": status["pads"]}
    if dry_run:
        return done

    async def load() -> None:
        async with open_dock(station, transport=transport) as dock:
            await dock.load(DockCradle(session), gateway, pads)

    asyncio.run(load())
    return done | {"pads": session.dock("status()")["pads"]}


def replace_board(
    session: BoardSession,
    station: StationConfig,
    old: KnownBoard,
    new: int,
    inventory: Inventory,
    screen: Screen,
    *,
    dry_run: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
) -> dict[str, Any]:
    """Give the board in the cradle the patient of ``old``, under the number ``new``; end what ``old`` can say.

    Nothing is copied from the old board: the new one has its own number, end key and counters. The new board comes
    first; cut in between, the same command goes on. Raises ToolError.
    """
    if old.board is None or not old.patient:
        raise ToolError(
            "the old board was never provisioned from here: provision the new one with qepa board provision."
        )
    if new == old.board:
        raise ToolError("a new board needs a number of its own: the old one's counters end with it.")
    chip, status = session.who()["id"], session.dock("status()")
    if chip == old.id:
        raise ToolError("the board in the cradle is the old one: attach the new one.")
    done: dict[str, Any] = {"old": old.board, "new": new, "patient_moves": True, "gateway": old.gateway, "chip": chip}
    if status["provisioned"] and status["board"] != new:
        raise ToolError(f"the new board is {status['board']:08x} of {status['gateway']} already: take a free one.")
    if dry_run:
        return done
    if not status["provisioned"]:
        enrolment = Enrolment(new, old.patient, old.gateway)
        provision(session, station, enrolment, inventory, transport=transport)
        screen.say(f"Board {new:08x} is enrolled in place of {old.board:08x}.")

    async def retire() -> None:
        async with open_dock(station, transport=transport) as dock:
            await dock.retire(board=old.board or 0, patient=old.patient, gateway=old.gateway)

    asyncio.run(retire())
    inventory.note(old.id, replaced_by=new)
    screen.say(f"Board {old.board:08x} is retired: nothing that it still sends is taken.")
    return done


def _ecg_rate(inventory: Inventory, chip: str) -> int:
    """Sampling rate of the ECG of the board's sensor set; the usual one where there is none."""
    known = next((board for board in inventory.boards() if board.id == chip), None)
    if known is None or not known.profile or not known.target:
        return _DEFAULT_FS_HZ
    sensors = PinMap.load().board_record(known.target, known.profile)["sensors"]
    rates = [entry["fs_hz"] for entry in sensors if entry.get("fs_hz", 0) >= _LOWEST_FS_HZ]
    return rates[0] if rates else _DEFAULT_FS_HZ
