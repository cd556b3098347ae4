"""A board on a serial port, through mpremote's own raw REPL: run code, read and write files, reset.

Works on whatever pyserial opens: a USB port, rfc2217://, socket://, a pseudo-terminal. mpremote's transport is not a
stable interface; what is used of it is used here alone, and tests/hil runs it.
"""

import asyncio
import base64
import contextlib
import io
import json
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Self

from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from ..errors import ToolError
from .ports import GONE

Progress = Callable[[int], None]
"""Told how many more bytes are done."""

_ANSWER_TIMEOUT_S = 10.0
_ENTER_TIMEOUT_S = 4.0
_POLL_S = 0.5
_LISTEN_S = 0.2
_CHUNK = 1536  # bytes of a file in one command: 2 kB in base64, which the smallest board compiles
# The application's watchdog outlives it: what runs here must feed one too. If this session dies, the board restarts.
_WATCHDOG_MS = 60000
_FEED = f"import machine\nmachine.WDT(timeout={_WATCHDOG_MS}).feed()\n"
_HASHES = """
import os, hashlib, json
def _hash(p):
    h = hashlib.sha256()
    with open(p, "rb") as f:
        while True:
            b = f.read(512)
            if not b:
                break
            h.update(b)
    print(json.dumps([p, h.digest().hex()]))
def _walk(p):
    if os.stat(p)[0] & 0x8000:
        _hash(p)
    else:
        for e in os.ilistdir(p):
            _walk(p + "/" + e[0])
for _p in %r:
    try:
        os.stat(_p)
    except OSError:
        continue
    _walk(_p)
"""
_WHO = """
import sys, os, json, machine
_s = os.statvfs("/")
print(json.dumps({"id": machine.unique_id().hex(), "version": list(sys.implementation[1])[:3], "platform": sys.platform,
    "machine": getattr(sys.implementation, "_machine", ""), "free_flash": _s[0] * _s[3]}))
"""
# A release takes tens of kilobytes in a few pieces, and imports scatter small ones over all of the heap: keep room back
# meanwhile, and import what others rest on first, so that few imports are under way at once.
_LEAVES_FIRST = (
    "qepa_wire.errors qepa_wire.keys qepa_wire.payloads qepa_wire.one_time qepa_board.keys.blocks "
    "qepa_board.keys.counters qepa_board.keys.keyring qepa_board.transport.outbox qepa_wire.manifest "
    "qepa_board.system.slots qepa_wire.lms qepa_board.system.update"
)
_ATTACH = """
import gc
gc.collect()
if "dock" not in globals():
    %s
    for _n in (56000, 24000, 0):
        try:
            _room = bytearray(_n)
            for _m in "%s".split():
                try:
                    __import__(_m)
                except ImportError:
                    pass
                gc.collect()
            from qepa_board.system import dock
            break
        except MemoryError:
            _room = None
            gc.collect()
    _room = None
    gc.collect()
"""

_SLOT_IN_USE = "from qepa_boot.loader import attach; attach()"


class BoardError(ToolError):
    """The board does not answer, or what it was asked to do failed; the message is one sentence."""


