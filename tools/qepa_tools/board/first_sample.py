"""Whether a board that was just started does its work: it samples, holds a link key, and has its connection."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from qepa_board.drivers.states import NAMES

from ..errors import ToolError
from .session import BoardError, BoardSession, console_lines

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
_SETTLED = tuple(
    f"qepa: {word}" for word in ("connected", "not connected", "no link key", "safe mode", "not provisioned")
)
_FIRST_SAMPLES_S = 1.5


@dataclass(frozen=True, slots=True)
class Running:
    """What a board had reached. ``sensors``: state and samples of each; ``why``: what keeps it from running.

    ``acknowledged``: frames of this boot that the gateway holds, which it has authenticated under the link key.
    """

    running: bool
    sensors: list[tuple[str, int]]
    has_key: bool
    connected: bool
    acknowledged: int = 0
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
        sensors = ", ".join(f"{state} with {samples:,} samples" for state, samples in self.sensors)
        heard = f"; its gateway has taken {self.acknowledged} frames from it" if self.acknowledged else ""
        return f"its sensors: {sensors or 'none'}; it {key}, and {link}{heard}"


def watch_start(port: str, wait_s: float) -> Running:
    """Start the board, listen to it for at most ``wait_s``, ask it how it is, and start it again.

    Only a gateway can say that it opened what a board sealed: frames it has acknowledged it has authenticated.
    """
    with BoardSession(port) as session:
        session.restart(wait_s, until=lambda line: line.startswith(_SETTLED))
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
    return Running(**answer, sensors=sensors, why=why)


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
