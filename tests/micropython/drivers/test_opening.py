"""open_sensor: what a board's file says becomes a driver, or one clear refusal."""

import pytest

SPI = {"kind": "spi", "id": 1, "sck": 12, "mosi": 11, "miso": 13, "cs": 14}
I2C = {"kind": "i2c", "id": 0, "scl": 18, "sda": 17}
NONSENSE = [
    {},
    {"chip": "max99999"},
    {"chip": "max30003"},
    {"chip": "max30003", "bus": I2C},
    {"chip": "max30101", "bus": SPI},
    {"chip": "max30101", "bus": {"kind": "i2c", "id": 0}},
    {"chip": "max30003", "bus": {**SPI, "cs": None, "id": 2, "sck": None}, "fs_hz": 250},
    {"chip": "max30003", "bus": SPI, "fs_hz": "256"},
    {"chip": "lsm6dso", "bus": I2C, "fs_hz": 100},
    {"chip": "ad8232", "out": 36},
    {"chip": "tmp117", "bus": "i2c"},
    {"chip": ["max30003"], "bus": SPI},
    "max30003",
    None,
]


def test_every_chip_of_the_list_opens_with_its_usual_rate(bench):
    (rates,) = bench(f"""
SPI, I2C = {SPI!r}, {I2C!r}
from qepa_board import drivers
rates = {{}}
for name in ("max30003", "ads1292r", "max30101", "max30102", "max86150", "lsm6dso", "mpu6050", "tmp117", "max30205"):
    drivers._buses.clear()
    bus = SPI if name in ("max30003", "ads1292r") else I2C
    driver = open_sensor({{"chip": name, "bus": bus, "int": 21}}, flag)
    rates[name] = [driver.fs_hz, list(driver.channels), len(driver.buffers), NAMES[driver.state], driver.read()]
tell(rates)
""")
    assert {name: said[0] for name, said in rates.items()} == {
        "max30003": 256,
        "ads1292r": 250,
        "max30101": 100,
        "max30102": 100,
        "max86150": 200,
        "lsm6dso": 104,
        "mpu6050": 100,
        "tmp117": 1,
        "max30205": 1,
    }
    for _, channels, buffers, state, samples in rates.values():
        assert (len(channels), state, samples) == (buffers, "off", 0)
    assert rates["ads1292r"][1] == ["ecg", "resp"]
    assert rates["max86150"][1] == ["red", "ir", "ecg"]


@pytest.mark.parametrize("entry", range(len(NONSENSE)))
def test_nonsense_is_refused(entry):
    from qepa_board.drivers import open_sensor
    from qepa_board.errors import BoardError

    with pytest.raises(BoardError) as refused:
        open_sensor(NONSENSE[entry], None)
    assert refused.value.reason == "sensor"


@pytest.fixture(autouse=True)
def machine_of_a_desk(monkeypatch):
    """CPython has no machine; these are refused before it matters what it is."""
    import sys
    import types

    machine = types.ModuleType("machine")
    machine.Pin = machine.I2C = machine.SPI = machine.ADC = machine.Timer = lambda *_args, **_settings: object()
    machine.Pin.IN = machine.Pin.OUT = machine.Pin.PULL_UP = 1
    monkeypatch.setitem(sys.modules, "machine", machine)


def test_two_chips_share_a_bus_if_they_can(bench):
    (said,) = bench(f"""
from qepa_board.errors import BoardError
SPI, I2C = {SPI!r}, {I2C!r}
first = open_sensor({{"chip": "lsm6dso", "bus": I2C}}, flag)
second = open_sensor({{"chip": "tmp117", "bus": I2C}}, flag)
said = [first._bus is second._bus]
open_sensor({{"chip": "max30003", "bus": SPI}}, flag)
for chip, bus in (("ads1292r", SPI), ("tmp117", dict(I2C, scl=5))):
    try:
        open_sensor({{"chip": chip, "bus": bus}}, flag)
        said.append("opened")
    except BoardError as error:
        said.append(error.reason)
other = open_sensor({{"chip": "tmp117", "bus": dict(I2C, id=-1, scl=5)}}, flag)
said.append(other._bus is first._bus)
tell(said)
""")
    assert said == [True, "sensor", "sensor", False]


def test_several_chips_at_once_each_with_its_own_samples(bench):
    ecg, warmth, motion = bench("""
from chips.max30003 import Max30003
from chips.thermometers import Tmp117
from chips.lsm6dso import Lsm6dso
wiring.on_spi(Max30003(Frames([1600], 1)), 1, 14, 21)
wiring.on_i2c(Tmp117(Frames([36 * 128], 1)), 0)
wiring.on_i2c(Lsm6dso(Frames([0, 0, 4098, 0, 0, 0], 6)), 0, None, 22)
I2C = {"kind": "i2c", "id": 0, "scl": 18, "sda": 17}
drivers = [open_sensor({"chip": "max30003", "bus": BUSES["spi"], "int": 21}, flag),
    open_sensor({"chip": "tmp117", "bus": BUSES["i2c"]}, flag),
    open_sensor({"chip": "lsm6dso", "bus": BUSES["i2c"], "int": 22}, flag)]
for driver in drivers:
    driver.start()
seen = [[], [], []]
for _ in range(100):
    wiring.advance_us(20000)
    for driver, into in zip(drivers, seen):
        n = driver.read()
        into += list(driver.buffers[min(2, len(driver.buffers) - 1)])[:n]
for into in seen:
    tell([min(into), max(into), len(into)])
""")
    assert ecg[:2] == [122, 122]
    assert warmth == [3600, 3600, 2]
    assert motion[:2] == [1000, 1000], "one g upwards"
    assert ecg[2] in range(505, 513)
    assert motion[2] in range(203, 209)


def test_an_ads1292r_without_its_data_ready_line_is_taken_by_a_timer(bench):
    (got,) = bench("""
class Timer:
    PERIODIC = 1
    def init(self, *, freq, mode, callback):
        Timer.freq, Timer.callback = freq, callback
    def deinit(self):
        Timer.callback = None
machine.Timer = Timer
driver, chip = wired("ads1292r", "ads1292r", "Ads1292r", Frames(list(range(2000)), 2), None)
driver.start()
seen = []
for i in range(500):
    wiring.advance_us(4000)
    Timer.callback(None)
    if i % 25 == 24:
        n = driver.read()
        seen += list(driver.buffers[1])[:n]
freq = Timer.freq
driver.stop()
tell([freq, seen, NAMES[driver.state], Timer.callback, flag.count])
""")
    freq, seen, state, callback, woken = got
    assert freq == 250
    assert seen == list(range(seen[0], seen[0] + 2 * len(seen), 2))
    assert len(seen) >= 460
    assert (state, callback) == ("off", None)
    assert woken >= 15
