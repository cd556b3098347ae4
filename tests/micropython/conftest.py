"""The real MicroPython interpreter for tests: one-shot runs of firmware modules, and whole virtual boards."""

import base64
import functools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from qepa_tools.firmware_build.kernels import build_kernels
from qepa_tools.fleet.fleet import Fleet
from qepa_tools.fleet.runtime import HERE, ensure_runtime, node_path
from qepa_tools.unix_port.run_once import BOARD_HEAP_BYTES, ProgramError, run_once
from qepa_tools.unix_port.runtime import UnixPortMissingError, ensure_unix_port

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


@pytest.fixture(scope="session")
def unix_run() -> Callable[..., str]:
    """`unix_run(source, files, timeout_s, heap_bytes=..., packages=..., shims=..., rom=...)`: on the i386 port.

    Without the port a test is skipped, loudly; in continuous integration it fails.
    """
    try:
        ensure_unix_port()
    except UnixPortMissingError as error:
        missing = f"NO i386 MICROPYTHON, SO NOTHING OF THIS WAS TESTED ON 32-BIT WORDS: {error}"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)

    def run(
        source: str,
        files: dict[str, bytes] | None = None,
        timeout_s: float = 60,
        *,
        heap_bytes: int = BOARD_HEAP_BYTES,
        packages: tuple[Path, ...] = PACKAGES,
        shims: Path | None = None,
        rom: Path | None = None,
    ) -> str:
        try:
            return run_once(
                source, files=files, packages=packages, shims=shims, rom=rom, heap_bytes=heap_bytes, timeout_s=timeout_s
            )
        except ProgramError as error:
            raise AssertionError(f"MicroPython i386: {error}") from error

    return run


@pytest.fixture(scope="session")
def native_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is on an i386 board: bytecode and native.mpy."""
    package = tmp_path_factory.mktemp("native") / "qepa_kernels"
    package.mkdir()
    for name in ("__init__.py", "bytecode.py"):
        shutil.copy(FIRMWARE / "qepa_kernels" / name, package)
    build_kernels("x86", package)
    return package


@pytest.fixture(params=["wasm", "i386"])
def micropython_run(request: pytest.FixtureRequest) -> Callable[..., str]:
    """`run(source, files=None, timeout_s=60)` on each of the two interpreters, with memory to spare."""
    if request.param == "wasm":
        wasm: Callable[..., str] = request.getfixturevalue("wasm_run")
        return wasm
    return functools.partial(request.getfixturevalue("unix_run"), heap_bytes=16 << 20)


@pytest.fixture
async def fleet(runtime: Path) -> AsyncIterator[Fleet]:
    async with Fleet(runtime=runtime) as running:
        yield running
