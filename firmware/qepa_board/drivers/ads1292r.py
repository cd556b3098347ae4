"""ADS1292R two-channel front end (Texas Instruments, SBAS502C) over SPI mode 1: respiration by impedance, and ECG.

The chip has no FIFO: DRDY interrupts for every sample, which is taken into a ring at once. Without DRDY a timer takes
them at the nominal rate; where the two clocks drift apart a sample is doubled or skipped. Conversions are started by
command, so START is wired to ground; PWDN/RESET is high.

The ECG channel is DC coupled: electrode offset (up to 300 mV) is removed by a first-order high pass of 0.08 Hz.
"""

from array import array

import machine

from .sensor import Sensor, const
from .states import BUS_ERROR, RUNNING, WRONG_CHIP

# Commands (section "SPI Command Definitions", table 15) and registers (section "Register Maps")
_SDATAC = const(0x11)
_RDATAC = const(0x10)
_START = const(0x08)
_STOP = const(0x0A)
_STANDBY = const(0x04)
_WAKEUP = const(0x02)
_RREG = const(0x20)
_WREG = const(0x40)
_CONFIG1 = const(0x01)

_ADS1292R = const(0x73)
# CONFIG2 to LOFF_SENS: reference and lead-off comparators on; 6 nA DC, comparators at 95 %; gain 2 for respiration
# and 6 for the ECG, electrodes connected; right leg driven from the ECG's inputs; lead-off on the ECG's inputs
_CONFIG2_TO_LOFF_SENS = b"\xe0\x10\x20\x00\x2c\x0c"
# RESP1: demodulation and modulation on, phase 112.5 degrees, internal clock; RESP2: 32 kHz, internal RLDREF
_RESP1_TO_RESP2 = b"\xea\x03"
_RESP1 = const(0x09)

_RING = const(256)  # about a second
_MASK = const(255)
_READ = const(64)
_SETTLING_MS = const(150)  # of the reference, once its buffer is on ("Electrical Characteristics")
_SLOW = const(9)  # time constant of the high pass, 2^9 samples
_FAST = const(4)  # likewise while the ECG is beyond the range
_OFF = const(0x06)  # IN2N_OFF and IN2P_OFF in the first status byte, 1100 RLD IN2N IN2P IN1N


class Ads1292r(Sensor):
    """``spi``: machine.SPI that no other chip shares; ``cs``: its chip select, an output that is high."""

    channels = ("ecg", "resp")
    rates = (250, 125, 500)  # CONFIG1 DR
    bus_kind = "spi"
    spi_mode = (0, 1)
    baudrate = 500000  # a byte takes longer than the 4 clock periods that a command needs to be decoded

    def __init__(self, spi, cs, pin, flag, fs_hz=250):
        super().__init__(pin, flag, fs_hz, _READ)
        self._spi = spi
        self._cs = cs
        self._frame = bytearray(9)
        self._ecg = array("i", bytes(4 * _RING))
        self._resp = array("i", bytes(4 * _RING))
        # Written by the interrupt alone: samples so far, the lead-off bits; by the reader alone: samples taken.
        self._written = 0
        self._status = 0
        self._taken = 0
        self._busy = False  # the bus is the reader's
        self._skip = 0
        self._baseline = 0
        self._settled = False
        self._timer = None
        self._block = fs_hz // 10

    def _send(self, data):
        self._cs.value(0)
        self._spi.write(data)
        self._cs.value(1)

    def _configure(self):
        self._busy = True
        try:
            return self._set_up()
        finally:
            self._busy = False

    def _set_up(self):
        # After power-on the chip streams; registers answer only when it does not.
        for command in (_WAKEUP, _SDATAC, _STOP):
            self._send(bytes((command,)))
        ask = bytearray((_RREG, 0, 0))
        self._cs.value(0)
        self._spi.write_readinto(ask, ask)
        self._cs.value(1)
        if ask[2] != _ADS1292R:
            return BUS_ERROR if ask[2] in (0, 0xFF) else WRONG_CHIP
        rate = 1 if self.fs_hz == 250 else 0 if self.fs_hz == 125 else 2
        self._send(bytes((_WREG | _CONFIG1, len(_CONFIG2_TO_LOFF_SENS), rate)) + _CONFIG2_TO_LOFF_SENS)
        self._send(bytes((_WREG | _RESP1, len(_RESP1_TO_RESP2) - 1)) + _RESP1_TO_RESP2)
        self._send(bytes((_RDATAC,)))
        self._send(bytes((_START,)))
        self._taken = self._written
        self._skip = _SETTLING_MS * self.fs_hz // 1000
        self._settled = False
        return RUNNING

    def _listen(self):
        if self._pin is not None:
            self._pin.irq(self._on_interrupt, self._pin.IRQ_FALLING)
        else:
            self._timer = machine.Timer(1)
            self._timer.init(freq=self.fs_hz, mode=machine.Timer.PERIODIC, callback=self._on_interrupt)

    def stop(self):
        """End it; the chip is in standby."""
        if self._timer is not None:
            self._timer.deinit()
            self._timer = None
        super().stop()

    def _sleep(self):
        for command in (_SDATAC, _STOP, _STANDBY):
            self._send(bytes((command,)))

    def _interrupt(self, _pin):
        if self._busy:
            return
        frame = self._frame
        cs = self._cs
        cs.value(0)
        self._spi.readinto(frame)
        cs.value(1)
        if frame[0] & 0xF0 != 0xC0:
            return  # nobody there: silence is noticed by read()
        if self._skip:
            self._skip -= 1
            return
        written = self._written
        at = written & _MASK
        value = frame[3] << 16 | frame[4] << 8 | frame[5]
        self._resp[at] = value - 0x1000000 if value & 0x800000 else value
        value = frame[6] << 16 | frame[7] << 8 | frame[8]
        self._ecg[at] = value - 0x1000000 if value & 0x800000 else value
        self._status = frame[0]
        self._written = written = written + 1
        self.available = waiting = written - self._taken
        if waiting % self._block == 0:
            self._flag.set()

    def _drain(self):
        written = self._written
        lost = written - self._taken - _RING
        if lost > 0:
            self._missed = lost
            self._taken += lost
            self._settled = False
        taken = self._taken
        n = min(_READ, written - taken)
        resp = self.buffers[1]
        for i in range(n):
            resp[i] = self._resp[(taken + i) & _MASK]
        self._high_pass(taken, n)
        self._taken = taken + n
        self.available = written - taken - n
        was_off = self._lead_off
        self._lead_off = bool(self._status & _OFF)
        if was_off and not self._lead_off:
            self._settled = False
        return n

    def _high_pass(self, taken, n):
        out = self.buffers[0]
        baseline = self._baseline  # times 2^9: 28 bits
        for i in range(n):
            value = self._ecg[(taken + i) & _MASK] >> 4
            if not self._settled:
                self._settled = True
                baseline = value << _SLOW
            value -= baseline >> _SLOW
            # a step >> 4 is 2.42 V / (6 * 2^19) ("Data Format"): 4/13 of 2.5 microvolts, 0.01 % less
            step = (4 * value + 6) // 13
            if -2047 <= step <= 2047:
                baseline += value
            else:
                step = -2047 if step < 0 else 2047
                baseline += value << (_SLOW - _FAST)
            out[i] = step
        self._baseline = baseline
