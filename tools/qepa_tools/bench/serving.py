"""The bench as a program: two pseudo-terminals, a control socket, a clock, a recording, one line for the screen."""

import asyncio
import contextlib
import json
import os
import sys
import time
import tty
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol

from qepa_tools.bench.attackers import describe
from qepa_tools.bench.control import ControlSocket
from qepa_tools.bench.controllers import Bench
from qepa_tools.bench.recording import FROM_CONTROLLER, FROM_HOST, RECEIVER, TRANSMITTER, RecordingWriter
from qepa_tools.bench.relay import Relay, RelayBench
from qepa_tools.bench.replay import ReplayBench

TICK_S: Final = 0.05
_STATUS_S: Final = 1.0

Tap = Callable[[int, bytes], None]
"""Takes the kind of a recording's chunk and bytes that went over the line."""


class AnyController(Protocol):
    """What stands behind a terminal: simulated, replayed, or real."""

    outgoing: list[bytes]

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the host."""


class PseudoTerminal:
    """One controller behind a pty. Writing never waits: what the host does not read stays in the controller's queue."""

    def __init__(self, controller: AnyController, on_input: asyncio.Event, tap: Tap | None = None) -> None:
        self._controller = controller
        self._on_input = on_input
        self._tap = tap
        # The slave side stays open here, so that a host may close and open it again like a real port.
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._unsent = b""
        self._waiting = False
        if isinstance(controller, Relay):
            controller.on_outgoing = self.flush
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def flush(self) -> None:
        """Write as much of the controller's queue as the terminal takes."""
        loop = asyncio.get_running_loop()
        while self._unsent or self._controller.outgoing:
            if not self._unsent:
                self._unsent = b"".join(self._controller.outgoing)
                self._controller.outgoing.clear()
            try:
                written = os.write(self._master, self._unsent)
            except BlockingIOError:
                if not self._waiting:
                    self._waiting = True
                    loop.add_writer(self._master, self.flush)
                return
            if self._tap is not None:
                self._tap(FROM_CONTROLLER, self._unsent[:written])
            self._unsent = self._unsent[written:]
        if self._waiting:
            self._waiting = False
            loop.remove_writer(self._master)

    def close(self) -> None:
        """Close both sides."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)
        os.close(self._master)
        os.close(self._slave)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except BlockingIOError:
            return
        if self._tap is not None:
            self._tap(FROM_HOST, data)
        self._controller.receive(data, time.monotonic())
        self.flush()
        self._on_input.set()


class Tape:
    """Records both lines on the bench's clock. A disk that is full ends the recording, not the bench."""

    def __init__(self, writer: RecordingWriter) -> None:
        self._writer: RecordingWriter | None = writer
        self._zero_s = time.monotonic() - writer.time_us * 1e-6
        self.failure: str | None = None

    @property
    def bytes_written(self) -> int | None:
        """Since this program began; None once it has failed."""
        return self._writer.bytes_written if self._writer else None

    def tap(self, port: int) -> Tap:
        """Return what records the line of `port`."""

        def record(kind: int, data: bytes) -> None:
            self._attempt(lambda writer, now_us: writer.write(kind, port, data, now_us))

        return record

    def note(self, what: dict[str, Any]) -> None:
        """Record that something happened."""
        self._attempt(lambda writer, now_us: writer.note(what, now_us))

    def flush(self) -> None:
        """Let a crash lose nothing up to now."""
        self._attempt(lambda writer, _: writer.flush())

    def close(self) -> None:
        """End the recording properly."""
        self._attempt(lambda writer, _: writer.close())
        self._writer = None

    def _attempt(self, action: Callable[[RecordingWriter, int], None]) -> None:
        if self._writer is None:
            return
        try:
            action(self._writer, round((time.monotonic() - self._zero_s) * 1e6))
        except OSError as error:
            self._writer, self.failure = None, str(error)
            print(f"The recording ends: {error}", file=sys.stderr, flush=True)


