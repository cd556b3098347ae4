"""Starts and stops the programs of a link: the virtual bench, Alice, Bob."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from qepa_qkd.errors import QkdError
from qepa_tools.bench.control import ask

from ..errors import ToolError
from .folder import ROLES, LinkFolder

_START_LIMIT_S: Final = 600.0
"""The first start on a machine compiles: minutes where that is slow. One that ends is noticed at once."""
_STOP_LIMIT_S: Final = 10.0


class Programs:
    """The running programs of one folder; an async context manager that ends them, the last one first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._running.values()):
            await _end(process)

    async def start(self, name: str, module: str, arguments: Sequence[str]) -> dict[str, Any]:
        """Start one; returns the JSON object that it prints when it is up. Raises ToolError with its last words."""
        log = self._folder / f"{name}.log"
        with log.open("ab") as file:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=file,
                start_new_session=True,  # Ctrl-C reaches this program, which ends them in order
            )
        self._running[name] = process
        assert process.stdout is not None  # noqa: S101  # a pipe was asked for
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                line = await process.stdout.readline()
        except TimeoutError:
            raise ToolError(f"{name} does not start; see {log}") from None
        try:
            document: dict[str, Any] = json.loads(line)
        except ValueError:
            raise ToolError(f"{name} cannot start: {_last_words(log)}") from None
        return document

    def check(self) -> None:
        """Raise ToolError if one of them has ended by itself."""
        for name, process in self._running.items():
            if process.returncode is not None:
                raise ToolError(f"{name} has ended: {_last_words(self._folder / f'{name}.log')}")

    async def stop(self, name: str) -> None:
        """End one of them."""
        await _end(self._running.pop(name))


async def start_bench(programs: Programs, folder: Path, options: Sequence[str]) -> None:
    """Start the virtual bench behind the names in `folder`/bench."""
    await programs.start("bench", "qepa_tools.bench", ["--link-dir", str(folder / "bench"), *options])


async def start_ends(programs: Programs, folder: LinkFolder) -> dict[str, str]:
    """Start Alice, then Bob; returns the URLs of their KMEs."""
    urls: dict[str, str] = {}
    for role in ROLES:
        ready = await programs.start(role, f"qepa_qkd.{role}", ["--config", str(folder.config_file(role))])
        urls[role] = str(ready["kme"])
    return urls


async def tell_bench(folder: Path, request: str) -> dict[str, Any]:
    """Send a request to the bench's control socket. Raises ToolError with its refusal."""
    try:
        return await asyncio.to_thread(ask, folder / "bench/control", request)
    except QkdError as error:
        raise ToolError(str(error)) from None


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _last_words(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1].removesuffix(".") if lines else f"no reason given; see {log}"
