# mypy: ignore-errors
# ruff: noqa: ARG002, D101, D103, PLC0415, PLR1714, PLW0603  signatures and names are MicroPython's; module state is the chip's
# This is MicroPython, with modules that CPython has not.
"""`machine` of an ESP32, as far as the firmware needs it. Timers run on the record's clock, in bursts of samples.

Host function -> what it does: `sampling(address, length, running)` tells where a burst's samples go, how many of them
it may have beyond the last feed, and whether somebody wants them; `feed(total)` that the samples up to `total` are
worked off. What /chips.json names hangs on buses and pins (qepa_tools.chips.board_plan); its time is the record's.
"""

import sys
from array import array

import _host
import uctypes

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5

_BURST = 512  # the host sends at most half a second of samples,
_BURST_WITH_CHIPS = 18  # and no more than FIFOs can take
_samples = array("H", bytes(2 * _BURST))
_ADDRESS = uctypes.addressof(_samples)
_at = 0  # the sample that ADC pins show now
_before = 0  # samples delivered in earlier bursts
_timers = []
_wired = None  # qepa_tools.chips.wiring, once something is wired


def reset():
    _host.reset()


def reset_cause():
    return _host.reset_cause()


def unique_id():
    return bytes.fromhex(_host.unique_id())


def freq(_hz=None):
    return 240_000_000


def idle():
    pass


def disable_irq():
    return 0


def enable_irq(_state):
    pass


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
        """Level of the pin. An input without a pull is a lead-off output of the ECG front end."""
        if level is not None:
            self._level = 1 if level else 0
            if _wired is not None:
                _wired.drive(self.number, self._level)
            return None
        if self._mode == Pin.OUT or self._mode == Pin.OPEN_DRAIN:
            return self._level
        if _wired is not None:
            level = _wired.level(self.number)
            if level is not None:
                return level
        if self._pull == Pin.PULL_UP:
            return 1
        return 0 if self._pull == Pin.PULL_DOWN else _host.lead_off()

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def irq(self, handler=None, trigger=3):
        """Interrupts come from chips that are wired; other pins never change."""
        if _wired is not None:
            _wired.watch(self.number, handler, trigger, self)


class _HostsAdc:
    """The host's record as a MAX30003 at 40 V/V would see it: 400 steps of the converter are a millivolt."""

    def __init__(self):
        self.data = array("i", (0,))

    def next(self):
        self.data[0] = ((_samples[_at] >> 4) - 2048) * 8192 // 625
        return 0


def wire(wiring):
    """Connect pins to what is wired; tests do it by hand, boards by their plan."""
    global _wired
    _wired = wiring


def _buses():
    """The module with I2C and SPI; the first use wires the board's plan and starts its clock."""
    from chips import wiring

    if _wired is None:
        from chips.board_plan import connect, read_plan

        wire(wiring)
        plan = read_plan()
        if plan is not None:
            connect(plan, _HostsAdc())
            sensor = sys.modules.get("qepa_board.drivers.sensor")
            if sensor is not None:
                sensor.ticks_ms = wiring.ticks_ms  # drivers judge their chips by the chips' own time
            _sample()
    return wiring


def I2C(*args, **settings):  # noqa: N802
    return _buses().I2C(*args, **settings)


def SoftI2C(*args, **settings):  # noqa: N802
    return _buses().SoftI2C(*args, **settings)


def SPI(*args, **settings):  # noqa: N802
    return _buses().SPI(*args, **settings)


def SoftSPI(*args, **settings):  # noqa: N802
    return _buses().SPI(-1, *args, **settings)


def _sample():
    """Ask the host for samples, or for none: timers and chips want them."""
    chips = _wired is not None and bool(_wired.named)
    _host.sampling(_ADDRESS, _BURST_WITH_CHIPS if chips else _BURST, 1 if _timers or chips else 0)


class ADC:
    ATTN_0DB = 0
    ATTN_2_5DB = 1
    ATTN_6DB = 2
    ATTN_11DB = 3

    def __init__(self, pin, *, atten=0):
        pass

    def atten(self, _atten):
        pass

    def read_u16(self):
        return _samples[_at]

    def read_uv(self):
        return _samples[_at] * 3_300_000 // 65535


class WDT:
    def __init__(self, id=0, timeout=5000):
        _host.watchdog(timeout)

    def feed(self):
        _host.feed(_before + _at + 1 if _in_burst else _before)


class Timer:
    ONE_SHOT = 0
    PERIODIC = 1

    def __init__(self, id=-1, **settings):
        if settings:
            self.init(**settings)

    def init(self, *, mode=PERIODIC, freq=-1, period=-1, tick_hz=1000, callback=None):
        self.deinit()
        # Ticks of the record's clock and of the timer are kept in one unit, so that no rounding accumulates.
        if freq > 0:
            self._step, self._period = freq, _host.record_rate()
        else:
            self._step, self._period = tick_hz, period * _host.record_rate()
        self._once = mode == Timer.ONE_SHOT
        self._elapsed = 0
        self._callback = callback
        _timers.append(self)
        _sample()

    def deinit(self):
        if self in _timers:
            _timers.remove(self)
            if not _timers:
                _sample()


_in_burst = False
_credit_us = 0
_lead_off = False


def _advance_chips():
    """A record sample's time passes for the chips."""
    global _credit_us
    _credit_us += 1000000
    step_us = _credit_us // _host.record_rate()
    _credit_us -= step_us * _host.record_rate()
    _wired.advance_us(step_us)


def _tell_leads():
    """Electrodes come off chips as they do off the ADC."""
    global _lead_off
    off = bool(_host.lead_off())
    if off != _lead_off:
        _lead_off = off
        for chip in _wired.named.values():
            chip.lead_off = off


def _burst(count):
    # The host has laid `count` samples at _ADDRESS: live through them.
    global _at, _before, _in_burst
    _in_burst = True
    _at = 0
    chips = _wired is not None and bool(_wired.named)
    if chips:
        _tell_leads()
    while _at < count:
        try:
            # Nearly always there is one timer, at the rate of the record.
            if not chips and len(_timers) == 1 and _timers[0]._step == _timers[0]._period and not _timers[0]._once:
                timer = _timers[0]
                callback = timer._callback
                while _at < count and len(_timers) == 1 and timer._callback is callback:
                    callback(timer)
                    _at += 1
            else:
                for timer in tuple(_timers):
                    timer._elapsed += timer._step
                    while timer._elapsed >= timer._period and timer in _timers:
                        timer._elapsed -= timer._period
                        if timer._once:
                            timer.deinit()
                        timer._callback(timer)
                if chips:
                    _advance_chips()
                _at += 1
        except Exception as error:
            sys.print_exception(error)  # as a board does: the timer goes on
            _at += 1
    if chips:
        _wired.wake()
    _at = count - 1
    _before += count
    _in_burst = False