class Served:
    """A bench, what it is called, and what may be asked of it while it runs."""

    def __init__(self, bench: Bench | ReplayBench | RelayBench, tape: Tape | None = None) -> None:
        self.bench = bench
        self.tape = tape
        self._last = (time.monotonic(), dict[str, int]())
        self._rates: dict[str, float] = {}

    def answer(self, request: str) -> dict[str, Any]:
        """Answer a line of the control socket. Raises ValueError, in one sentence, to refuse."""
        if request == "status":
            return self.status()
        if not isinstance(self.bench, Bench):
            raise ValueError("only a simulated bench can be changed; here there is `status`")
        self.bench.scenario.plan(request)
        if self.tape:
            self.tape.note({"request": request})
        return self.status()

    def status(self) -> dict[str, Any]:
        """Return how it is going as a JSON object."""
        bench, tape = self.bench, self.tape
        recorded = {"recorded_bytes": tape.bytes_written, "recording_failure": tape.failure} if tape else {}
        if isinstance(bench, ReplayBench):
            recording = bench.recording
            return {
                "simulated": bool(recording.about.get("simulated")),
                "replay": recording.path.name,
                "running": bench.running,
                "runs_replayed": bench.runs_replayed,
                "over": bench.over,
                **({"ending": recording.ending} if bench.over else {}),
                **recorded,
            }
        if isinstance(bench, RelayBench):
            return {"simulated": False, "running": bench.lost is None, **recorded}
        scenario, optics = bench.scenario, bench.optics
        return {
            "simulated": True,
            "running": bench.running,
            "light_s": round(scenario.light_s, 3),
            "attack": describe(scenario.attack),
            "pulse_rate_hz": bench.pulses.pulse_rate_hz,
            "tally": optics.tally if optics else {},
            "per_second": self._rates,
            "settings": asdict(scenario.settings),
            **recorded,
        }

    def measure(self) -> None:
        """Once in a while: turn the counts since the last call into rates."""
        if not isinstance(self.bench, Bench) or self.bench.optics is None:
            return
        now_s, tally = time.monotonic(), self.bench.optics.tally
        then_s, before = self._last
        if any(tally[name] < before.get(name, 0) for name in tally):
            before = {}  # a new run
        self._rates = {name: (tally[name] - before.get(name, 0)) / (now_s - then_s) for name in tally}
        self._last = now_s, tally

    def line(self) -> str:
        """Return one line for a screen."""
        status = self.status()
        if "replay" in status:
            text = f"replay of {status['replay']}, run {status['runs_replayed']}"
            return f"{text}: {status['ending']}" if status["over"] else text
        if isinstance(self.bench, RelayBench):
            return f"relay, recorded {(status.get('recorded_bytes') or 0) / 1e6:.1f} MB"
        rates = self._rates
        clicks = sum(rates.get(name, 0.0) for name in "HVDA")
        shares = " ".join(f"{name} {100 * rates.get(name, 0.0) / clicks:.0f}%" for name in "HVDA") if clicks else "dark"
        doubles = f"double {100 * rates.get('double', 0.0) / clicks:.2f}%" if clicks else ""
        parts = [f"simulated {status['light_s']:.0f} s", f"{clicks / 1e3:.1f} k/s", shares, doubles]
        if (recorded := status.get("recorded_bytes")) is not None:
            parts.append(f"recorded {recorded / 1e6:.1f} MB")
        return "  ".join([part for part in parts if part] + [f"attack {status['attack']}"])


async def serve(served: Served, link_directory: Path | None) -> None:
    """Serve terminals and control socket until cancelled; the first line printed is a JSON object with their paths.

    Raises PortError when the port of a real controller cannot be opened or is lost.
    `link_directory` gets symbolic links `transmitter`, `receiver` and `control`.
    """
    bench, tape = served.bench, served.tape
    wake = asyncio.Event()
    control = ControlSocket(served.answer)
    ports: dict[str, PseudoTerminal] = {}
    with contextlib.ExitStack() as stack:
        stack.callback(control.close)
        for role, port, controller in (
            ("transmitter", TRANSMITTER, bench.transmitter),
            ("receiver", RECEIVER, bench.receiver),
        ):
            ports[role] = PseudoTerminal(controller, wake, tape.tap(port) if tape else None)
            stack.callback(ports[role].close)
        if isinstance(bench, RelayBench):
            stack.callback(bench.close)
            bench.open(wake.set)
        await control.open()
        paths = {**{role: port.path for role, port in ports.items()}, "control": control.path}
        print(json.dumps(_linked(paths, link_directory)), flush=True)
        stack.callback(_unlink, paths, link_directory)
        show = asyncio.ensure_future(_show(served))
        stack.callback(show.cancel)
        while True:
            wake.clear()
            bench.advance(time.monotonic())
            for terminal in ports.values():
                terminal.flush()
            if bench.running:
                await asyncio.sleep(TICK_S)
            else:
                await wake.wait()


def _linked(paths: dict[str, str], directory: Path | None) -> dict[str, str]:
    if directory is None:
        return paths
    directory.mkdir(parents=True, exist_ok=True)
    for name, path in paths.items():
        link = directory / name
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    return {name: str(directory / name) for name in paths}


def _unlink(paths: dict[str, str], directory: Path | None) -> None:
    """Take the names back: what they point to may soon be another program's terminal."""
    for name, path in paths.items():
        link = (directory or Path()) / name
        if directory is not None and link.is_symlink() and str(link.readlink()) == path:
            link.unlink()


async def _show(served: Served) -> None:
    """Keep rates and recording up to date, and one line on a screen."""
    screen = sys.stderr.isatty()
    while True:
        await asyncio.sleep(_STATUS_S)
        served.measure()
        if served.tape:
            served.tape.flush()
        if screen:
            print(
                f"\r\x1b[K{served.line()[: os.get_terminal_size(2).columns - 1]}", end="", file=sys.stderr, flush=True
            )
