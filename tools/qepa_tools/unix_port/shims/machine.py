# mypy: ignore-errors
# ruff: noqa: ARG002, D101, D103, PLC0415, PLW0603  signatures and names are MicroPython's; module state is the chip's
# This is MicroPython, with modules that CPython has not.
"""`machine` of an ESP32 on the unix port, as far as the firmware needs it. Time is the host's.

What /chips.json names hangs on buses and pins (qepa_tools.chips.board_plan); time passes for it, and for timers, when
a bus or pin is used and every few milliseconds while asyncio runs. A watchdog that is not fed ends the process with
SIGALRM, a reset with exit status 42; whoever started it starts it again.
"""

import asyncio
import os
import sys
from time import ticks_add, ticks_diff, ticks_us

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5

_EXIT_HARD_RESET = 42
_TICK_MS = 4
_LONGEST_US = 2000000  # the chips of a board that was stopped do not catch up beyond this
_reset_cause = int(os.getenv("QEPA_RESET_CAUSE") or PWRON_RESET)
_wired = None  # qepa_tools.chips.wiring, once something is wired
_adcs = {}  # pin: (source, rate)
_timers = []
_then_us = ticks_us()
_ticking = False


def reset():
    sys.exit(_EXIT_HARD_RESET)


def reset_cause():
    return _reset_cause


def unique_id():
    return bytes.fromhex(os.getenv("QEPA_UNIQUE_ID") or "020000000001")


def freq(_hz=None):
    return 240_000_000


def idle():
    pass


def disable_irq():
    return 0


def enable_irq(_state):
    pass


def _poll():
    """Let the time that has passed pass for chips, converters and timers."""
    global _then_us
    us = ticks_diff(ticks_us(), _then_us)
    if us < 10:
        return
    us -= us % 10
    _then_us = ticks_add(_then_us, us)
    us = min(us, _LONGEST_US)
    if _wired is not None:
        _wired.advance_us(us)
    for adc in _adcs.values():
        adc.advance_us(us)
    for timer in tuple(_timers):
        timer._advance_us(us)


async def _tick():
    while True:
        _poll()
        await asyncio.sleep_ms(_TICK_MS)


def _run_clock():
    global _ticking, _then_us
    if not _ticking:
        _ticking = True
        _then_us = ticks_us()
        asyncio.create_task(_tick())  # noqa: RUF006  the loop holds it


class Pin:
    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_UP = 2
    PULL_DOWN = 1
    IRQ_RISING = 1
    IRQ_FALLING = 2

    def __init__(self, id, mode=-1, pull=-1, *, value=None):
        self.number = id
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None):
        self._mode = mode
        self._pull = pull
        self._level = 1 if value else 0

    def value(self, level=None):
        """Level of the pin; an input that nothing drives is at its pull, or low."""
        if level is not None:
            self._level = 1 if level else 0
            if _wired is not None:
                _wired.drive(self.number, self._level)
            return None
        if self._mode in (Pin.OUT, Pin.OPEN_DRAIN):
            return self._level
        if _wired is not None:
            level = _wired.level(self.number)
            if level is not None:
                return level
        return 1 if self._pull == Pin.PULL_UP else 0

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def irq(self, handler=None, trigger=3):
        """Interrupts come from chips that are wired; other pins never change."""
        if _wired is not None:
            _wired.watch(self.number, handler, trigger, self)
            if _wired.before_use is not None:
                _run_clock()


class _AnalogueInput:
    """The record that an ADC pin shows: 16-bit counts at its own rate."""

    def __init__(self, source, rate):
        self._source = source
        self._rate = rate
        self._credit = 0
        self._at = source.next()

    def advance_us(self, us):
        self._credit += us // 10 * self._rate
        while self._credit >= 100000:
            self._credit -= 100000
            self._at = self._source.next()

    def read(self):
        return self._source.data[self._at]


class ADC:
    ATTN_0DB = 0
    ATTN_2_5DB = 1
    ATTN_6DB = 2
    ATTN_11DB = 3

    def __init__(self, pin, *, atten=0):
        _buses()
        self._pin = pin.number if isinstance(pin, Pin) else pin

    def atten(self, _atten):
        pass

    def read_u16(self):
        shown = _adcs.get(self._pin)
        return 32768 if shown is None else shown.read()

    def read_uv(self):
        return self.read_u16() * 3_300_000 // 65535


class WDT:
    def __init__(self, id=0, timeout=5000):
        self._alarm = None
        self._seconds = max(1, (timeout + 999) // 1000)
        try:
            import ffi

            self._alarm = ffi.open("libc.so.6").func("I", "alarm", "I")
        except (ImportError, OSError):
            pass
        self.feed()

    def feed(self):
        if self._alarm is not None:
            self._alarm(self._seconds)


class Timer:
    ONE_SHOT = 0
    PERIODIC = 1

    def __init__(self, id=-1, **settings):
        if settings:
            self.init(**settings)

    def init(self, *, mode=PERIODIC, freq=-1, period=-1, tick_hz=1000, callback=None):
        self.deinit()
        # Microseconds and the timer's rate are kept in one unit, so that no rounding accumulates.
        self._step, self._period = (freq, 100000) if freq > 0 else (tick_hz, period * 100000)
        self._once = mode == Timer.ONE_SHOT
        self._elapsed = 0
        self._callback = callback
        _timers.append(self)
        _run_clock()

    def deinit(self):
        if self in _timers:
            _timers.remove(self)

    def _advance_us(self, us):
        self._elapsed += us // 10 * self._step
        while self._elapsed >= self._period and self in _timers:
            self._elapsed -= self._period
            if self._once:
                self.deinit()
            try:
                self._callback(self)
            except Exception as error:
                sys.print_exception(error)  # as a board does: the timer goes on


def wire(wiring):
    """Connect pins to what is wired; tests do it by hand, boards by their plan."""
    global _wired
    _wired = wiring


def _buses():
    """The module with I2C and SPI; the first use wires the board's plan."""
    from chips import wiring

    if _wired is None:
        from chips.board_plan import connect, read_plan
        from chips.chip import FileFrames

        wire(wiring)
        plan = read_plan()
        if plan is not None:
            wiring.before_use = _poll
            connect(plan)
            for entry in plan:
                if entry["chip"] == "ad8232":
                    _adcs[entry["out"]] = _AnalogueInput(FileFrames(entry["codes"], 1), entry.get("fs_hz", 360))
    return wiring


def I2C(*args, **settings):  # noqa: N802
    return _buses().I2C(*args, **settings)


def SoftI2C(*args, **settings):  # noqa: N802
    return _buses().SoftI2C(*args, **settings)


def SPI(*args, **settings):  # noqa: N802
    return _buses().SPI(*args, **settings)


def SoftSPI(*args, **settings):  # noqa: N802
    return _buses().SPI(-1, *args, **settings)
