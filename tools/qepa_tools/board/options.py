"""Options that several `qepa board` commands share, and how their errors reach the person."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..command_line import fail
from ..errors import ToolError
from .screen import Screen

if TYPE_CHECKING:
    from .station import Broker


def board_number(text: str) -> int:
    """A board's number as labels and pages write it: hexadecimal."""
    try:
        number = int(text, 16)
    except ValueError:
        number = -1
    if not 0 <= number <= 0xFFFFFFFF:
        raise typer.BadParameter(f"{text} is no board number: up to 8 hexadecimal digits, as on its label")
    return number


Port = Annotated[str | None, typer.Option("--port", help="Serial port, rfc2217:// or socket:// URL.")]
Serial = Annotated[str | None, typer.Option("--serial", help="USB serial number of the board.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")]
Station = Annotated[Path, typer.Option("--station", help="Settings of the key dock (TOML).")]
Directory = Annotated[
    Path | None, typer.Option("--boards", help="Folder of the inventory and of backups (default: QEPA_BOARDS).")
]
Number = Annotated[int, typer.Option("--board", parser=board_number, help="Number (hexadecimal).")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for its first sample; 0: do not.")]
Label = Annotated[Path | None, typer.Option("--label", help="Write a label to print (SVG).")]


@contextlib.contextmanager
def screen(as_json: bool) -> Iterator[Screen]:
    """The screen; a ToolError inside becomes one sentence and status 2."""
    try:
        with Screen(as_json=as_json) as opened:
            yield opened
    except ToolError as error:
        fail(error)
    except KeyboardInterrupt:
        fail("stopped; the same command goes on where it was.")


def chosen_port(port: str | None, serial_number: str | None) -> str:
    """The port of the board that is meant. Raises ToolError."""
    from .ports import choose_port, serial_ports  # noqa: PLC0415  commands load only what they need

    return choose_port(port, serial_number, serial_ports())


def asked_password(broker: "Broker") -> str | None:
    """The password of the broker's user, from the person at the terminal, where no file has it; else None."""
    if broker.user is None or broker.password_file is not None or not sys.stdin.isatty():
        return None
    return str(typer.prompt(f"Password of {broker.user} at the broker", hide_input=True, err=True))


def content(path: Path) -> bytes:
    """What a file holds. Raises ToolError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ToolError(f"{path} cannot be read: {error.strerror}.") from error
