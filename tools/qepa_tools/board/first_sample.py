"""Whether a board that was just started works: it samples, its gateway authenticates and, with a consent, decrypts.

Without a consent nobody may open a sample of one board (it goes into sums): then what is waited for is a frame that the
gateway has authenticated and acknowledged.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

from qepa_board.drivers.states import NAMES

from ..errors import ToolError
from .bedside import Bedside, Seen
from .session import BoardError, BoardSession, console_lines
from .station import StationConfig

# Sensors, link key and connection of the application that the console has just interrupted. What it asks for keeps its
# name in the firmware: firmware_build.sources.
_PROBE = """
import gc, json, sys
gc.collect()
a = getattr(sys.modules.get("qepa_board.app"), "App", None)
a = getattr(a, "running", None)
s = [] if a is None else [[f.driver.state, f.samples] for f in a.sensing.feeds]
print(json.dumps({"running": a is not None, "sensors": s, "has_key": a is not None and a.can_send,
    "connected": a is not None and bool(a.connection and a.connection.ready),
    "acknowledged": 0 if a is None or a.link is None else a.link.acknowledged}))
"""
_NOTHING: dict[str, Any] = {"running": False, "sensors": [], "has_key": False, "connected": False, "acknowledged": 0}
_NO_MORE = tuple(f"qepa: {word}" for word in ("acknowledged", "no link key", "safe mode", "not provisioned"))
_CONNECTED, _NOT_CONNECTED = "qepa: connected", "qepa: not connected"
_SECOND_TRY_S = 6.0  # for a board whose network was not up at once
_FIRST_SAMPLES_S = 1.5


@dataclass(frozen=True, slots=True)
class Running:
    """What a board had reached. ``sensors``: state and samples of each; ``why``: what keeps it from running.

    ``acknowledged``: frames of this boot that the gateway holds, which it has authenticated under the link key;
    ``seen``: what the gateway says of it, where it could be asked, or why it could not.
    """

    running: bool
    sensors: list[tuple[str, int]]
    has_key: bool
    connected: bool
    acknowledged: int = 0
    why: str = ""
    seen: Seen | str | None = None

    @property
    def record(self) -> dict[str, Any]:
        """For a program."""
        return asdict(self)

    @property
    def summary(self) -> str:
        """One sentence."""
        if not self.running:
            return f"the application does not run: {self.why}"
        key = "holds a link key" if self.has_key else "has no link key: load pads with qepa board dock"
        link = "is connected" if self.connected else "is not connected to its gateway's broker"
        sensors = ", ".join(f"{state} with {samples:,} samples" for state, samples in self.sensors)
        heard = f"; its gateway has authenticated {self.acknowledged} frames of it" if self.acknowledged else ""
        if self.seen is not None:
            heard += f"; {self.seen.summary if isinstance(self.seen, Seen) else self.seen}"
        return f"its sensors: {sensors or 'none'}; it {key}, and {link}{heard}"


def watch_start(port: str, wait_s: float, station: StationConfig | None = None) -> Running:
    """Start the board, wait at most ``wait_s`` for its first sample, ask it how it is, and start it again.

    Only a gateway can say that it opened what a board sealed: it is asked where ``station`` knows its bedside. The
    frames it has acknowledged, which it has authenticated, the board counts itself.
    """
    until = time.monotonic() + wait_s
    with BoardSession(port) as session:
        watch = None if station is None else _watch_of(session, station)
        lines = session.restart(wait_s, until=lambda line: line.startswith((*_NO_MORE, _NOT_CONNECTED)))
    if _has(lines, _NOT_CONNECTED):
        lines = _listen(port, min(_SECOND_TRY_S, until - time.monotonic()))
        if _has(lines, _CONNECTED) and not _has(lines, *_NO_MORE):
            lines += _listen(port, until - time.monotonic())
    seen = None if watch is None else watch.result(until if _has(lines, _CONNECTED) else 0)
    console_lines(port, min(_FIRST_SAMPLES_S, wait_s))
    with BoardSession(port, fresh=False) as session:
        try:
            answer = session.call(_PROBE)
        except BoardError:  # so little memory is left that it cannot even be asked
            answer = dict(_NOTHING)
    with BoardSession(port) as session:
        why = "" if answer["running"] else _why(session.dock("status()"))
        session.reset()
    sensors = [(NAMES[state], samples) for state, samples in answer.pop("sensors")]
    return Running(**answer, sensors=sensors, why=why, seen=seen)


@dataclass(frozen=True, slots=True)
class _Watch:
    """A board that a bedside is asked about, from ``since_ms`` of the gateway's clock on; or why it cannot be."""

    bedside: Bedside | None
    board: int
    since_ms: int = 0
    trouble: str = ""

    def result(self, until: float) -> Seen | str:
        """What the gateway saw, at the latest when the clock says ``until``."""
        if self.bedside is None:
            return self.trouble
        try:
            return self.bedside.await_sample(self.board, self.since_ms, until)
        except ToolError as error:
            return str(error)


def _watch_of(session: BoardSession, station: StationConfig) -> _Watch | None:
    """For the board of ``session``; None where its gateway's bedside is not known."""
    status = session.dock("status()")
    if not status["provisioned"] or status["gateway"] not in station.bedside:
        return None
    bedside = station.bedside[status["gateway"]].open()
    try:
        return _Watch(bedside, status["board"], bedside.now_ms())
    except ToolError as error:
        return _Watch(None, status["board"], trouble=str(error))


def _listen(port: str, seconds: float) -> list[str]:
    return console_lines(port, max(0.0, seconds), until=lambda line: line.startswith(_NO_MORE))


def _has(lines: list[str], *starts: str) -> bool:
    return any(line.startswith(starts) for line in lines)


def await_board(port: str, timeout_s: float) -> BoardSession:
    """A session with a board that was just reset, as soon as it answers. Raises ToolError."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return BoardSession(port).__enter__()
        except BoardError as error:
            if time.monotonic() >= deadline:
                raise ToolError(f"the board at {port} does not start MicroPython: {error}") from error
        time.sleep(0.3)


def _why(status: dict[str, Any]) -> str:
    if status["crash_log"]:
        return str(status["crash_log"][-1])
    if not status["provisioned"]:
        return "it waits for its identity: run qepa board provision"
    return "it has not started yet"
