"""A board on the bench: a driver on one side of a bus, a model of its chip on the other, time in the test's hands."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qepa_tools.recordings.places import find_data
from qepa_tools.unix_port.board import SHIMS

# What every program begins with. play() lets time pass, reads like the application and returns what came.
BENCH = """
import gc, json, machine
from chips import wiring
from chips.chip import FileFrames, Frames
machine.wire(wiring)
from qepa_board.drivers import open_sensor, sensor
from qepa_board.drivers.states import NAMES
sensor.ticks_ms = wiring.ticks_ms
class Flag:
    count = 0
    def set(self):
        self.count += 1
flag = Flag()
BUSES = {
    "spi": {"kind": "spi", "id": 1, "sck": 12, "mosi": 11, "miso": 13, "cs": 14},
    "i2c": {"kind": "i2c", "id": 0, "scl": 18, "sda": 17},
}
def wired(name, module, model, source, interrupt=21, fs_hz=None):
    bus = "spi" if name in ("max30003", "ads1292r") else "i2c"
    chip = getattr(__import__("chips." + module, None, None, (model,)), model)(source)
    if bus == "spi":
        wiring.on_spi(chip, 1, 14, interrupt)
    else:
        wiring.on_i2c(chip, 0, None, interrupt)
    entry = {"chip": name, "bus": BUSES[bus]}
    if interrupt is not None:
        entry["int"] = interrupt
    if fs_hz is not None:
        entry["fs_hz"] = fs_hz
    return open_sensor(entry, flag), chip
def play(driver, ms, every_ms=40):
    samples = [[] for _ in driver.channels]
    gaps, states = [], []
    while ms > 0:
        wiring.advance_us(1000 * min(ms, every_ms))
        ms -= every_ms
        while True:
            n = driver.read()
            if driver.gap:
                gaps.append((len(samples[0]), driver.gap))
            if not states or states[-1] != NAMES[driver.state]:
                states.append(NAMES[driver.state])
            for i in range(len(samples)):
                samples[i] += list(driver.buffers[i])[:n]
            if not n or not driver.available:
                break
    return {"samples": samples, "gaps": gaps, "states": states, "lost": driver.lost, "faults": driver.faults,
        "state": NAMES[driver.state], "woken": flag.count}
def tell(what):
    print(json.dumps(what))
"""

Bench = Callable[..., list[Any]]


@pytest.fixture(params=["wasm", "i386"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """`bench(program, files=None)`: runs it on each interpreter; returns what it told, in order."""
    run = (
        request.getfixturevalue("wasm_run")
        if request.param == "wasm"
        else functools.partial(request.getfixturevalue("unix_run"), heap_bytes=16 << 20, shims=SHIMS)
    )

    def go(program: str, files: dict[str, bytes] | None = None) -> list[Any]:
        return [json.loads(line) for line in run(BENCH + program, files).splitlines()]

    return go


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder that holds mitdb/, bidmc/, wrist_ppg/, motion/ and cgm/."""
    mitdb = find_data()
    if mitdb is None or not (mitdb.parent / "bidmc").is_dir():
        pytest.skip("NO RECORDINGS, SO DRIVERS SAW NO REAL SIGNAL: see tools/qepa_tools/recordings/places.py")
    return mitdb.parent
