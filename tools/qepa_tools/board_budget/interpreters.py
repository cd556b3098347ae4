"""The firmware on what stands in for a board: the i386 port with native kernels and without, and WebAssembly."""

import base64
import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import ToolError
from ..firmware_build.bundle import compiled_firmware
from ..firmware_build.kernels import NATIVE
from ..fleet.runtime import HERE as FLEET
from ..fleet.runtime import ensure_runtime, node_path
from ..unix_port.run_once import run_once

I386_NATIVE = "i386 native"
I386_BYTECODE = "i386 bytecode"
WASM = "WebAssembly"

_LIB = "lib/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreters:
    """Compiled firmware, once with native kernels for i386 and once without."""

    native: tuple[Path, ...]
    bytecode: tuple[Path, ...]

    def run(self, name: str, source: str, files: Mapping[str, bytes], *, heap_bytes: int, timeout_s: float) -> str:
        """What ``source`` prints on the interpreter ``name``; its heap is unlimited where that is WebAssembly."""
        if name == WASM:
            return _run_wasm(source, files, self.bytecode, timeout_s)
        packages = self.native if name == I386_NATIVE else self.bytecode
        return run_once(source, files=files, packages=packages, heap_bytes=heap_bytes, timeout_s=timeout_s)


@contextmanager
def interpreters(keep: Iterable[str] = ()) -> Iterator[Interpreters]:
    """The firmware of this checkout, built as for a board but for the names ``keep``; it is gone after the context."""
    with tempfile.TemporaryDirectory(prefix="qepa-budget-") as temporary:
        root = Path(temporary)
        files = compiled_firmware("unix", keep)
        packages: dict[str, set[Path]] = {"native": set(), "bytecode": set()}
        for path, content in files.items():
            inside = path.removeprefix(_LIB)
            for kind, found in packages.items():
                if kind == "bytecode" and inside.endswith(NATIVE):
                    continue
                target = root / kind / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
                found.add(root / kind / inside.split("/")[0])
        yield Interpreters(native=tuple(sorted(packages["native"])), bytecode=tuple(sorted(packages["bytecode"])))


def _run_wasm(source: str, files: Mapping[str, bytes], packages: tuple[Path, ...], timeout_s: float) -> str:
    request = {
        "source": source,
        "files": {name: base64.b64encode(content).decode() for name, content in files.items()},
        "packages": [str(package) for package in packages],
    }
    try:
        done = subprocess.run(  # noqa: S603  our own node
            [node_path(), FLEET / "run_once.mjs", ensure_runtime()],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"no end within {timeout_s} s on WebAssembly") from error
    if done.returncode:
        raise ToolError(f"on WebAssembly: {done.stderr.strip()}")
    printed: str = done.stdout
    return printed
