"""Controls a fleet of virtual boards: one node process, spoken to in JSON lines.

Commands are objects with `op`, one a line on node's stdin:

    start     board, flash, firmware: [directories], main, ecg: {path, fs, index} or null, speed, probe, radio -> boot
    kill      board                   -> exit
    exec      board, id, code         -> executed (id, out, error)
    lead_off  board, on
    type      board, data: base64, for boards started with console: true; they print by console events (data: base64)
    stop                              -> an exit for each board, then stopped; node ends

What makes no sense is answered by refused (op, board, id, message). Events are objects with `event`, one a line on
node's stdout, as qepa_tools.fleet.events parses them. When stdin ends, node ends: no board outlives its controller.

Time: the ward has one clock, in milliseconds of virtual time. It runs at the asked speed, but never more than half a
second ahead of the slowest board that has fed its watchdog in the last two real seconds; time lost so is not
made up. machine.Timer callbacks run on it, in bursts of about 36 samples; a board is sent at most half a second of
samples beyond its last WDT.feed(), which stands for all samples delivered up to it. time and asyncio are real time.
"""

import asyncio
import contextlib
import itertools
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from qepa_tools.fleet.events import Boot, Event, Executed, Exit, Ready, Refused, Stopped, parse
from qepa_tools.fleet.runtime import HERE, FleetError, ensure_runtime, node_path

_Stream = TypeVar("_Stream", asyncio.StreamReader, asyncio.StreamWriter)
_LINE_LIMIT = 1 << 24
_STOP_TIMEOUT_S = 10.0
_STDERR_LINES = 20
# Without them a board takes 13 MB instead of 9.5: an isolate from node's snapshot is larger than one built anew, and
# glibc would give every thread an arena of its own.
NODE_OPTIONS = ("--no-node-snapshot", "--v8-pool-size=2")
NODE_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2"}


