"""AD8232 single-lead heart rate monitor front end (Analog Devices, AD8232 data sheet rev. D) on an ADC pin.

OUT carries the amplified ECG around half the supply; LO+ and LO- are high while their electrode is off (DC leads-off
detection, AC/DC pin low). A timer samples at fs_hz into a ring: nothing is allocated and nothing raises there.
"""

from array import array

import machine

OUT_PIN = 36
LO_PLUS_PIN = 32
LO_MINUS_PIN = 33

_RING = 1024  # 2.8 s at 360 Hz: what the application may spend on one long step
_MASK = _RING - 1

OFF = 0
RUNNING = 1


class Ad8232:
    """Samples the front end; ``flag`` (asyncio.ThreadSafeFlag or alike) is set every ``block`` samples.

    ``state`` is OFF or RUNNING; ``overflow`` counts samples lost because nobody read for too long.
    """

    def __init__(self, fs_hz, block, flag, out=OUT_PIN, lo_plus=LO_PLUS_PIN, lo_minus=LO_MINUS_PIN):
        # ATTN_11DB: full scale of about 3.1 V, the AD8232's whole swing on a 3.3 V supply
        self._adc = machine.ADC(machine.Pin(out), atten=machine.ADC.ATTN_11DB)
        self._lo_plus = machine.Pin(lo_plus, machine.Pin.IN)
        self._lo_minus = machine.Pin(lo_minus, machine.Pin.IN)
        self._fs_hz = fs_hz
        self._block = block
        self._flag = flag
        self._timer = None
        self._ring = array("H", bytes(2 * _RING))
        # Written by the callback alone: total samples; by the reader alone: samples taken.
        self._written = 0
        self._taken = 0
        self._until_wake = block
        self._sample_callback = self._sample  # bound once: binding allocates
        self.state = OFF
        self.overflow = 0

    def start(self):
        """Start sampling."""
        if self.state == OFF:
            self._timer = machine.Timer(0)
            self._timer.init(freq=self._fs_hz, mode=machine.Timer.PERIODIC, callback=self._sample_callback)
            self.state = RUNNING

    def stop(self):
        """Stop sampling."""
        if self.state == RUNNING:
            self._timer.deinit()
            self._timer = None
            self.state = OFF

    def _sample(self, _timer):
        written = self._written
        self._ring[written & _MASK] = self._adc.read_u16()
        self._written = written + 1
        self._until_wake -= 1
        if self._until_wake <= 0:
            self._until_wake = self._block
            self._flag.set()

    @property
    def lead_off(self):
        """Whether an electrode is off, now."""
        return bool(self._lo_plus.value() or self._lo_minus.value())

    @property
    def available(self):
        """Samples waiting."""
        return self._written - self._taken

    def read(self, counts):
        """Fill ``counts`` (array of 'h') with signed 12-bit counts, oldest first; returns how many.

        What was overwritten before it was read is counted in ``overflow`` and skipped.
        """
        written = self._written
        lost = written - self._taken - _RING
        if lost > 0:
            self.overflow += lost
            self._taken += lost
        taken = self._taken
        n = min(len(counts), written - taken)
        ring = self._ring
        for i in range(n):
            counts[i] = (ring[(taken + i) & _MASK] >> 4) - 2048
        self._taken = taken + n
        return n
