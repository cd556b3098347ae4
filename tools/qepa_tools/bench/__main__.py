"""Run a virtual optical bench, replay a recording or record a real bench: two ports with controllers behind."""

import argparse
import asyncio
import json
import signal
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from qepa_qkd import cobs_compiled
from qepa_qkd.errors import QkdError
from qepa_tools.bench.controllers import Bench
from qepa_tools.bench.physics import OpticalBench
from qepa_tools.bench.recording import RecordingWriter
from qepa_tools.bench.relay import RelayBench
from qepa_tools.bench.replay import ReplayBench
from qepa_tools.bench.scenario import Scenario
from qepa_tools.bench.serving import PseudoTerminal, Served, Tape, serve
from qepa_tools.bench.settings import BenchSettings, PulseSettings, parse_setting
from qepa_tools.bench.speed import measure
from qepa_tools.bench.tdc1 import TaggerBench
from qepa_wire.link_frames import PROTOCOL_VERSION

__all__ = ["PseudoTerminal", "main", "serve"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench until it is told to end. Returns the exit status; 2 with one sentence if it cannot start."""
    options = _parser().parse_args(arguments)
    try:
        if options.speed_test:
            print(json.dumps({"simulated": True, "speed": measure(_simulation(options)[0])}))
            return 0
        served = _served(options)
    except (QkdError, ValueError, OSError) as error:
        print(f"qepa: {error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(_until_signal(served, options.link_dir))
    except (QkdError, OSError) as error:
        print(f"qepa: {error}", file=sys.stderr)
        return 2
    finally:
        if served.tape:
            served.tape.close()
    if isinstance(served.bench, ReplayBench):
        served.bench.close()
        if served.bench.over:
            print(served.bench.recording.ending, file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="qepa link virtual", usage="%(prog)s [option ...]", description=__doc__)
    parser.add_argument("--link-dir", type=Path, help="directory for the stable names transmitter, receiver, control")
    parser.add_argument("--seed", type=int, help="1 unless told otherwise; the same seed gives the same light")
    parser.add_argument("--config", type=Path, help="TOML file with any of the settings below, seed and events")
    parser.add_argument(
        "--receiver-device",
        choices=("controller", "tdc1"),
        default="controller",
        help="what is behind the receiver's port; a TDC1 has no gate and no sync",
    )
    parser.add_argument("--attack", metavar="TEXT", help="as in 'intercept-resend fraction=0.3 at=20 until=40'")
    parser.add_argument(
        "--event", action="append", default=[], metavar="TEXT", help="as in 'set background_hz=50000 at=60'; repeatable"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="record both serial lines; goes on where FILE ends")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="replay a recording instead of simulating")
    parser.add_argument("--speed", type=float, default=1.0, help="of the replay; 0: as fast as Alice and Bob keep up")
    parser.add_argument("--speed-test", action="store_true", help="say how fast the light is simulated here, and end")
    parser.add_argument(
        "--relay", nargs=2, metavar=("TRANSMITTER", "RECEIVER"), help="pass these real ports on, so as to record them"
    )
    group = parser.add_argument_group("settings of the bench")
    for field in fields(BenchSettings):
        default = field.default if not isinstance(field.default, tuple) else ",".join(map(str, field.default))
        group.add_argument("--" + field.name.replace("_", "-"), metavar="X", help=f"default {default}")
    return parser


def _served(options: argparse.Namespace) -> Served:
    """Open what the options ask for. Raises ValueError, QkdError or OSError with a sentence for the user."""
    if options.replay:
        if not 0 <= options.speed < float("inf"):
            raise ValueError("a replay's speed is 0 or more")
        bench = ReplayBench(options.replay, options.speed)
        return Served(bench, _tape(options.record, {**bench.recording.about, "replay_of": options.replay.name}))
    if options.relay:
        return Served(RelayBench(*options.relay), _tape(options.record, {"simulated": False, "ports": options.relay}))
    if options.receiver_device == "tdc1" and options.record:
        raise ValueError("a recording is of our controllers' lines; with a TDC1 there is none")
    settings, seed, events = _simulation(options)
    scenario = Scenario(settings)
    for event in events:
        scenario.plan(event)
    _compile(settings)
    about = {"simulated": True, "seed": seed, "settings": asdict(settings), "events": events}
    make = TaggerBench if options.receiver_device == "tdc1" else Bench
    return Served(make(settings, seed, scenario), _tape(options.record, about))


def _compile(settings: BenchSettings) -> None:
    """Have the kernels compiled before a host waits for an answer."""
    optics = OpticalBench(settings, PulseSettings(), np.random.default_rng(0))
    optics.states(optics.advance(1000)[0])
    cobs_compiled.decode(cobs_compiled.encode(bytes(1000)))


def _simulation(options: argparse.Namespace) -> tuple[BenchSettings, int, list[str]]:
    """What the file says, and what the command line says instead."""
    file: dict[str, Any] = {}
    if options.config:
        try:
            file = tomllib.loads(options.config.read_text())
        except OSError as error:
            raise ValueError(f"{options.config} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{options.config} is no TOML file: {error}") from None
    seed, events = file.pop("seed", 1), file.pop("events", [])
    if not isinstance(seed, int) or not isinstance(events, list) or not all(isinstance(e, str) for e in events):
        raise ValueError(f"{options.config}: seed is a whole number, events a list of texts")
    values = {}
    for name, value in file.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        values[name] = parse_setting(name, text)
    for field in fields(BenchSettings):
        if (text := getattr(options, field.name)) is not None:
            values[field.name] = parse_setting(field.name, text)
    attack = [f"attack {options.attack}"] if options.attack else []
    settings = BenchSettings(**values)  # type: ignore[arg-type]
    return settings, seed if options.seed is None else options.seed, [*events, *attack, *options.event]


def _tape(path: Path | None, about: dict[str, Any]) -> Tape | None:
    if path is None:
        return None
    if path.exists():
        writer = RecordingWriter.resume(path)
        writer.note(about, writer.time_us)
        return Tape(writer)
    try:
        software = version("qepa")
    except PackageNotFoundError:
        software = "unknown"
    made = {"protocol": PROTOCOL_VERSION, "started_unix": round(time.time(), 3), "software": f"qepa {software}"}
    return Tape(RecordingWriter.create(path, {**made, **about}))


async def _until_signal(served: Served, link_directory: Path | None) -> None:
    serving = asyncio.ensure_future(serve(served, link_directory))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


if __name__ == "__main__":
    raise SystemExit(main())