class BoardSession:
    """An open console; a context manager. Every call raises BoardError.

    Nothing that is sent is repeated in an error: it may hold keys.
    """

    def __init__(self, port: str, *, fresh: bool = True) -> None:
        """``fresh``: with a new interpreter, which runs nothing of the board's; else the application is interrupted."""
        self.port = port
        self._fresh = fresh
        self._transport: SerialTransport | None = None

    def __enter__(self) -> Self:
        with self._translated():
            transport = SerialTransport(self.port, timeout=_POLL_S)
            self._transport = transport
            try:
                _enter(transport, fresh=self._fresh)
            except BaseException:
                self._transport = None
                transport.close()
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            with contextlib.suppress(Exception):  # whatever it is, the port is closed next
                transport.close()

    def renew(self) -> None:
        """Begin again with a fresh interpreter: files may have changed, and memory is whole."""
        transport = self._opened()
        with self._translated():
            _enter(transport, fresh=True)

    def run(self, code: str) -> str:
        """Run ``code``; returns what it printed."""
        transport = self._opened()
        with self._translated():
            return str(transport.exec(_FEED + code).decode())

    def call(self, code: str) -> Any:
        """Run ``code``, which prints JSON in its last line; returns that."""
        lines = self.run(code).strip().splitlines()
        try:
            return json.loads(lines[-1])
        except (IndexError, ValueError):
            raise BoardError(f"the board at {self.port} did not answer in JSON: is this firmware on it?") from None

    def dock(self, call: str, *, slot: str | None = None) -> dict[str, Any]:
        """Make a dock call (firmware/qepa_board/system/dock.py), such as "status()"; its answer without "ok".

        ``slot``: whose code answers, by default that of the slot in use.
        """
        answer = self.call(f"{_attach(slot)}dock.{call}")
        name = call.partition("(")[0]
        if not isinstance(answer, dict) or not answer.pop("ok", False):
            reason = answer.get("error", "no reason") if isinstance(answer, dict) else answer
            raise BoardError(f"the board at {self.port} refused {name}: {reason}.")
        return answer

    def attach(self) -> None:
        """Import the dock calls of the slot in use, with as much memory as can be in one piece."""
        self.renew()
        self.run(_attach())

    def put_text(self, name: str, text: str) -> None:
        """Make the variable ``name`` hold ``text`` (ASCII), in pieces: a literal takes its length several times."""
        self.run(f"{name} = bytearray({len(text)})")
        for start in range(0, len(text), _CHUNK):
            piece = text[start : start + _CHUNK]
            self.run(f"{name}[{start}:{start + len(piece)}] = {piece.encode()!r}")
        self.run(f"{name} = {name}.decode()")

    def who(self) -> dict[str, Any]:
        """Hardware id (hexadecimal), MicroPython version, platform, machine, free bytes of flash."""
        answer = self.call(_WHO)
        if not isinstance(answer, dict):
            raise BoardError(f"the board at {self.port} does not say what it is.")
        return answer

    def hashes(self, paths: Iterable[str]) -> dict[str, str]:
        """SHA-256 (hexadecimal) by path of the files in ``paths`` and below the directories in it, as far as there."""
        lines = self.run(_HASHES % (list(paths),)).splitlines()
        return dict(map(json.loads, lines))

    def read_file(self, path: str) -> bytes:
        """Content of a file."""
        transport = self._opened()
        with self._translated():
            return bytes(transport.fs_readfile(path))

    def write_file(self, path: str, data: bytes, progress: Progress = lambda _: None) -> None:
        """Replace a file, whole or not at all; missing directories are made."""
        self._make_directories(str(PurePosixPath(path).parent))
        self.run(f"import binascii\n_f = open({path + '.new'!r}, 'wb')")
        for start in range(0, len(data), _CHUNK):
            chunk = data[start : start + _CHUNK]
            self.run(f"_f.write(binascii.a2b_base64({base64.b64encode(chunk)!r}))")  # bytes: WASM takes no str
            progress(len(chunk))
        self.run(f"_f.close()\nimport os\nos.rename({path + '.new'!r}, {path!r})")

    def remove_file(self, path: str) -> None:
        """Remove a file."""
        self.run(f"import os\nos.remove({path!r})")

    def reset(self) -> None:
        """Reset the board; the session is over."""
        if self._transport is not None:
            self._reset()
            time.sleep(0.1)  # let it take the command before the port closes
            self.__exit__(None, None, None)

    def restart(self, seconds: float, *, until: Callable[[str], bool]) -> list[str]:
        """Reset the board and return what it says within ``seconds``, or up to the line that ``until`` accepts."""
        deadline = time.monotonic() + seconds
        self._reset()
        try:
            lines = _listen(self._opened(), deadline, until)
        except GONE:  # a port of the chip's own goes and comes with it
            self.__exit__(None, None, None)
            time.sleep(1.0)
            return console_lines(self.port, deadline - time.monotonic(), until=until)
        self.__exit__(None, None, None)
        return lines

    def _reset(self) -> None:
        with self._translated():
            self._opened().exec_raw_no_follow("import machine\nmachine.reset()")

    def _opened(self) -> SerialTransport:
        if self._transport is None:
            raise BoardError(f"the session with the board at {self.port} is over.")
        return self._transport

    def _make_directories(self, path: str) -> None:
        parents = [str(parent) for parent in reversed([PurePosixPath(path), *PurePosixPath(path).parents])]
        wanted = [parent for parent in parents if parent not in ("/", ".")]
        if wanted:
            self.run(f"import os\nfor _d in {wanted!r}:\n try:\n  os.mkdir(_d)\n except OSError:\n  pass")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """mpremote's errors in our words; what it prints of the conversation is kept off the screen."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        except TransportExecError as error:
            last = str(error.error_output).strip().splitlines()[-1:] or ["no traceback"]
            raise BoardError(f"the board at {self.port} raised {last[0]}") from None
        except (TransportError, struct.error, TypeError, *GONE) as error:
            raise BoardError(f"the board at {self.port} does not answer ({_reason(error)}): replug it.") from None


class DockCradle:
    """A session as the key dock's cradle (qepa_tools.dock.Cradle)."""

    def __init__(self, session: BoardSession) -> None:
        self._session = session

    async def run(self, code: str) -> str:
        """Run ``code``; raises ToolError without repeating it."""
        return await asyncio.to_thread(self._session.run, _attach() + code)


def console_lines(port: str, seconds: float, *, until: Callable[[str], bool] = lambda _: False) -> list[str]:
    """Listen to a board for at most ``seconds``, disturbing nothing; ends early with a line that ``until`` accepts."""
    deadline = time.monotonic() + seconds
    try:
        transport = SerialTransport(port)
        try:
            return _listen(transport, deadline, until)
        finally:
            transport.close()
    except (TransportError, *GONE) as error:
        raise BoardError(f"the board at {port} cannot be listened to ({_reason(error)}): replug it.") from None


def _listen(transport: SerialTransport, deadline: float, until: Callable[[str], bool]) -> list[str]:
    lines: list[str] = []
    partial = b""
    transport.serial.timeout = _LISTEN_S
    while time.monotonic() < deadline:
        partial += transport.serial.read(256)
        *complete, partial = partial.split(b"\n")
        for each in complete:
            lines.append(each.decode(errors="replace").rstrip("\r"))
            if until(lines[-1]):
                return lines
    return lines


def _enter(transport: SerialTransport, *, fresh: bool) -> None:
    """Enter the raw REPL. A board may reset in the middle of it, by its watchdog or after a crash: then once more."""
    transport.serial.timeout = _POLL_S
    for last in (False, True):
        try:
            transport.enter_raw_repl(soft_reset=fresh, timeout_overall=_ENTER_TIMEOUT_S)
            break
        except TransportError:
            if last or not transport.serial.in_waiting:
                raise
    transport.serial.timeout = _ANSWER_TIMEOUT_S


def _attach(slot: str | None = None) -> str:
    """Code that makes `dock` the dock calls of ``slot``, by default of the one in use."""
    path = _SLOT_IN_USE if slot is None else f"import sys; sys.path.insert(0, '/{slot}/lib')"
    return _ATTACH % (path, _LEAVES_FIRST)


def _reason(error: Exception) -> str:
    return (
        f"{type(error).__name__}"
        if isinstance(error, (struct.error, TypeError))
        else str(error) or type(error).__name__
    )
