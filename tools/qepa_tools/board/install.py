"""Puts a firmware bundle onto a board by cable: loader, one slot, pins; copies only what differs, in a safe order.

The slot in use is never touched. A copy that was cut leaves a slot without its manifest, which no loader starts, and
goes on where it was.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ToolError
from ..firmware_build.bundle import Bundle
from .session import BoardSession

SLOTS = ("a", "b")
BOARD_FILE = "/qepa/board.json"
_OLDEST_MICROPYTHON = (1, 25)
_MAIN, _MANIFEST = "main.py", "manifest"
_SLOT_IN_USE = """
import json
try:
    from qepa_boot.loader import Files, version_of
    from qepa_boot.record import NAMES, Slots
    print(json.dumps(NAMES[Slots(Files("/qepa"), version_of).confirmed]))
except ImportError:
    print("null")
"""
_ROM_BYTES = """
try:
    import vfs
    print(len(memoryview(vfs.rom_ioctl(2, 0))) if vfs.rom_ioctl(1) > 0 else 0)
except (ImportError, AttributeError):
    print(0)
"""
_BLOCK = 4096
_RECORD_BYTES = 80  # at most, of a file or directory in an image (firmware/qepa_boot/place.py)


@dataclass(frozen=True, slots=True)
class Installation:
    """What has to change on a board so that it runs a bundle. ``slot`` is where it goes; ``in_use`` where it is."""

    slot: str
    in_use: str | None
    files: dict[str, bytes]
    """Files to write, by path on the board, in the order in which they are written."""
    strangers: tuple[str, ...]
    """Files in that slot that do not belong to the bundle."""

    @property
    def size(self) -> int:
        """Bytes to write."""
        return sum(map(len, self.files.values()))

    @property
    def is_done(self) -> bool:
        """Whether the board runs the bundle as it is."""
        return not self.files and not self.strangers and self.in_use == self.slot


def check_micropython(who: Mapping[str, Any]) -> None:
    """Raise ToolError unless MicroPython on the board is new enough."""
    version = tuple(who["version"][:2])
    if version < _OLDEST_MICROPYTHON:
        found, needed = (".".join(map(str, each)) for each in (version, _OLDEST_MICROPYTHON))
        raise ToolError(f"the board has MicroPython {found}, the firmware needs {needed}: flash a newer image.")


def check_sensors(bundle: Bundle, board_record: Mapping[str, Any]) -> None:
    """Raise ToolError if ``bundle`` has no driver for a sensor of /qepa/board.json."""
    lacking = bundle.lacking(entry["chip"] for entry in board_record.get("sensors", ()))
    if lacking:
        raise ToolError(f"the bundle has no driver for {' and '.join(lacking)}: build one with the board's --profile.")


def runs_from_rom(session: BoardSession, bundle: Bundle) -> bool:
    """Whether the board has a ROM partition with room for the bundle's code twice (firmware/qepa_boot/rom.py)."""
    blocks = int(session.call(_ROM_BYTES)) // (2 * _BLOCK)
    image = sum(len(data) + 2 * _RECORD_BYTES for data in bundle.slot_files.values())
    return image <= (blocks - 1) * _BLOCK


def plan_installation(session: BoardSession, bundle: Bundle, board_record: Mapping[str, Any] | None) -> Installation:
    """Compare the board with ``bundle`` and, unless it is None, /qepa/board.json with ``board_record``.

    Raises ToolError for a bundle without a driver of one of the board's sensors.
    """
    if board_record is not None:
        check_sensors(bundle, board_record)
    in_use = session.call(_SLOT_IN_USE)
    loader = {f"/{path}": data for path, data in bundle.loader_files.items()}
    present = session.hashes(["/a", "/b", "/qepa_boot", "/main.py", BOARD_FILE])
    trees = {slot: {f"/{slot}/{path}": data for path, data in bundle.slot_files.items()} for slot in SLOTS}
    slot = "b" if in_use == "a" else "a"
    if in_use in SLOTS and not _differing(trees[in_use], present):
        slot = in_use
    files = _differing(trees[slot], present)
    strangers = tuple(sorted(p for p in present if p.startswith(f"/{slot}/") and p not in trees[slot]))
    files |= _differing(loader, present)
    if board_record is not None:
        files |= _differing({BOARD_FILE: json.dumps(board_record).encode()}, present)
    return Installation(slot, in_use, dict(sorted(files.items(), key=lambda item: _order(item[0]))), strangers)


def install(session: BoardSession, plan: Installation, step: Any = lambda *_: None) -> None:
    """Carry ``plan`` out and make its slot the one in use; the board has to be reset then."""
    done, total = 0, plan.size

    def progress(count: int) -> None:
        nonlocal done
        done += count
        step("copy", done, total)

    touches_slot = plan.strangers or any(path.startswith(f"/{plan.slot}/") for path in plan.files)
    if touches_slot:
        session.run(f"import os\ntry:\n os.remove('/{plan.slot}/{_MANIFEST}')\nexcept OSError:\n pass")
    for path in plan.strangers:
        session.remove_file(path)
    for path, data in plan.files.items():
        session.write_file(path, data, progress)
    if plan.in_use != plan.slot or touches_slot:
        session.renew()
        session.dock(f"choose({plan.slot!r})", slot=plan.slot)


def _differing(wanted: Mapping[str, bytes], present: Mapping[str, str]) -> dict[str, bytes]:
    return {path: data for path, data in wanted.items() if present.get(path) != hashlib.sha256(data).hexdigest()}


def _order(path: str) -> tuple[int, str]:
    """A slot's manifest after its files, and main.py, which starts it all, last."""
    return (path.endswith(f"/{_MANIFEST}") + 2 * (path == f"/{_MAIN}"), path)
