"""MAX86150 photoplethysmogram and ECG (Maxim, 19-8402 rev. 2) over I2C: infrared, red, ECG in one FIFO.

LEAD_OFF is about the optics alone: the ECG has no lead-off detection, and its electrodes need not be where the optics
are. An electrode that has come off looks like whatever the open input gives: a rail is known as such
(signals/quality.py), a flat line is told as asystole.
"""

from .max30101 import MaximFifo
from .sensor import const
from .states import RUNNING

# "Register Map" and the register descriptions after it
_INT_STATUS_1 = const(0x00)
_INT_ENABLE_1 = const(0x02)
_INT_ENABLE_2 = const(0x03)
_FIFO_CONFIG = const(0x08)
_FIFO_DATA_CONTROL_1 = const(0x09)
_FIFO_DATA_CONTROL_2 = const(0x0A)
_SYSTEM_CONTROL = const(0x0D)
_PPG_CONFIG_1 = const(0x0E)
_PPG_CONFIG_2 = const(0x0F)
_LED1_PA = const(0x11)
_LED2_PA = const(0x12)
_LED_RANGE = const(0x14)
_ECG_CONFIG_1 = const(0x3C)
_ECG_CONFIG_3 = const(0x3E)
_PART_ID = const(0xFF)

_PART = const(0x1E)
_A_FULL = const(0x80)
_SHDN = const(0x02)
_FIFO_EN = const(0x04)

_SETUP = (
    _SYSTEM_CONTROL, 0,
    _FIFO_CONFIG, 0x7F,  # rolls on full, interrupt at 17 samples, once, cleared by reading
    _FIFO_DATA_CONTROL_1, 0x21,  # FD1: LED1, infrared; FD2: LED2, red
    _FIFO_DATA_CONTROL_2, 0x09,  # FD3: ECG
    _PPG_CONFIG_1, 0xD7,  # full scale 32768 nA, 200 Hz, pulses of 400 us
    _PPG_CONFIG_2, 0,  # no averaging
    _LED_RANGE, 0,  # up to 50 mA
    _LED1_PA, 0x55,  # 17 mA
    _LED2_PA, 0x55,
    _ECG_CONFIG_1, 0x03,  # 200 Hz
    _ECG_CONFIG_3, 0x0D,  # gain 8 * 9.5 = 76, the calibrated one
    _PART_ID, 0x54, _PART_ID, 0x4D, 0xCE, 0x0A, 0xCF, 0x18, _PART_ID, 0,  # "AFE settings for the best ECG performance"
    _INT_ENABLE_1, _A_FULL,
    _INT_ENABLE_2, 0,
    _SYSTEM_CONTROL, _FIFO_EN,
)  # fmt: skip


class Max86150(MaximFifo):
    """PPG and ECG at one rate, so that a frame of the FIFO is one moment."""

    channels = ("red", "ir", "ecg")
    contact = ("red", "ir")
    rates = (200,)
    address = 0x5E
    frame_bytes = 9

    def _configure(self):
        state = self._is(_PART_ID, _PART)
        if state == RUNNING:
            self._put_all(_SETUP)
            self._clear_fifo()
            self._get(_INT_STATUS_1)  # takes PWR_RDY away
        return state

    def _sleep(self):
        self._put(_SYSTEM_CONTROL, _SHDN)

    def _unpack(self, frames, n, at):
        red, infrared, ecg = self.buffers
        for i in range(0, 9 * n, 9):
            # 19 bits of light to 18
            infrared[at] = (frames[i] & 7) << 15 | frames[i + 1] << 7 | frames[i + 2] >> 1
            red[at] = (frames[i + 3] & 7) << 15 | frames[i + 4] << 7 | frames[i + 5] >> 1
            value = (frames[i + 6] & 3) << 16 | frames[i + 7] << 8 | frames[i + 8]
            if value >= 0x20000:
                value -= 0x40000
            # a step is 12.247 microvolts / 76 ("ECG FIFO data"): 264/4096 of 2.5 microvolts, 0.01 % less
            value = (value * 264 + 2048) >> 12
            ecg[at] = -2047 if value < -2047 else 2047 if value > 2047 else value
            at += 1
        return at
