"""Runs one Python source on a fresh i386 interpreter with a heap as small as a board's."""

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..errors import ToolError
from .runtime import ensure_unix_port

BOARD_HEAP_BYTES = 160 * 1024
HERE = Path(__file__).parent


class ProgramError(ToolError):
    """The program raised; the message is its traceback and what it printed before."""


def run_once(
    source: str,
    *,
    files: Mapping[str, bytes] | None = None,
    packages: Iterable[Path] = (),
    shims: Path | None = None,
    rom: Path | None = None,
    heap_bytes: int = BOARD_HEAP_BYTES,
    timeout_s: float = 60.0,
) -> str:
    """Run ``source`` and return what it printed.

    ``files`` (path: content) are on the flash at /; ``packages`` (directories of .py or .mpy files) are importable;
    ``shims`` is a directory of modules that stand in for hardware, ``rom`` a file that is the ROM partition. Raises
    ProgramError if the program raises.
    """
    command = ensure_unix_port()
    with tempfile.TemporaryDirectory(prefix="qepa-unix-") as temporary:
        flash, library = Path(temporary, "flash"), Path(temporary, "lib")
        flash.mkdir()
        library.mkdir()
        for package in packages:
            (library / package.name).symlink_to(package.resolve())
        for name, content in (files or {}).items():
            path = flash / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (flash / "_program.py").write_text(source)
        empty = Path(temporary, "shims")
        empty.mkdir()
        arguments = [str(flash), str(library), str(shims or empty), str(HERE.parent / "chips"), "/_program.py"]
        try:
            done = subprocess.run(  # noqa: S603  our own interpreter
                [*command, "-X", f"heapsize={heap_bytes}", str(HERE / "prelude.py"), *arguments],
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                env=os.environ | ({} if rom is None else {"QEPA_ROM": str(rom.resolve())}),
            )
        except subprocess.TimeoutExpired as error:
            raise ProgramError(f"no end within {timeout_s} s") from error
    if done.returncode:
        raise ProgramError(f"{done.stderr}\nprinted before: {done.stdout}")
    printed: str = done.stdout
    return printed
