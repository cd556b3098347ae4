"""What a fleet of virtual boards reports, as frozen values, and how its lines are parsed."""

import json
from dataclasses import dataclass
from typing import Any

from qepa_tools.fleet.runtime import FleetError

_RESET_CAUSES = {1: "power on", 2: "reset", 3: "watchdog", 4: "deep sleep", 5: "soft reset"}


class FleetProtocolError(FleetError):
    """Node said something that is no event of the fleet."""


@dataclass(frozen=True, slots=True)
class Boot:
    """A board's interpreter is up and its program starts. `ecg_index`: record index of the first sample it will see."""

    board: str
    ecg_index: int
    cause: str


@dataclass(frozen=True, slots=True)
class Log:
    """One line that a board printed."""

    board: str
    line: str


@dataclass(frozen=True, slots=True)
class ProgramError:
    """An exception ended a board's program; the board still answers commands."""

    board: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Exit:
    """A board is off. `reason`: killed, stopped, reset or watchdog (a boot follows these two), or "crash: ..."."""

    board: str
    reason: str


@dataclass(frozen=True, slots=True)
class Probe:
    """What the simulator's probe inside a board reported."""

    board: str
    payload: Any


@dataclass(frozen=True, slots=True)
class Pace:
    """Once a second: asked and real speed (1.0 is real time), and samples each board has got since its boot."""

    asked: float
    real: float
    lagging: bool
    samples: dict[str, int]


Event = Boot | Log | ProgramError | Exit | Probe | Pace


@dataclass(frozen=True, slots=True)
class Executed:
    """Answer to an exec command."""

    board: str
    id: int
    out: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer to a command that makes no sense now."""

    op: str | None
    board: str | None
    id: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """All boards are off and node is about to end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Node takes commands."""


def parse(line: bytes) -> Event | Executed | Refused | Stopped | Ready:  # noqa: PLR0911  one return an event
    """Parse one line of fleet.mjs. Raises FleetProtocolError."""
    try:
        message = json.loads(line)
        match message["event"]:
            case "boot":
                return Boot(message["board"], message["ecg_index"], _RESET_CAUSES[message["cause"]])
            case "log":
                return Log(message["board"], message["line"])
            case "error":
                return ProgramError(message["board"], message["traceback"])
            case "exit":
                return Exit(message["board"], message["reason"])
            case "probe":
                return Probe(message["board"], message["payload"])
            case "pace":
                return Pace(message["asked"], message["real"], message["lagging"], message["boards"])
            case "executed":
                return Executed(message["board"], message["id"], message["out"], message["error"])
            case "refused":
                return Refused(message.get("op"), message.get("board"), message.get("id"), message["message"])
            case "stopped":
                return Stopped()
            case "ready":
                return Ready()
            case unknown:
                raise FleetProtocolError(f"unknown event {unknown!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise FleetProtocolError(f"node printed no event: {line[:200]!r}") from error