class BoardError(FleetError):
    """Code on a board raised, or the board is or went off meanwhile; the message is its traceback or the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecg:
    """ADC counts a board's ECG pin shows: `path` holds little-endian uint16 at `fs_hz`, played round and round.

    `index` is the sample at which the person is when the board is started for the first time.
    """

    path: Path
    fs_hz: int = 360
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardSpec:
    """One virtual board.

    `board`: identity, 8 to 12 hexadecimal digits (machine.unique_id). `flash`: host directory that keeps the flash.
    `firmware`: package directories, read-only under /lib. `main`: source, or path of a .py file, that runs at boot;
    None runs boot.py and main.py of the flash. `speed`: of the whole ward, the latest start's counts. `probe`: source
    that runs before main and may call `_host.probe(json_text)`. `radio`: port of a qepa_tools.air.radio, None for none.
    """

    board: str
    flash: Path
    firmware: tuple[Path, ...] = ()
    main: str | None = None
    ecg: Ecg | None = None
    speed: float = 1.0
    probe: str | None = None
    radio: int | None = None

    @property
    def radio_address(self) -> str:
        """Its Bluetooth address on the virtual air: random static, made of the identity."""
        return "C0:00:" + ":".join(self.board[-8:][at : at + 2].upper() for at in range(0, 8, 2))

    def __post_init__(self) -> None:
        if len(self.board) % 2 or not 8 <= len(self.board) <= 12 or not set(self.board) <= set("0123456789abcdef"):
            raise FleetError(f"board identity {self.board!r} must be 8 to 12 lower-case hexadecimal digits.")
        if not 0.01 <= self.speed <= 1000:
            raise FleetError(f"speed {self.speed} is not between 0.01 and 1000.")
        if self.ecg is not None and (not self.ecg.path.is_file() or self.ecg.path.stat().st_size < 2):
            raise FleetError(f"ECG file {self.ecg.path} is missing or empty.")
        for package in self.firmware:
            if not package.is_dir():
                raise FleetError(f"firmware package {package} is not a directory.")

    def command(self) -> dict[str, Any]:
        """The start command."""
        ecg = self.ecg and {"path": str(self.ecg.path), "fs": self.ecg.fs_hz, "index": self.ecg.index}
        return {
            "op": "start",
            "board": self.board,
            "flash": str(self.flash),
            "firmware": [str(package) for package in self.firmware],
            "main": self.main,
            "ecg": ecg,
            "speed": self.speed,
            "probe": self.probe,
            "radio": None if self.radio is None else f"{self.radio} {self.radio_address}",
        }


def _pipe(stream: _Stream | None) -> _Stream:
    if stream is None:
        raise FleetError("node was started without pipes.")
    return stream


@dataclass(frozen=True, slots=True)
class _Pending:
    """A command that waits for its answer; `board` is None for the start of node itself."""

    board: str | None
    future: asyncio.Future[Any]

    def fail(self, error: FleetError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Fleet:
    """Virtual boards in one node process; an asynchronous context manager.

    `on_event` is called with every event, in order; `events()` iterates over them. Raises FleetError, from every
    method, when node is missing, refuses a command or has ended.
    """

    def __init__(self, *, runtime: Path | None = None, on_event: Callable[[Event], None] | None = None) -> None:
        self._runtime = runtime
        self._on_event = on_event
        self._process: asyncio.subprocess.Process | None = None
        self._events_task: asyncio.Task[None] | None = None
        self._stderr_task: asyncio.Task[None] | None = None
        self._queues: list[asyncio.Queue[Event | None]] = []
        self._waiting: dict[tuple[str, str | int | None], _Pending] = {}
        self._ids = itertools.count(1)
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._failure: FleetError | None = None

    async def __aenter__(self) -> Self:
        runtime = self._runtime if self._runtime is not None else await asyncio.to_thread(ensure_runtime)
        try:
            process = await asyncio.create_subprocess_exec(
                node_path(),
                *NODE_OPTIONS,
                HERE / "fleet.mjs",
                runtime,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=_LINE_LIMIT,
                env=os.environ | NODE_ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the controller, which then stops the boards
            )
        except OSError as error:
            raise FleetError(f"node cannot be started: {error}.") from error
        self._process = process
        ready = self._expect(("ready", None), None)
        self._stderr_task = asyncio.create_task(self._read_stderr(_pipe(process.stderr)))
        self._events_task = asyncio.create_task(self._read_events(process))
        try:
            await ready
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """Process id of node, for measuring."""
        return self._running().pid

    async def start_board(self, spec: BoardSpec) -> Boot:
        """Start a board; returns when its interpreter is up and its program starts."""
        boot: Boot = await self._request(("boot", spec.board), spec.command())
        return boot

    async def kill(self, board: str) -> None:
        """Cut a board's power: what it has not closed on its flash is lost."""
        await self._request(("exit", board), {"op": "kill", "board": board})

    async def exec(self, board: str, code: str, *, timeout_s: float = 30.0) -> str:
        """Run code in the board's __main__, as mpremote exec does; returns what it printed. Raises BoardError."""
        number = next(self._ids)
        command = {"op": "exec", "board": board, "id": number, "code": code}
        try:
            async with asyncio.timeout(timeout_s):
                done: Executed = await self._request(("executed", number), command)
        except TimeoutError as error:
            raise BoardError(f"board {board} did not finish the command within {timeout_s} s.") from error
        if done.error is not None:
            raise BoardError(done.error)
        return done.out

    async def lead_off(self, board: str, *, on: bool) -> None:
        """Take an electrode off, or put it back on."""
        await self._send({"op": "lead_off", "board": board, "on": on})

    async def stop(self) -> None:
        """Stop every board and node. Does nothing if that has happened."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(FleetError):
                await self._send({"op": "stop"})
            try:
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        await asyncio.gather(*(task for task in (self._events_task, self._stderr_task) if task is not None))
        self._process = None

    def events(self) -> AsyncIterator[Event]:
        """Every event from this call on; ends when the fleet stops. Events wait in memory until they are taken."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        if self._failure is not None:
            queue.put_nowait(None)
        self._queues.append(queue)
        return self._drain(queue)

    async def _drain(self, queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._queues.remove(queue)

    def _running(self) -> asyncio.subprocess.Process:
        if self._failure is not None:
            raise self._failure
        if self._process is None:
            raise FleetError("the fleet is not running.")
        return self._process

    def _expect(self, key: tuple[str, str | int | None], board: str | None) -> asyncio.Future[Any]:
        if key in self._waiting:
            raise FleetError(f"{key[0]} of board {board} is already being waited for.")
        future = asyncio.get_running_loop().create_future()
        self._waiting[key] = _Pending(board, future)
        return future

    async def _request(self, key: tuple[str, str | int], command: dict[str, Any]) -> Any:
        future = self._expect(key, command["board"])
        try:
            await self._send(command)
            return await future
        finally:
            self._waiting.pop(key, None)

    async def _send(self, command: dict[str, Any]) -> None:
        stdin = _pipe(self._running().stdin)
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            await stdin.drain()
        except ConnectionError as error:
            raise FleetError("node has ended.") from error

    async def _read_stderr(self, stderr: asyncio.StreamReader) -> None:
        async for line in stderr:
            self._stderr.append(line.decode(errors="replace").rstrip())

    async def _read_events(self, process: asyncio.subprocess.Process) -> None:
        failure = FleetError("the fleet has stopped.")
        stopped = False
        try:
            async for line in _pipe(process.stdout):
                stopped = self._handle(line) or stopped
        except (FleetError, ValueError) as error:
            failure = FleetError(f"the fleet's events cannot be read: {error}")
            process.kill()
        else:
            if not stopped:
                status = await process.wait()
                said = " ".join(self._stderr) or "nothing on stderr"
                failure = FleetError(f"node ended unexpectedly (status {status}): {said}")
        self._failure = failure
        for pending in self._waiting.values():
            pending.fail(failure)
        for queue in self._queues:
            queue.put_nowait(None)

    def _handle(self, line: bytes) -> bool:
        """Act on one line; true if it says that node is about to end."""
        message = parse(line)
        match message:
            case Ready():
                self._answer(("ready", None), None)
            case Executed():
                self._answer(("executed", message.id), message)
            case Refused():
                self._refuse(message)
            case Stopped():
                return True
            case _:
                if isinstance(message, Boot):
                    self._answer(("boot", message.board), message)
                elif isinstance(message, Exit):
                    self._answer(("exit", message.board), message)
                    self._board_gone(message)
                if self._on_event is not None:
                    self._on_event(message)
                for queue in self._queues:
                    queue.put_nowait(message)
        return False

    def _answer(self, key: tuple[str, str | int | None], value: object) -> None:
        pending = self._waiting.get(key)
        if pending is not None and not pending.future.done():
            pending.future.set_result(value)

    def _refuse(self, refused: Refused) -> None:
        kind = {"start": "boot", "kill": "exit", "exec": "executed"}.get(refused.op or "", "")
        pending = self._waiting.get((kind, refused.id if kind == "executed" else refused.board))
        if pending is not None:
            pending.fail((BoardError if kind == "executed" else FleetError)(refused.message))

    def _board_gone(self, gone: Exit) -> None:
        for (kind, _), pending in self._waiting.items():
            if kind in ("boot", "executed") and pending.board == gone.board:
                pending.fail(BoardError(f"board {gone.board} went off: {gone.reason}"))
