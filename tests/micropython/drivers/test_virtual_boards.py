"""Whole virtual boards whose /chips.json names chips: time passes by itself, interrupts come, asyncio runs."""

import asyncio
import itertools
import json
import struct

import numpy as np
import pytest

from qepa_tools.fleet.fleet import BoardSpec, Ecg
from qepa_tools.unix_port.board import SHIMS

from ..conftest import PACKAGES

BOARD = "0000002a"
ECG_ENTRY = {
    "chip": "max30003",
    "bus": {"kind": "spi", "id": 1, "sck": 12, "mosi": 11, "miso": 13, "cs": 14},
    "int": 21,
}
LIGHT_ENTRY = {"chip": "max30101", "bus": {"kind": "i2c", "id": 0, "scl": 18, "sda": 17}, "int": 22}
# A sawtooth of 1000 samples from which each sample's number can be told, in the chips' codes.
TOOTH = [13 * 2 * n for n in range(1000)]

# Reads whenever it is woken, and feeds the watchdog then, as the application does.
HUB = """
import asyncio, machine
from qepa_board.drivers import open_sensor
from qepa_board.drivers.states import NAMES
drivers, names, seen, gaps, states = [], [], {{}}, {{}}, {{}}
async def main():
    watchdog = machine.WDT(timeout=60000)
    flag = asyncio.ThreadSafeFlag()
    for entry in {entries!r}:
        driver = open_sensor(entry, flag)
        driver.start()
        drivers.append(driver)
        names.append(entry["chip"])
        seen[entry["chip"]], gaps[entry["chip"]], states[entry["chip"]] = [], [], []
    while {goes_on}:
        await flag.wait()
        for driver, name in zip(drivers, names):
            n = driver.read()
            seen[name] += list(driver.buffers[0])[:n]
            if driver.gap:
                gaps[name].append(driver.gap)
            if states[name][-1:] != [NAMES[driver.state]]:
                states[name].append(NAMES[driver.state])
        watchdog.feed()
asyncio.run(main())
"""


def in_order(samples):
    """The sawtooth's samples: ascending by 2 steps or falling back to the start."""
    numbers = [round(v / (26 * 625 / 8192)) for v in samples]
    return all((b - a) % 1000 == 1 for a, b in itertools.pairwise(numbers))


def plan(tmp_path, *entries):
    flash = tmp_path / BOARD
    flash.mkdir()
    (flash / "tooth.i32").write_bytes(np.array(TOOTH, "<i4").tobytes())
    (flash / "light.i32").write_bytes(np.repeat(np.array([50000 + n for n in range(1000)], "<i4"), 2).tobytes())
    (flash / "chips.json").write_text(json.dumps(entries))
    return flash


async def until_true(fleet, condition, timeout_s=20):
    async with asyncio.timeout(timeout_s):
        while await fleet.exec(BOARD, f"print({condition})") != "True\n":
            await asyncio.sleep(0.05)


async def ask(fleet, what):
    return json.loads(await fleet.exec(BOARD, f"import json\nprint(json.dumps({what}))"))


async def test_chips_of_a_fleet_board_run_on_the_wards_clock(fleet, tmp_path):
    flash = plan(tmp_path, {**ECG_ENTRY, "codes": "/tooth.i32"}, {**LIGHT_ENTRY, "codes": "/light.i32"})
    main = HUB.format(entries=[ECG_ENTRY, LIGHT_ENTRY], goes_on="True")
    await fleet.start_board(BoardSpec(board=BOARD, flash=flash, firmware=PACKAGES, main=main, speed=8.0))
    await until_true(fleet, "len(seen['max30003']) > 2560")
    seen, gaps, states = await ask(fleet, "[seen, gaps, states]")
    assert in_order(seen["max30003"])
    light = seen["max30101"]
    assert light == [50000 + n % 1000 for n in range(len(light))]
    assert abs(len(light) - len(seen["max30003"]) * 100 / 256) < 50, "both chips live in one time"
    assert gaps == {"max30003": [], "max30101": []}
    assert states == {"max30003": ["running"], "max30101": ["running"]}
    await fleet.exec(BOARD, "from chips import wiring\nwiring.named['max30101'].unplug()")
    await until_true(fleet, "states['max30101'][-1] == 'bus_error'")
    await fleet.exec(BOARD, "wiring.named['max30101'].plug_in()")
    await until_true(fleet, "states['max30101'][-1] == 'running' and len(gaps['max30101']) == 1")
    assert (await ask(fleet, "states['max30003']")) == ["running"]


