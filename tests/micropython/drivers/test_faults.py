"""What goes wrong with a chip: each fault is a state, is counted, and passes; no sample is made up or out of order."""

import itertools

import pytest

# chip: module and class of its model, codes a sample, rate, samples that its FIFO (or its driver's ring) holds
CHIPS = {
    "max30003": ("max30003", "Max30003", 1, 256, 32),
    "ads1292r": ("ads1292r", "Ads1292r", 2, 250, 256),
    "max30101": ("max30101", "Max30101", 2, 100, 32),
    "max86150": ("max86150", "Max86150", 3, 200, 32),
    "lsm6dso": ("lsm6dso", "Lsm6dso", 6, 104, 256),
    "mpu6050": ("mpu6050", "Mpu6050", 6, 100, 85),
    "tmp117": ("thermometers", "Tmp117", 1, 1, 1),
    "max30205": ("thermometers", "Max30205", 1, 1, 1),
}
LIGHT = ("max30101", "max86150")
I2C = [chip for chip in CHIPS if chip not in ("max30003", "ads1292r")]
FIFO = [chip for chip in CHIPS if CHIPS[chip][0] != "thermometers"]

# A sawtooth by which a sample's number can be told from any channel, modulo 400; in light, on a pedestal.
SETUP = """
name, module, model, width, rate = {name!r}, {module!r}, {model!r}, {width}, {rate}
pedestal = 40000 if name in ("max30101", "max86150") else 0
step = 52 if name == "ads1292r" else 16
codes = []
for n in range(400):
    codes += [pedestal + step * n] * width
driver, chip = wired(name, module, model, Frames(codes, width))
SECOND = 1000 if rate > 1 else 5000
EVERY = 40 if rate > 1 else 500
def numbers(got):
    channel = 1 if name == "ads1292r" else 0
    values = got["samples"][channel]
    if name == "max30003":
        return [(v * 8192 + 5000) // 10000 for v in values]
    if name == "ads1292r":
        return [v // 52 for v in values]
    if name == "max30101":
        return [(v - 40000) // 16 for v in values]
    if name == "max86150":
        return [(v - 20000) // 8 for v in values]
    return values
"""


@pytest.fixture(params=list(CHIPS))
def chip(request):
    return request.param


@pytest.fixture
def told(bench):
    """`told(chip, program)`: runs the program with the chip wired and its driver made; what it told."""

    def run(chip, program):
        module, model, width, rate, _ = CHIPS[chip]
        return bench(SETUP.format(name=chip, module=module, model=model, width=width, rate=rate) + program)

    return run


def test_what_comes_back_after_an_unplugged_chip_is_plugged_in(told, chip):
    before, gone, back = told(
        chip,
        """
driver.start()
tell(play(driver, SECOND, EVERY))
chip.unplug()
gone = play(driver, 2 * SECOND, EVERY)
tell(gone)
chip.plug_in()
tell(play(driver, 2 * SECOND, EVERY))
""",
    )
    assert before["states"] == ["running"]
    assert before["samples"][0]
    assert gone["samples"][0] == [], "nothing is made up"
    assert gone["state"] == "bus_error"
    assert gone["faults"] > before["faults"]
    assert back["state"] == "running"
    assert back["samples"][0]
    rate = CHIPS[chip][3]
    (at, gap) = back["gaps"][0]
    assert at == 0, "the gap is told with the first samples after it"
    seconds = 2 if rate > 1 else 10
    assert 0.9 * seconds * rate <= gap <= 1.25 * (seconds + 1) * rate + 1


def test_a_chip_that_was_never_there_is_found_when_it_comes(told, chip):
    absent, present = told(
        chip,
        """
chip.unplug()
driver.start()
tell([NAMES[driver.state], driver.read(), play(driver, SECOND, EVERY)])
chip.plug_in()
tell(play(driver, 2 * SECOND, EVERY))
""",
    )
    assert absent[:2] == ["bus_error", 0]
    assert absent[2]["state"] == "bus_error"
    assert present["state"] == "running"
    assert present["samples"][0]


