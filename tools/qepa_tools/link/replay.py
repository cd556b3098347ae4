"""`qepa link replay`: a recording of both serial lines through Alice and Bob as they are today."""

from pathlib import Path
from typing import Any, Final

from rich.console import Console

from qepa_qkd.errors import QkdError
from qepa_tools.bench.recording import TRANSMITTER, Recording
from qepa_tools.bench.replay import frames_of
from qepa_wire import link_commands as commands
from qepa_wire import link_frames as frames

from ..errors import ToolError
from .folder import LinkFolder, Ports, open_folder
from .live import link_view, live_screen
from .programs import tell_bench
from .run import Watch
from .session import running_link, views

_QUIET_VIEWS: Final = 8
"""Views without a new block after which a replay that is over has nothing more to give."""
_QUIET_FIRST_VIEWS: Final = 60
"""Likewise before the first block, which a slow machine may still be working on."""
_CONFIGURED: Final = {
    "pulse_rate_hz": "pulse_rate_hz",
    "intensities": "intensities",
    "probabilities": "intensity_probabilities",
    "key_basis_probability": "key_basis_probability",
}
"""Settings of the transmitter, and what configurations call them."""


class Replay:
    """One replay; `folder` and `watch` keep what came of it."""

    folder: LinkFolder

    def __init__(self, console: Console, *, live: bool) -> None:
        self.watch = Watch(console, live=live)
        self._console, self._live = console, live

    async def run(self, recording: Path, scratch: Path, speed: float, block_bits: int) -> str:
        """Replay to the end; returns how the recording ended. Raises ToolError, RecordingError."""
        try:
            protocol = recorded_protocol(recording)
        except OSError as error:
            raise ToolError(f"{recording} cannot be read: {error.strerror}") from None
        self.folder = open_folder(scratch, Ports(), {**protocol, "block_bits": block_bits})
        options = ["--replay", str(recording.absolute()), "--speed", f"{speed:g}"]
        quiet, blocks = 0, 0
        with live_screen(self._console) as live:
            say = (lambda text: live.update(f"{text} ...")) if self._live else (lambda _: None)
            async with running_link(self.folder, options, say) as (programs, monitor):
                async for view in views(programs, monitor):
                    self.watch.last = view
                    if self._live:
                        live.update(link_view(view, f"replay of {recording.name}, Ctrl-C ends"))
                    status = await tell_bench(scratch, "status")
                    quiet = quiet + 1 if status["over"] and view.blocks == blocks else 0
                    blocks = view.blocks
                    if quiet >= (_QUIET_VIEWS if blocks else _QUIET_FIRST_VIEWS):
                        return str(status["ending"])
        raise ToolError("the bench ended before the recording did")


def recorded_protocol(path: Path) -> dict[str, Any]:
    """Return the [protocol] settings under which the first run of a recording was made.

    Raises RecordingError, and ToolError when it holds no run.
    """
    found: dict[str, Any] = {}
    with Recording(path) as recording:
        for seen in frames_of(recording):
            if seen.run_started() is not None:
                return found
            if seen.from_host and seen.port == TRANSMITTER and seen.kind == frames.COMMAND:
                word, _, assignment = seen.payload.decode("ascii", "replace").partition(" ")
                name, _, text = assignment.partition("=")
                if word == "SET" and name in _CONFIGURED:
                    found[_CONFIGURED[name]] = _numbers(name, text)
    raise ToolError(f"{path.name} holds no run of a transmitter")


def _numbers(name: str, text: str) -> float | list[float]:
    try:
        setting = next(s for s in commands.settings_of(commands.TRANSMITTER) if s.name == name)
        setting.parse(text)
    except (QkdError, ValueError):
        raise ToolError(f"the recording sets {name} to {text!r}, which no link can use") from None
    numbers = [float(part) for part in text.split(",")]
    return numbers if setting.count > 1 else numbers[0]
