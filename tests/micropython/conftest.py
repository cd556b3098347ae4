"""The real MicroPython interpreter for tests: one-shot runs of firmware modules, and whole virtual boards."""

import base64
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from qepa_tools.fleet.fleet import Fleet
from qepa_tools.fleet.runtime import HERE, ensure_runtime, node_path

FIRMWARE = Path(__file__).parents[2] / "firmware"
PACKAGES = tuple(sorted(path.parent for path in FIRMWARE.glob("*/__init__.py")))


@pytest.fixture(scope="session")
def runtime() -> Path:
    return ensure_runtime()


@pytest.fixture(scope="session")
def wasm_run(runtime: Path) -> Callable[..., str]:
    """`wasm_run(source, files=None, timeout_s=60)` runs source on MicroPython and returns what it printed.

    Packages of firmware/ are importable; `files` (path: content) are on the flash at /. An exception there is an
    AssertionError here, with its traceback.
    """

    def run(source: str, files: dict[str, bytes] | None = None, timeout_s: float = 60) -> str:
        request = {
            "source": source,
            "files": {name: base64.b64encode(content).decode() for name, content in (files or {}).items()},
            "packages": [str(package) for package in PACKAGES],
        }
        done = subprocess.run(
            [node_path(), HERE / "run_once.mjs", runtime],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"MicroPython: {done.stderr}\nprinted before: {done.stdout}")
        return done.stdout

    return run


@pytest.fixture
async def fleet(runtime: Path) -> AsyncIterator[Fleet]:
    async with Fleet(runtime=runtime) as running:
        yield running