@pytest.mark.parametrize("chip", [chip for chip in CHIPS if chip != "max30205"])  # which has no identity
def test_another_chip_is_not_taken_for_this_one(told, chip):
    wrong, right = told(
        chip,
        """
attribute = "_info" if name == "max30003" else "_part_id" if name in ("max30101", "max86150") else "_identity"
correct = getattr(chip, attribute)
setattr(chip, attribute, 0x600000 if name == "max30003" else 0x52)
chip.power_on()
driver.start()
tell(play(driver, SECOND, EVERY))
setattr(chip, attribute, correct)
chip.power_on()
tell(play(driver, 2 * SECOND, EVERY))
""",
    )
    assert wrong["state"] == "wrong_chip"
    assert wrong["samples"][0] == []
    assert right["state"] == "running"
    assert right["samples"][0]


def test_a_chip_that_lost_its_supply_for_a_moment_is_configured_anew(told, chip):
    before, after = told(
        chip,
        """
driver.start()
tell(play(driver, SECOND, EVERY))
chip.brown_out()
tell(play(driver, 3 * SECOND, EVERY))
""",
    )
    assert after["faults"] > before["faults"]
    assert after["state"] == "running"
    if CHIPS[chip][3] > 1:
        assert after["lost"] > 0
    assert len(after["samples"][0]) > CHIPS[chip][3]


@pytest.mark.parametrize("chip", I2C)
def test_a_bus_that_hangs_is_waited_for(told, chip):
    hanging, free = told(
        chip,
        """
driver.start()
play(driver, SECOND, EVERY)
wiring.stuck.add(0)
tell(play(driver, SECOND, EVERY))
wiring.stuck.clear()
tell(play(driver, 2 * SECOND, EVERY))
""",
    )
    assert (hanging["state"], hanging["samples"][0]) == ("bus_error", [])
    assert hanging["faults"] > 0
    assert free["state"] == "running"
    assert free["samples"][0]


@pytest.mark.parametrize("chip", FIFO)
def test_a_reader_that_comes_too_late_is_told_how_much_it_missed(told, chip):
    (got,) = told(
        chip,
        """
driver.start()
first = play(driver, 1000, 40)
wiring.advance_us(6000000)
made = chip.samples
late = play(driver, 40, 40)
rest = play(driver, 400, 40)
kept = len(first["samples"][0]) + len(late["samples"][0]) + len(rest["samples"][0])
gaps = [gap for got in (first, late, rest) for _, gap in got["gaps"]]
tell({"kept": kept, "gaps": gaps, "lost": driver.lost, "made": chip.samples, "states": late["states"] + rest["states"]})
""",
    )
    _, _, _, rate, held = CHIPS[chip]
    assert len(got["gaps"]) == 1
    assert got["gaps"][0] == got["lost"]
    assert got["lost"] >= 6 * rate - held - rate // 10
    skipped = 37 if chip == "ads1292r" else 0  # while its reference settles
    # An estimate by the clock where the chip does not count: right to a tick of the reader.
    assert abs(got["kept"] + got["lost"] + skipped - got["made"]) <= rate * 0.05 + 2
    assert "overflow" in got["states"]
    assert got["states"][-1] == "running"


@pytest.mark.parametrize("chip", ["max30003", "ads1292r", "max30101", "max86150"])
def test_order_is_kept_around_an_overflow(told, chip):
    (got,) = told(
        chip,
        """
driver.start()
play(driver, 500, 40)
wiring.advance_us(1500000)
tell(numbers(play(driver, 600, 40)))
""",
    )
    jumps = [n for n, (a, b) in enumerate(itertools.pairwise(got)) if (b - a) % 400 != 1]
    assert len(got) > 32
    assert len(jumps) <= 1, "at most where the hole is"


@pytest.mark.parametrize("chip", ["max30003", "ads1292r", *LIGHT])
def test_an_electrode_or_a_finger_that_comes_off(told, chip):
    on, off, again = told(
        chip,
        """
driver.start()
tell(play(driver, 500, 40))
def touch(is_there):
    if name in ("max30003", "ads1292r"):
        chip.lead_off = not is_there
    else:
        chip.finger = is_there
touch(False)
tell(play(driver, 500, 40))
touch(True)
tell(play(driver, 500, 40))
""",
    )
    assert on["states"] == ["running"]
    assert off["state"] == "lead_off"
    assert off["samples"][0], "samples go on; what they are worth is the state"
    assert again["state"] == "running"
    assert again["faults"] == 0


