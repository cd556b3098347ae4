"""`python -m qepa_tools.bench`: open two pseudo-terminals, print their paths as one JSON line, serve them."""

import argparse
import asyncio
import json
import os
import signal
import time
import tty
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from qepa_tools.bench.controllers import Bench, Controller
from qepa_tools.bench.physics import BenchSettings

TICK_S = 0.05


class PseudoTerminal:
    """One controller behind a pty. Writing never waits: what the host does not read stays in the controller's queue."""

    def __init__(self, controller: Controller, on_input: asyncio.Event) -> None:
        self._controller = controller
        self._on_input = on_input
        # The slave side stays open here, so that a host may close and open it again like a real port.
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._unsent = b""
        self._waiting = False
        asyncio.get_running_loop().add_reader(self._master, self._readable)

    def flush(self) -> None:
        """Write as much of the controller's queue as the terminal takes."""
        loop = asyncio.get_running_loop()
        while self._unsent or self._controller.outgoing:
            if not self._unsent:
                self._unsent = self._controller.outgoing.pop(0)
            try:
                self._unsent = self._unsent[os.write(self._master, self._unsent) :]
            except BlockingIOError:
                if not self._waiting:
                    self._waiting = True
                    loop.add_writer(self._master, self.flush)
                return
        if self._waiting:
            self._waiting = False
            loop.remove_writer(self._master)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except BlockingIOError:
            return
        self._controller.receive(data, time.monotonic())
        self.flush()
        self._on_input.set()


async def serve(settings: BenchSettings, seed: int, link_directory: Path | None) -> None:
    """Serve both terminals until cancelled. `link_directory` gets symbolic links `transmitter` and `receiver`."""
    bench = Bench(settings, seed)
    wake = asyncio.Event()
    ports = {c.role: PseudoTerminal(c, wake) for c in (bench.transmitter, bench.receiver)}
    paths = {role: port.path for role, port in ports.items()}
    if link_directory is not None:
        link_directory.mkdir(parents=True, exist_ok=True)
        for role, path in paths.items():
            link = link_directory / role
            link.unlink(missing_ok=True)
            link.symlink_to(path)
            paths[role] = str(link)
    print(json.dumps(paths), flush=True)
    while True:
        wake.clear()
        bench.advance(time.monotonic())
        for port in ports.values():
            port.flush()
        if bench.running:
            await asyncio.sleep(TICK_S)
        else:
            await wake.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench until it is told to end. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="qepa link virtual", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--link-dir", type=Path, help="directory for the stable names transmitter and receiver")
    for field in fields(BenchSettings):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, metavar="X")
    options = parser.parse_args(arguments)
    settings = BenchSettings(**{field.name: getattr(options, field.name) for field in fields(BenchSettings)})
    return asyncio.run(_until_signal(settings, options.seed, options.link_dir))


async def _until_signal(settings: BenchSettings, seed: int, link_directory: Path | None) -> int:
    serving = asyncio.ensure_future(serve(settings, seed, link_directory))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
