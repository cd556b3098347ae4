"""`qepa board virtual`: boards of a real MicroPython behind pseudo-terminals, with a flash that esptool can write."""

import contextlib
import json
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..command_line import folded
from ..errors import ToolError
from ..unix_port.board import UnixBoard
from ..unix_port.run_once import BOARD_HEAP_BYTES
from ..unix_port.runtime import ensure_unix_port
from ..virtual_esp32.chips import CHIPS
from ..virtual_esp32.device import Interpreter, VirtualEsp32, mac_of
from ..virtual_esp32.ports import PtyPort, Rfc2217Port

KINDS = ("unix", "wasm")
_REFRESH_S = 1.0
_ROWS = 40

Port = PtyPort | Rfc2217Port


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualPlan:
    """Which boards to run. Board i keeps its flash in ``directory``/i."""

    kind: str = "unix"
    count: int = 1
    directory: Path
    chip: str = "esp32"
    blank: bool = False
    rfc2217: bool = False
    heap_kb: int = BOARD_HEAP_BYTES // 1024
    """Of boards of the unix port; those of the other have a heap that grows."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ToolError(f"no kind {self.kind}: choose one of {', '.join(KINDS)}.")
        if self.chip not in CHIPS:
            raise ToolError(f"no chip {self.chip}: choose one of {', '.join(CHIPS)}.")


@contextlib.contextmanager
def virtual_boards(plan: VirtualPlan) -> Iterator[list[Port]]:
    """Run the boards of ``plan``; yields their open ports. Raises ToolError."""
    ports: list[Port] = []
    try:
        with _interpreters(plan) as start:
            for number in range(1, plan.count + 1):
                ports.append(_board(plan, number, start).open())
            yield ports
            for port in ports:
                port.end()
    finally:
        for port in ports:
            port.close()


def _board(plan: VirtualPlan, number: int, start: Callable[[Path, bytes], Interpreter]) -> Port:
    mac = mac_of(number)
    board = VirtualEsp32(
        _place(plan, number),
        lambda files: start(files, mac),
        chip=plan.chip,
        mac=mac,
        blank=plan.blank,
        lines=plan.rfc2217,
    )
    return Rfc2217Port(board) if plan.rfc2217 else PtyPort(board)


def run_virtual(plan: VirtualPlan, *, as_json: bool) -> None:
    """Run the boards until SIGINT or SIGTERM, with a table of them, or one JSON line with their ports."""
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    signal.signal(signal.SIGINT, lambda *_: ending.set())
    console = Console()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    with virtual_boards(plan) as ports:
        if as_json:
            boards = [
                {"port": port.url, "chip": plan.chip, "directory": str(_place(plan, i))} for i, port in _each(ports)
            ]
            print(json.dumps({"kind": plan.kind, "chip": plan.chip, "boards": boards}), flush=True)
            ending.wait()
            return
        if not console.is_terminal:
            for i, port in _each(ports):
                console.print(f"{port.url}  {plan.chip} ({plan.kind}), flash in {_place(plan, i)}", highlight=False)
            ending.wait()
            return
        with Live(_table(plan, ports), console=console, auto_refresh=False) as live:
            while not ending.wait(_REFRESH_S):
                live.update(_table(plan, ports), refresh=True)


@contextlib.contextmanager
def _interpreters(plan: VirtualPlan) -> Iterator[Callable[[Path, bytes], Interpreter]]:
    """What starts a board's MicroPython on a directory of files."""
    if plan.kind == "unix":
        ensure_unix_port()
        yield lambda files, mac: UnixBoard(
            files, unique_id=mac, heap_bytes=1024 * plan.heap_kb, rom=files.parent / "rom.bin"
        )
        return
    from ..fleet.consoles import FleetConsoles  # noqa: PLC0415  starts node

    with FleetConsoles() as fleet:
        yield fleet.start


def _each(ports: list[Port]) -> Iterator[tuple[int, Port]]:
    return enumerate(ports, 1)


def _place(plan: VirtualPlan, number: int) -> Path:
    return plan.directory / f"{number:03d}"


def _table(plan: VirtualPlan, ports: list[Port]) -> Table:
    title = f"{plan.count} virtual boards: a real MicroPython ({plan.kind} port), simulated chip; Ctrl-C ends them"
    table = Table("port", "chip", "mode", "resets", "flash", title=title, box=None)
    for i, port in list(_each(ports))[:_ROWS]:
        table.add_row(port.url, plan.chip, port.board.mode, str(len(port.board.resets)), str(_place(plan, i)))
    if len(ports) > _ROWS:
        table.add_row(f"and {len(ports) - _ROWS} more", "", "", "", "")
    return folded(table)