def test_a_finger_that_leaves_the_optics_of_a_max86150_leaves_its_ecg_alone(told):
    """Its heart stops with no finger on the optics: that is told, and not taken for an electrode that is off."""
    beating, stopped = told(
        "max86150",
        """
from qepa_board import sensing
from qepa_wire.measures import HEART_RATE, SPO2
from qepa_wire.payloads import ALERT_ASYSTOLE, ALERT_LEAD_OFF
class Identity:
    fs_hz, mains_hz = 200, 50
class Alerts:
    def is_active(self, kind):
        return False
def heart(seconds, height):
    codes = []
    for k in range(200 * seconds):
        at = k % 160
        codes += [40000, 40000, height * (8 - abs(at - 8)) if at < 16 else 0]
    return codes
def live(hub, chip, codes):
    chip.source = Frames(codes, 3)
    for k in range(len(codes) // 24):
        wiring.advance_us(40000)
        while hub.poll():
            pass
        if k % 25 == 24:
            hub.second()
    conditions = hub.conditions(Alerts())
    told = {code: (quality, value) for code, quality, value in hub.care(1, 0, Alerts()).measures}
    return [told[HEART_RATE], told[SPO2], conditions[ALERT_LEAD_OFF], conditions[ALERT_ASYSTOLE], NAMES[hub.states[0]]]
board = {"sensors": [{"chip": "max86150", "bus": BUSES["i2c"], "int": 21}]}
hub = sensing.Sensing(board, flag, Identity(), wiring.ticks_ms)
hub.start()
chip.finger = False
tell(live(hub, chip, heart(16, 1200)))
tell(live(hub, chip, heart(8, 0)))
""",
    )
    (_, rate), no_finger, lead_off, asystole, state = beating
    assert 70 <= rate <= 80
    assert (no_finger, state) == ([2, -32768], "lead_off")
    assert (lead_off, asystole) == (False, False)
    assert stopped[2:] == [False, True, "lead_off"]


@pytest.mark.parametrize("chip", [chip for chip in FIFO if chip != "ads1292r"])
def test_a_loose_contact_costs_only_what_it_must(told, chip):
    (got,) = told(
        chip,
        """
driver.start()
play(driver, 500, 40)
chip.loose = True
play(driver, 40, 40)
chip.loose = False
tell(play(driver, 1000, 40))
""",
    )
    assert got["state"] == "running"
    assert got["faults"] >= 1
    assert sum(gap for _, gap in got["gaps"]) == got["lost"]
    assert got["lost"] < CHIPS[chip][3], "well below a second"


@pytest.mark.parametrize("chip", ["max30003", "lsm6dso"])
def test_a_clock_that_wraps_makes_no_gap(told, chip):
    (got,) = told(
        chip,
        """
wiring._ms = 0x3FFFFFFF - 700
driver.start()
tell(play(driver, 2000, 40))
""",
    )
    assert (got["gaps"], got["lost"], got["faults"]) == ([], 0, 0)
    assert len(got["samples"][0]) > 1.9 * CHIPS[chip][3]


def test_a_stopped_driver_reads_nothing_and_starts_again(told, chip):
    stopped, again = told(
        chip,
        """
driver.start()
play(driver, SECOND, EVERY)
driver.stop()
driver.stop()
woken = flag.count
tell([play(driver, SECOND, EVERY), chip.rate, flag.count - woken])
driver.start()
driver.start()
tell(play(driver, SECOND, EVERY))
""",
    )
    quiet, rate, woken = stopped
    assert (quiet["state"], quiet["samples"][0]) == ("off", [])
    assert (rate, woken) == (0, 0), "the chip sleeps"
    assert (again["state"], again["lost"]) == ("running", 0)
    assert again["samples"][0]