async def test_a_max30003_of_a_fleet_board_shows_the_wards_own_record(fleet, tmp_path):
    flash = plan(tmp_path, {**ECG_ENTRY, "codes": "adc"})
    counts = [(n % 500) * 4 for n in range(1000)]  # steps of 2.5 microvolts around mid-rail
    record = tmp_path / "record.u16"
    record.write_bytes(struct.pack(f"<{len(counts)}H", *(2048 + c << 4 for c in counts)))
    main = HUB.format(entries=[ECG_ENTRY], goes_on="True")
    spec = BoardSpec(board=BOARD, flash=flash, firmware=PACKAGES, main=main, ecg=Ecg(path=record), speed=8.0)
    await fleet.start_board(spec)
    await until_true(fleet, "len(seen['max30003']) > 1024")
    seen = (await ask(fleet, "seen"))["max30003"]
    rising = np.diff(seen)
    assert set(rising[rising > -1000]) <= {0, 3, 4, 5, 7, 8, 9}, "360 samples a second shown at 256: one or two steps"
    await fleet.lead_off(BOARD, on=True)
    await until_true(fleet, "states['max30003'][-1] == 'lead_off'")
    await fleet.lead_off(BOARD, on=False)
    await until_true(fleet, "states['max30003'][-1] == 'running'")


def test_chips_of_a_unix_board_run_on_the_hosts_clock(unix_run, tmp_path):
    flash = plan(tmp_path, {**ECG_ENTRY, "codes": "/tooth.i32"}, {**LIGHT_ENTRY, "codes": "/light.i32"})
    files = {path.name: path.read_bytes() for path in flash.iterdir()}
    program = HUB.format(entries=[ECG_ENTRY, LIGHT_ENTRY], goes_on="len(seen.get('max30003', ())) < 300")
    program += "import json\nprint(json.dumps([seen, states]))"
    seen, states = json.loads(unix_run(program, files, shims=SHIMS))
    assert len(seen["max30003"]) >= 300
    assert seen["max30101"]
    assert states["max30003"][0] == "running"
    if states["max30003"] == ["running"]:  # on a machine too slow for it, the FIFO may overflow: then it says so
        assert in_order(seen["max30003"])


def test_an_ad8232_of_a_unix_board_is_sampled_by_its_timer(unix_run, tmp_path):
    entry = {"chip": "ad8232", "out": 36, "lo_plus": 32, "lo_minus": 33}
    counts = np.array([(2048 + n) << 4 for n in range(1000)], "<i4")
    files = {"chips.json": json.dumps([{**entry, "codes": "/ecg.i32"}]).encode(), "ecg.i32": counts.tobytes()}
    program = HUB.format(entries=[entry], goes_on="len(seen.get('ad8232', ())) < 200")
    program += "import json\nprint(json.dumps([seen, states]))"
    seen, states = json.loads(unix_run(program, files, shims=SHIMS))
    samples = seen["ad8232"]
    assert states == {"ad8232": ["running"]}
    assert sorted(samples) == samples, "in order"
    # Where the machine pauses, the record goes on without the timer.
    assert np.quantile(np.diff(samples), 0.9) <= 8, "they keep their rates up to a tick of the stand-in's clock"


def test_a_watchdog_that_is_not_fed_ends_a_unix_board(unix_run):
    with pytest.raises(AssertionError, match=r"printed before: fed\n$"):
        unix_run(
            "import machine, time\nw = machine.WDT(timeout=1000)\nprint('fed')\ntime.sleep(20)\nprint('hung')",
            shims=SHIMS,
            timeout_s=15,
        )
