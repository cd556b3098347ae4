"""Child processes of the ward: started, awaited until ready, ended together, never orphaned."""

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ToolError

_PR_SET_PDEATHSIG = 1
_START_LIMIT_S = 600.0  # the first start on a machine compiles; who ends instead is noticed at once
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Linux: have the kernel end this child when the ward dies, even by kill -9."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One running program that announces itself by a line of JSON on its standard output."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name, self.log = name, log
        self.process = process

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.process.returncode is None

    def last_words(self) -> str:
        """The last line of its log: why it ended."""
        try:
            lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            return ""
        return lines[-1] if lines else ""

    async def end(self, *, grace_s: float = 10.0) -> None:
        """Ask it to end; insist after ``grace_s``."""
        if not self.running:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.running:
            self.process.kill()
        await self.process.wait()


async def start(name: str, module: str, arguments: Sequence[str], *, logs: Path) -> Child:
    """Start ``python -m module arguments``; what it writes to stderr goes to ``logs/name.log``."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.log"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for the ward, which ends its children in order
            preexec_fn=die_with_parent,  # calls one function of libc, takes no lock
            env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    return Child(name, process, log)


async def ready(child: Child, *, timeout_s: float = _START_LIMIT_S) -> dict[str, Any]:
    """Wait for the child's line of JSON and return it; raise ToolError with its last words if it ends first."""
    assert child.process.stdout is not None  # noqa: S101  # opened as a pipe by start()
    try:
        async with asyncio.timeout(timeout_s):
            while line := await child.process.stdout.readline():
                if line.startswith(b"{"):
                    answer: dict[str, Any] = json.loads(line)
                    return answer
    except TimeoutError as error:
        raise ToolError(f"{child.name} was not ready after {timeout_s:.0f} s; see {child.log}") from error
    await child.process.wait()
    raise ToolError(f"{child.name} could not start: {child.last_words() or f'see {child.log}'}")
