"""AD8232 single-lead heart rate monitor front end (Analog Devices, AD8232 data sheet rev. D) on an ADC pin.

OUT carries the amplified ECG around half the supply; LO+ and LO- are high while their electrode is off (DC leads-off
detection, AC/DC pin low). A timer samples at fs_hz into a ring: nothing is allocated and nothing raises there.
The gain is the board's: a millivolt is taken for 400 steps of the 12-bit converter (demonstration grade).
"""

from array import array

import machine

from .sensor import Sensor, const
from .states import RUNNING

OUT_PIN = 36
LO_PLUS_PIN = 32
LO_MINUS_PIN = 33

_RING = const(1024)  # 2.8 s at 360 Hz: what the application may spend on one long step
_MASK = const(1023)
_READ = const(128)


class Ad8232(Sensor):
    """Samples the front end; ``flag`` (asyncio.ThreadSafeFlag or alike) is set every ``block`` samples."""

    channels = ("ecg",)
    rates = range(200, 501)
    bus_kind = "adc"
    silence_ms = 1 << 29  # there is no chip to configure anew

    def __init__(self, flag, fs_hz, block=None, out=OUT_PIN, lo_plus=LO_PLUS_PIN, lo_minus=LO_MINUS_PIN):
        super().__init__(None, flag, fs_hz, _READ)
        # ATTN_11DB: full scale of about 3.1 V, the AD8232's whole swing on a 3.3 V supply
        self._adc = machine.ADC(machine.Pin(out), atten=machine.ADC.ATTN_11DB)
        self._lo_plus = machine.Pin(lo_plus, machine.Pin.IN)
        self._lo_minus = machine.Pin(lo_minus, machine.Pin.IN)
        self._block = block or fs_hz // 10
        self._timer = None
        self._ring = array("H", bytes(2 * _RING))
        # Written by the callback alone: total samples; by the reader alone: samples taken.
        self._written = 0
        self._taken = 0
        self._until_wake = self._block

    def _configure(self):
        self._taken = self._written
        return RUNNING

    def _listen(self):
        self._timer = machine.Timer(0)
        self._timer.init(freq=self.fs_hz, mode=machine.Timer.PERIODIC, callback=self._on_interrupt)

    def _sleep(self):
        self._timer.deinit()
        self._timer = None

    def _interrupt(self, _timer):
        written = self._written
        self._ring[written & _MASK] = self._adc.read_u16()
        self._written = written + 1
        self._until_wake -= 1
        if self._until_wake <= 0:
            self._until_wake = self._block
            self.available = written + 1 - self._taken
            self._flag.set()

    def _drain(self):
        """Signed 12-bit counts; what was overwritten before it was read is lost."""
        written = self._written
        lost = written - self._taken - _RING
        if lost > 0:
            self._missed = lost
            self._taken += lost
        taken = self._taken
        n = min(_READ, written - taken)
        ring = self._ring
        ecg = self.buffers[0]
        for i in range(n):
            ecg[i] = (ring[(taken + i) & _MASK] >> 4) - 2048
        self._taken = taken + n
        self.available = written - taken - n
        self._lead_off = bool(self._lo_plus.value() or self._lo_minus.value())
        return n
