"""The AD8232's driver: a timer, an ADC and two lead-off lines."""

# A machine of which the test moves every part.
SETUP = """
class Pin:
    IN = 1
    levels = {}
    def __init__(self, number, mode=-1):
        self.number = number
    def value(self):
        return Pin.levels.get(self.number, 0)
class ADC:
    ATTN_11DB = 3
    shown = 0
    def __init__(self, pin, atten):
        pass
    def read_u16(self):
        ADC.shown = (ADC.shown + 16) & 0xFFFF
        return ADC.shown
class Timer:
    PERIODIC = 1
    def __init__(self, id):
        pass
    def init(self, *, freq, mode, callback):
        Timer.freq, Timer.callback = freq, callback
    def deinit(self):
        Timer.callback = None
for part in (Pin, ADC, Timer):
    setattr(machine, part.__name__, part)
driver = open_sensor({"chip": "ad8232", "out": 36, "lo_plus": 32, "lo_minus": 33}, flag)
def let(samples):
    for _ in range(samples):
        Timer.callback(None)
def read():
    n = driver.read()
    return [n, list(driver.buffers[0])[:n], NAMES[driver.state], driver.gap, driver.lost]
"""


def test_samples_come_in_order_as_signed_counts_and_wake_the_reader_every_tenth_of_a_second(bench):
    first, second, waiting = bench(
        SETUP
        + """
driver.start()
let(72)
tell([driver.available, flag.count] + read())
let(100)
n = driver.available
tell([n] + read())
let(300)
tell([read()[0], driver.available, read()[0], read()[0], read()[0], driver.available])
"""
    )
    available, woken, n, counts, state, gap, lost = first
    assert (available, woken, n, state, gap, lost) == (72, 2, 72, "running", 0, 0)
    assert counts == [k - 2047 for k in range(72)]
    assert second[2] == [k - 2047 for k in range(72, 172)]
    assert waiting == [128, 172, 128, 44, 0, 0]


def test_what_nobody_read_in_time_is_counted_as_lost_before_the_next_samples(bench):
    late, after = bench(SETUP + "driver.start()\nlet(1024 + 50)\ntell(read())\ntell(read())\n")
    assert (late[2], late[3], late[4]) == ("overflow", 50, 50)
    assert late[1][0] == 50 - 2047
    assert (after[2], after[3], after[4]) == ("running", 0, 50)
    assert after[1][0] == late[1][-1] + 1


def test_each_electrode_is_watched(bench):
    states = bench(
        SETUP
        + """
driver.start()
for pin, level in ((32, 1), (32, 0), (33, 1), (33, 0)):
    Pin.levels[pin] = level
    let(10)
    tell(read()[2])
driver.stop()
tell([read()[2], Timer.callback])
"""
    )
    assert states == ["lead_off", "running", "lead_off", "running", ["off", None]]
