"""`provision`, `dock` and `replace`: give a board its identity and keys, over the cable only."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx

from qepa_board.keys.blocks import LEAST_BLOCK_BYTES, MAX_BLOCKS, MOST_BLOCK_BYTES
from qepa_board.keys.keyring import MAX_PADS

from ..errors import ToolError
from .inventory import Inventory, KnownBoard
from .pinmap import PinMap
from .screen import Screen
from .session import BoardSession, DockCradle
from .station import StationConfig, begins_after_1970, open_dock

SUITES = ("aes256", "otp")
MOST_PATIENT_BOARDS = 64
_DEFAULT_FS_HZ = 256
_LOWEST_FS_HZ = 200  # of an ECG; slower ones are another sensor's


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Who a board becomes. ``renew``: also if it is somebody already, whose end key then ends.

    ``suite``: link masks of its vectors; ``patient_boards``: how many boards the patient wears, 1 to 64, which share
    the clipping bound of rounds.
    """

    board: int
    patient: str
    gateway: str
    renew: bool = False
    suite: str = "aes256"
    patient_boards: int = 1

    def __post_init__(self) -> None:
        if self.suite not in SUITES:
            raise ToolError(f"no suite {self.suite}: choose one of {', '.join(SUITES)}.")
        if not 1 <= self.patient_boards <= MOST_PATIENT_BOARDS:
            raise ToolError(f"a patient wears 1 to {MOST_PATIENT_BOARDS} boards, not {self.patient_boards}.")


def provision(
    session: BoardSession,
    station: StationConfig,
    enrolment: Enrolment,
    inventory: Inventory,
    *,
    password: str | None = None,
    dry_run: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
) -> dict[str, Any]:
    """Enrol the board with the server and write its identity; the board must be reset then. Raises ToolError.

    ``password``: of the broker's user, where the settings name no file with it.
    """
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
    settings = station.settings(enrolment.board, _ecg_rate(inventory, chip), enrolment.suite, password=password)
    ca = settings.broker.ca
    done |= {"tls": ca is not None, "ca_too_young": ca is not None and begins_after_1970(ca)}
    if dry_run:
        return done

    async def enrol() -> None:
        async with open_dock(station, transport=transport) as dock:
            await dock.enrol(
                DockCradle(session),
                board=enrolment.board,
                patient=enrolment.patient,
                gateway=enrolment.gateway,
                settings=settings,
                patient_boards=enrolment.patient_boards,
            )

    asyncio.run(enrol())
    inventory.note(
        chip,
        board=enrolment.board,
        patient=enrolment.patient,
        gateway=enrolment.gateway,
        suite=enrolment.suite,
        patient_boards=enrolment.patient_boards,
        replaced_by=None,
        seen_s=int(time.time()),
    )
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLoad:
    """Quantum key for a board: pads of 32 bytes, and one-time blocks of ``block_bytes`` each."""

    pads: int = 0
    blocks: int = 0
    block_bytes: int = 1024

    def __post_init__(self) -> None:
        if not self.pads and not self.blocks:
            raise ToolError("nothing to load: give --pads, --blocks or both.")
        if not LEAST_BLOCK_BYTES <= self.block_bytes <= MOST_BLOCK_BYTES:
            raise ToolError(
                f"a one-time block has {LEAST_BLOCK_BYTES} to {MOST_BLOCK_BYTES} bytes, not {self.block_bytes}."
            )


def load_keys(
    session: BoardSession,
    station: StationConfig,
    load: KeyLoad,
    *,
    dry_run: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
) -> dict[str, Any]:
    """Take keys from Alice's KME on the link to the board's gateway and write them to the board. Raises ToolError.

    No key is taken for a board that has no room for it.
    """
    status = session.dock("status()")
    gateway = status["gateway"]
    if not status["provisioned"]:
        raise ToolError("this board is not provisioned: run qepa board provision first.")
    if gateway not in station.kme:
        raise ToolError(f"the dock's settings name no KME for gateway {gateway}: add [kme.{gateway}].")
    for what, there, more, most in (
        ("pads", status["pads"], load.pads, MAX_PADS),
        ("one-time blocks", status["blocks"], load.blocks, MAX_BLOCKS),
    ):
        if more and there + more > most:
            raise ToolError(f"the board has {there} {what} and room for {most}: load at most {most - there}.")
    done = {
        "board": status["board"],
        "gateway": gateway,
        "pads_before": status["pads"],
        "block_bytes_before": status["block_bytes"],
    }
    if dry_run:
        return done

    async def write() -> None:
        async with open_dock(station, transport=transport) as dock:
            cradle = DockCradle(session)
            if load.pads:
                await dock.load(cradle, gateway, load.pads)
            if load.blocks:
                await dock.load_blocks(cradle, gateway, load.blocks, load.block_bytes)

    asyncio.run(write())
    after = session.dock("status()")
    return done | {"pads": after["pads"], "block_bytes": after["block_bytes"]}


def replace_board(
    session: BoardSession,
    station: StationConfig,
    old: KnownBoard,
    new: int,
    inventory: Inventory,
    screen: Screen,
    *,
    password: str | None = None,
    dry_run: bool = False,
    transport: httpx.AsyncBaseTransport | None = None,
) -> dict[str, Any]:
    """Give the board in the cradle the patient and settings of ``old``, under the number ``new``; retire ``old``.

    No key is copied from the old board: the new one has its own number, end key and counters. The new board comes
    first; cut in between, the same command goes on. ``password`` as of provision(). Raises ToolError.
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
        enrolment = Enrolment(new, old.patient, old.gateway, suite=old.suite, patient_boards=old.patient_boards)
        provision(session, station, enrolment, inventory, password=password, transport=transport)
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
