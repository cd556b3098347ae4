# mypy: ignore-errors
# This is MicroPython; CPython runs it too.
"""MAX86150: as the MAX30101's FIFO, with a choice of what each frame holds (Maxim, MAX86150 data sheet)."""

from array import array

from .max30101 import _NOBODY, MaximFifoChip

_CONTROL_1, _CONTROL_2, _SYSTEM, _PPG_CONFIG_1, _PPG_CONFIG_2 = 0x09, 0x0A, 0x0D, 0x0E, 0x0F
_ECG_CONFIG_1, _ECG_CONFIG_3, _PART_ID = 0x3C, 0x3E, 0xFF
_IR, _RED, _ECG = 1, 2, 9
_PPG_RATES = (10, 20, 50, 84, 100, 200, 400, 800, 1000, 1600, 3200)
_ECG_RATES = (1600, 800, 400, 200, 3200, 1600, 800, 400)


class Max86150(MaximFifoChip):
    """Its source gives red and infrared codes of 19 bits and ECG codes of 18 bits, signed.

    It converts only where light and ECG have one rate, which is what its driver sets.
    """

    address = 0x5E
    part_id = 0x1E

    def __init__(self, source, part_id=None):
        self._items = array("i", (0, 0, 0, 0))
        super().__init__(source, part_id)

    def _slot(self, i):
        return self._registers[_CONTROL_1 + i // 2] >> 4 * (i % 2) & 15

    def _width(self):
        n = 0
        while n < 4 and self._slot(n):
            n += 1
        return n

    def _apply(self, register, value):
        if register == _SYSTEM and value & 1:
            self.power_on()
            return
        registers = self._registers
        code = registers[_PPG_CONFIG_1] >> 2 & 15
        light = _PPG_RATES[code] if code < len(_PPG_RATES) else 0
        ecg = _ECG_RATES[registers[_ECG_CONFIG_1] & 7]
        runs = registers[_SYSTEM] & 4 and not registers[_SYSTEM] & 2 and registers[_PPG_CONFIG_2] & 7 == 0
        self.rate = light if runs and light == ecg and self._width() else 0

    def _sample(self, at):
        data = self.source.data
        for i in range(4):
            kind = self._slot(i)
            if kind == _ECG:
                # the driver sets the one gain that is calibrated
                value = data[at + 2] & 0x3FFFF if self._registers[_ECG_CONFIG_3] == 0x0D else 0
            elif not self.finger:
                value = _NOBODY
            else:
                value = data[at] if kind == _RED else data[at + 1] if kind == _IR else 0
            self._items[i] = value
        self._push(self._items, self._width())
