# mypy: ignore-errors
# ruff: noqa: ARG002, D101, D103, PLR1714, PLW0603  signatures and names are MicroPython's; module state is the chip's
# This is MicroPython, with modules that CPython has not.
"""`machine` of an ESP32, as far as the firmware needs it. Timers run on the record's clock, in bursts of samples.

Host function -> what it does: `sampling(address, length, running)` tells where a burst's samples go and
whether a timer wants them; `feed(total)` that the samples up to `total` are worked off.
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

_BURST = 512  # the host sends at most half a second of samples
_samples = array("H", bytes(2 * _BURST))
_ADDRESS = uctypes.addressof(_samples)
_at = 0  # the sample that ADC pins show now
_before = 0  # samples delivered in earlier bursts
_timers = []


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
        self._id = id
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None):
        self._mode = mode
        self._pull = pull
        self._level = 1 if value else 0

    def value(self, level=None):
        """Level of the pin. An input without a pull is a lead-off output of the ECG front end."""
        if level is not None:
            self._level = 1 if level else 0
            return None
        if self._mode == Pin.OUT or self._mode == Pin.OPEN_DRAIN:
            return self._level
        if self._pull == Pin.PULL_UP:
            return 1
        return 0 if self._pull == Pin.PULL_DOWN else _host.lead_off()

    __call__ = value

    def on(self):
        self._level = 1

    def off(self):
        self._level = 0

    def irq(self, handler=None, trigger=3):
        raise NotImplementedError("virtual boards have no pin interrupts")


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
        _host.sampling(_ADDRESS, _BURST, 1)

    def deinit(self):
        if self in _timers:
            _timers.remove(self)
            if not _timers:
                _host.sampling(_ADDRESS, _BURST, 0)


_in_burst = False


def _burst(count):
    # The host has laid `count` samples at _ADDRESS: live through them.
    global _at, _before, _in_burst
    _in_burst = True
    _at = 0
    while _at < count:
        try:
            # Nearly always there is one timer, at the rate of the record.
            if len(_timers) == 1 and _timers[0]._step == _timers[0]._period and not _timers[0]._once:
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
                _at += 1
        except Exception as error:
            sys.print_exception(error)  # as a board does: the timer goes on
            _at += 1
    _at = count - 1
    _before += count
    _in_burst = False
