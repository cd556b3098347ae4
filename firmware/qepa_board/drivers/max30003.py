"""MAX30003 single-lead ECG front end (Maxim, MAX30003 data sheet rev. 3) over SPI mode 0.

Electrodes are connected (the input multiplexer isolates them after power-on), the calibration source is off, DC
lead-off detection is on. The FIFO interrupts at half its depth.
"""

from .sensor import RESET, UNKNOWN, Sensor, const
from .states import BUS_ERROR, RUNNING, WRONG_CHIP

# "Register Map" and the register descriptions after it; registers hold 24 bits
_STATUS = const(0x01)
_EN_INT = const(0x02)
_MNGR_INT = const(0x04)
_SW_RST = const(0x08)
_SYNCH = const(0x09)
_FIFO_RST = const(0x0A)
_INFO = const(0x0F)
_CNFG_GEN = const(0x10)
_CNFG_CAL = const(0x12)
_CNFG_EMUX = const(0x14)
_CNFG_ECG = const(0x15)
_ECG_FIFO_BURST = const(0x20)

_INFO_FIXED = const(0xF03000)  # all of INFO but the revision and what is reserved
_MAX30003 = const(0x503000)
_FIFO_WORDS = const(32)
_WATERMARK = const(16)

# STATUS
_EOVF = const(0x400000)
_LDOFF = const(0x0F)  # LDOFF_PH, PL, NH, NL
# EN_INT: EINT and EOVF, INTB open drain with the internal pull-up. Not DCLOFFINT: it would hold the line down.
_INTERRUPTS = const(0xC00003)
# CNFG_GEN: FMSTR 32768 Hz, EN_ECG, EN_DCLOFF, 10 nA, 300 mV, resistive bias of 100 Mohm on both inputs
_GENERAL = const(0x081217)
# CNFG_ECG: GAIN 40 V/V, DHPF 0.5 Hz, DLPF 100 Hz; RATE comes on top
_ECG = const(0x016000)
# ETAG of a FIFO word ("ECG FIFO", data tags)
_EOF = const(2)
_EMPTY = const(6)
_FIFO_OVERFLOW = const(7)


class Max30003(Sensor):
    """``spi``: machine.SPI; ``cs``: its chip select, an output that is high."""

    channels = ("ecg",)
    rates = (256, 128, 512)  # CNFG_ECG RATE with FMSTR = 00
    watermark = _WATERMARK
    bus_kind = "spi"
    spi_mode = (0, 0)
    baudrate = 4000000

    def __init__(self, spi, cs, pin, flag, fs_hz=256):
        super().__init__(pin, flag, fs_hz, _FIFO_WORDS)
        self._spi = spi
        self._cs = cs
        self._word = bytearray(4)
        self._burst = bytearray(1 + 3 * _FIFO_WORDS)
        self._ask = bytearray(1 + 3 * _FIFO_WORDS)
        self._ask[0] = _ECG_FIFO_BURST << 1 | 1

    def _transfer(self, out, into):
        cs = self._cs
        cs.value(0)
        try:
            self._spi.write_readinto(out, into)
        finally:
            cs.value(1)

    def _put(self, register, value):
        word = self._word
        word[0] = register << 1
        word[1] = value >> 16
        word[2] = value >> 8 & 0xFF
        word[3] = value & 0xFF
        self._transfer(word, word)

    def _get(self, register):
        word = self._word
        word[0] = register << 1 | 1
        word[1] = word[2] = word[3] = 0
        self._transfer(word, word)
        return word[1] << 16 | word[2] << 8 | word[3]

    def _configure(self):
        self._put(_SW_RST, 0)
        self._get(_INFO)  # the first read after a reset is not valid (INFO register description)
        info = self._get(_INFO)
        if info & _INFO_FIXED != _MAX30003:
            return BUS_ERROR if info in (0, 0xFFFFFF) else WRONG_CHIP  # a bus with nobody on it reads as either
        self._put(_CNFG_CAL, 0)
        self._put(_CNFG_EMUX, 0)
        self._put(_CNFG_ECG, (1 if self.fs_hz == 256 else 2 if self.fs_hz == 128 else 0) << 22 | _ECG)
        self._put(_MNGR_INT, (_WATERMARK - 1) << 19)
        self._put(_EN_INT, _INTERRUPTS)
        self._put(_CNFG_GEN, _GENERAL)
        self._put(_SYNCH, 0)
        return RUNNING

    def _sleep(self):
        self._put(_SW_RST, 0)

    def _drain(self):
        if self._get(_CNFG_GEN) != _GENERAL:
            return RESET
        self.available = 0
        status = self._get(_STATUS)
        self._lead_off = bool(status & _LDOFF)
        if status & _EOVF:
            return self._overflown()
        self._transfer(self._ask, self._burst)
        burst = self._burst
        ecg = self.buffers[0]
        n = 0
        for at in range(1, 1 + 3 * _FIFO_WORDS, 3):
            low = burst[at + 2]
            tag = low >> 3 & 7
            if tag == _EMPTY:
                break
            if tag == _FIFO_OVERFLOW:
                return self._overflown()
            value = burst[at] << 10 | burst[at + 1] << 2 | low >> 6
            if value >= 0x20000:
                value -= 0x40000
            # a step of the ADC is 1000 mV / (2^17 * 40) ("ECG FIFO", equation of V_ECG): 625/8192 of 2.5 microvolts
            value = (value * 625 + 4096) >> 13
            ecg[n] = -2047 if value < -2047 else 2047 if value > 2047 else value
            n += 1
            if tag & _EOF:
                break
        return n

    def _overflown(self):
        self._put(_FIFO_RST, 0)
        self._missed = UNKNOWN
        return 0
