"""Whether a board that was just started does its work: it samples, holds a link key, and has its connection."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import ToolError
from .session import BoardError, BoardSession, console_lines

# Sampling, link key and connection of the application that the console has just interrupted.
_PROBE = """
import gc, json, sys
gc.collect()
a = getattr(sys.modules.get("qepa_board.app"), "App", None)
a = getattr(a, "running", None)
v = getattr(a, "vitals", None)
c = getattr(a, "connection", None)
print(json.dumps({"running": a is not None, "sampled_ms": getattr(v, "t_ms", 0),
    "has_key": bool(getattr(a, "can_send", False)), "connected": bool(getattr(c, "ready", False))}))
"""
_NOTHING = {"running": False, "sampled_ms": 0, "has_key": False, "connected": False}
_SETTLED = ("qepa: connected", "qepa: safe mode", "qepa: not provisioned")


@dataclass(frozen=True, slots=True)
class Running:
    """What a board had reached. ``sampled_ms``: of signal since boot; ``why``: what keeps it from running."""

    running: bool
    sampled_ms: int
    has_key: bool
    connected: bool
    why: str = ""

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
        return f"it has sampled {self.sampled_ms / 1000:.1f} s, {key}, and {link}"


def watch_start(port: str, wait_s: float) -> Running:
    """Listen to a board that was reset for at most ``wait_s``, ask it how it is, and start it again.

    Only a gateway can say that a sample was decrypted; with a link key and a connection the board has what it takes.
    """
    console_lines(port, wait_s, until=lambda line: line.startswith(_SETTLED))
    with BoardSession(port, fresh=False) as session:
        try:
            answer = session.call(_PROBE)
        except BoardError:  # so little memory is left that it cannot even be asked
            answer = _NOTHING
    with BoardSession(port) as session:
        why = "" if answer["running"] else _why(session.dock("status()"))
        session.reset()
    return Running(**answer, why=why)


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
