"""A virtual board of any sensor set gets something to measure, recorded or synthetic, and its drivers read it."""

import json
from pathlib import Path

import pytest

from qepa_tools.recordings import chip_wiring
from qepa_tools.recordings.chip_wiring import wire_board
from qepa_tools.unix_port.board import SHIMS

SPI = {"kind": "spi", "id": 1, "sck": 12, "mosi": 11, "miso": 13}
I2C = {"kind": "i2c", "id": 0, "scl": 18, "sda": 17}
SENSORS = [
    {"chip": "max30003", "bus": {**SPI, "cs": 14}, "int": 21},
    {"chip": "max30101", "bus": I2C, "int": 22},
    {"chip": "max86150", "bus": I2C, "int": 23},
    {"chip": "lsm6dso", "bus": I2C},
    {"chip": "mpu6050", "bus": I2C},
    {"chip": "tmp117", "bus": I2C},
    {"chip": "cgm", "period_min": 5},
    {"chip": "ad8232", "out": 36, "lo_plus": 32, "lo_minus": 33},
]
# What a channel may show at most for somebody alive and at rest or walking.
PLAUSIBLE = {
    "ecg": (-2047, 2047),
    "red": (20000, 262143),
    "ir": (20000, 262143),
    "ax": (-4000, 4000),
    "az": (-4000, 4000),
    "gx": (0, 0),
    "temperature": (3000, 3700),
}


@pytest.fixture(params=["recorded", "synthetic"])
def data(request, monkeypatch) -> Path | None:
    if request.param == "recorded":
        return request.getfixturevalue("recordings") / "mitdb"
    monkeypatch.setattr(chip_wiring, "find_data", lambda: None)
    return None


def test_every_sensor_reads_something_plausible(unix_run, tmp_path, data):
    fed = wire_board(tmp_path, SENSORS, person=3, seconds=5, data=data)
    assert set(fed) == {entry["chip"] for entry in SENSORS} - {"cgm"}
    assert fed["tmp117"] == "synthetic", "it is told"
    assert (fed["max30003"] == "synthetic") == (data is None)
    program = f"""
import asyncio, json
from qepa_board.drivers import open_sensor
from qepa_board.drivers.states import NAMES
async def main():
    flag = asyncio.ThreadSafeFlag()
    drivers = [open_sensor(entry, flag) for entry in {SENSORS!r}]
    seen = [[None] * len(driver.channels) for driver in drivers]
    for driver in drivers:
        driver.start()
    for _ in range(35):
        await asyncio.sleep_ms(50)
        for k, driver in enumerate(drivers):
            n = driver.read()
            for c in range(len(driver.channels) if n else 0):
                new = list(driver.buffers[c])[:n] + (seen[k][c] or [])
                seen[k][c] = [min(new), max(new)]
    print(json.dumps([[list(driver.channels), seen[k], NAMES[driver.state]] for k, driver in enumerate(drivers)]))
asyncio.run(main())
"""
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for entry, (channels, seen, state) in zip(
        SENSORS, json.loads(unix_run(program, files, shims=SHIMS, heap_bytes=1 << 20)), strict=True
    ):
        if entry["chip"] == "cgm":
            continue
        assert state in ("running", "overflow"), entry["chip"]
        for channel, extremes in zip(channels, seen, strict=True):
            low, high = PLAUSIBLE.get(channel, (-1 << 23, 1 << 23))
            assert extremes is not None, entry["chip"]
            assert low <= extremes[0] <= extremes[1] <= high, (entry["chip"], channel, extremes)
