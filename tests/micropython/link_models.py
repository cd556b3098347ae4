# ruff: noqa: ARG002  methods are those that the firmware calls
# This is MicroPython and CPython.
"""Stand-ins for the hardware of the optical controllers: seeded, on the caller's clock in milliseconds.

`Esp32` is the chip below the hardware class of that name; it has its own clock.
"""

import sys
import time
from array import array

SLOT_TICKS = 1000
TICK_PS = 16_000
SYNC_EVERY = 100
DRIFT = 20_000  # the tagger's clock gains a tick in so many


class Random:
    """A small linear congruential generator, the same everywhere (31-bit, Park and Miller 1988)."""

    def __init__(self, seed):
        self._state = seed

    def below(self, n):
        self._state = self._state * 48271 % 2147483647
        return (self._state >> 8) % n


class Pulses:
    """Hardware of a transmitter: pulses go out at the rate that was set, on the clock `now_ms()`."""

    block_slots = 64
    ring_slots = 4096

    def __init__(self, now_ms):
        self._now_ms = now_ms
        self._random = Random(42)
        self._rate = 0
        self._began_ms = 0
        self._put = 0
        self.symbols = []
        self.keep_symbols = False
        self.dark = True
        self.broken = False

    def start(self, settings):
        self._rate = settings["pulse_rate_hz"][0]
        self._put = 0
        self.symbols = []
        self.dark = False

    def random(self, buffer):
        for i in range(len(buffer)):
            buffer[i] = 7 if self.broken else self._random.below(256)
        return True

    def _sent(self):
        return int(self._now_ms() - self._began_ms) * self._rate // 1000 if self._put >= 2 else 0

    def free(self):
        return 2 - (self._put - self._sent() // self.block_slots)

    def put(self, symbols):
        self._put += 1
        if self._put == 2:
            self._began_ms = self._now_ms()
        if self.keep_symbols:
            self.symbols += list(symbols)

    def sent(self):
        return min(self._put, self._sent() // self.block_slots + 1) * self.block_slots if self._put >= 2 else 0

    def fault(self):
        return "underrun" if self._put >= 2 and self._sent() > self._put * self.block_slots else ""

    def stop(self):
        self.dark = True

    def refuses(self, name, value):
        return "no reference clock here" if name == "clock" and value == "external" else ""

    def self_test(self):
        return "model"


class PatientPulses(Pulses):
    """Light that waits for blocks that come late: for tests in real time on a busy machine."""

    def _sent(self):
        return min(super()._sent(), (self._put - 1) * self.block_slots)

    def fault(self):
        return ""


class Tags:
    """Hardware of a receiver that sees the light of `tags_until`."""

    tick_ps = TICK_PS

    def __init__(self, now_ms):
        self._now_ms = now_ms
        self._began_ms = 0
        self._light = None
        self._ahead = None
        self._waiting = None
        self._lost = 0
        self.base = 0xFFFFF000  # the counter wraps soon

    def start(self, settings):
        self._began_ms = self._now_ms()
        self._light = light()
        self._ahead = next(self._light)
        self._waiting = [[], [], [], [], []]

    def now(self):
        ticks = int((self._now_ms() - self._began_ms) * 1000) * 1000 // (TICK_PS // 1000)
        while self._ahead[0] < ticks:
            self._waiting[self._ahead[1]].append(self.base + self._ahead[0] & 0xFFFFFFFF)
            self._ahead = next(self._light)
        return self.base + ticks & 0xFFFFFFFF

    def read(self, channel, buffer):
        waiting = self._waiting[channel]
        count = min(len(buffer), len(waiting))
        for i in range(count):
            buffer[i] = waiting[i]
        self._waiting[channel] = waiting[count:]
        return count

    def lost(self):
        return self._lost

    def stop(self):
        pass

    def refuses(self, name, value):
        return ""

    def self_test(self):
        return "model"


def light():
    """Yield (tick, channel), in order: clicks 2 to 20 slots apart, in the middle half of a slot, and sync pulses."""
    random = Random(7)
    slot, next_sync = 3, 0
    while True:
        tick = slot * SLOT_TICKS + SLOT_TICKS // 4 + random.below(SLOT_TICKS // 2)
        detector = random.below(4)
        while next_sync * SLOT_TICKS < tick:
            yield drifted(next_sync * SLOT_TICKS), 4
            next_sync += SYNC_EVERY
        yield drifted(tick), detector
        slot += 2 + random.below(19)


def drifted(tick):
    """What the tagger's clock shows at true tick `tick`; the first sync pulse is at 5000."""
    return 5000 + tick + tick // DRIFT


class Esp32:
    """An ESP32's pins and RMT, and what they did when. It stands for the modules `esp32`, `machine`, `time` and `os`.

    `ticks` are of 12.5 ns. Calls take time, `let_pass` lets it go by. Each change of a pin is an entry of `times` and
    `changes` (pin << 1 | level), the end of a strobe at its start. Recording allocates nothing.
    """

    TICKS_PER_US = 80
    CALL_TICKS = 80

    def __init__(self, start_us, size=8192):
        self._start_us = start_us
        self._wraps_us = (1 << 30) - start_us  # never added: small integers end here
        self._random = Random(11)
        self.ticks = 0
        self.stuck = False  # the random source
        self.size = 0
        self.times = array("I", [0] * size)
        self.changes = bytearray(size)
        self.ticks_diff = time.ticks_diff
        self.ticks_add = time.ticks_add
        self.Pin, self.RMT = Esp32Pin, Esp32Rmt
        Esp32Pin.chip = self
        Esp32Pin.levels = bytearray(40)

    def install(self):
        """Be the modules that a hardware class imports."""
        sys.modules["esp32"] = sys.modules["machine"] = self

    def let_pass(self, microseconds):
        self.ticks += microseconds * self.TICKS_PER_US

    def ms(self):
        return self.ticks // (1000 * self.TICKS_PER_US)

    def ticks_us(self):
        self.ticks += self.CALL_TICKS
        passed = self.ticks // self.TICKS_PER_US
        return self._start_us + passed if passed < self._wraps_us else passed - self._wraps_us

    def urandom(self, count):
        return bytes([7 if self.stuck else self._random.below(256) for _ in range(count)])

    def record(self, tick, pin, level):
        self.times[self.size] = tick
        self.changes[self.size] = pin << 1 | level
        self.size += 1


class Esp32Pin:
    """machine.Pin, as an output."""

    OUT = 3
    chip = None
    levels = None

    def __init__(self, number, mode=-1, value=None):
        if number in (20, 24) or not 0 <= number < 34:
            raise ValueError("no such output")
        if mode != self.OUT:
            raise ValueError("not an output")
        self.number = number
        if value is not None:
            self.value(value)

    def value(self, level):
        chip = self.chip
        chip.ticks += chip.CALL_TICKS
        if self.levels[self.number] != level:
            self.levels[self.number] = level
            chip.record(chip.ticks, self.number, level)

    def off(self):
        self.value(0)


class Esp32Rmt:
    """esp32.RMT of MicroPython 1.25: one channel, no carrier, durations as a list or tuple, idle low."""

    LATENCY_TICKS = 400
    PULSE_MAX = 32767

    def __init__(self, channel, *, pin, clock_div=8):
        if not 0 <= channel < 7:  # the last is taken by machine.bitstream
            raise ValueError("channel")
        if not 1 <= clock_div <= 255:
            raise ValueError("clock_div must be between 1 and 255")
        self._pin = pin
        self._clock_div = clock_div
        self._end = 0

    def write_pulses(self, durations, data=True):
        """Begin the sequence, once the one before is over. Levels alternate from `data`."""
        if not isinstance(durations, tuple) and not isinstance(durations, list):  # one tuple of both is allocated
            raise TypeError("object isn't a tuple or list")
        if not durations:
            raise ValueError("No pulses")
        chip = self._pin.chip
        chip.ticks = at = max(chip.ticks, self._end) + self.LATENCY_TICKS
        level, before = 1 if data else 0, 0
        for i in range(len(durations)):
            duration = durations[i]
            if not 0 < duration <= self.PULSE_MAX:
                raise ValueError("a duration of 0 ends a sequence and longer ones do not fit")
            if level != before:
                chip.record(at, self._pin.number, level)
            at += duration * self._clock_div
            before, level = level, 1 - level
        if before:
            chip.record(at, self._pin.number, 0)
        self._end = at
