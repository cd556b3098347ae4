# mypy: ignore-errors
# This is MicroPython; CPython runs it too.
"""MAX30101 and MAX30102: FIFO of 32 frames with pointers and overflow counter, INT (Maxim, MAX30101 data sheet)."""

from array import array

from .chip import I2cChip

_STATUS_1, _STATUS_2, _ENABLE_1, _ENABLE_2 = 0x00, 0x01, 0x02, 0x03
_WR_PTR, _OVF, _RD_PTR, _DATA, _FIFO_CONFIG = 0x04, 0x05, 0x06, 0x07, 0x08
_MODE, _SPO2 = 0x09, 0x0A
_PART_ID = 0xFF
_A_FULL, _PPG_RDY, _PWR_RDY = 0x80, 0x40, 0x01
_DEPTH = 32
_NOBODY = 300  # counts with nothing in front of the optics
_RATES = (50, 100, 200, 400, 800, 1000, 1600, 3200)


class MaximFifoChip(I2cChip):
    """What the MAX30101 and the MAX86150 share. ``finger``: something is in front of the optics."""

    part_id = 0

    def __init__(self, source, part_id=None):
        self._registers = bytearray(256)
        self._fifo = array("i", [0] * (_DEPTH * 4))
        self._part_id = self.part_id if part_id is None else part_id
        self.finger = True
        super().__init__(source)

    def power_on(self):
        """All registers are 0 but PWR_RDY and the identity; that is told on INT."""
        for i in range(256):
            self._registers[i] = 0
        self._registers[_PART_ID] = self._part_id
        self._registers[_STATUS_1] = _PWR_RDY
        self._count = self._byte = self.rate = 0
        self._update()

    def _update(self):
        status, enabled = self._registers[_STATUS_1], self._registers[_ENABLE_1]
        self._output(0 if status & (enabled | _PWR_RDY) else 1)

    def _push(self, values, n):
        """A frame of n codes enters the FIFO."""
        registers = self._registers
        if self._count == _DEPTH:
            registers[_OVF] = min(31, registers[_OVF] + 1)
            if not registers[_FIFO_CONFIG] & 0x10:
                return
            registers[_RD_PTR] = registers[_RD_PTR] + 1 & 31
            self._byte = 0
            self._count -= 1
        at = 4 * registers[_WR_PTR]
        for i in range(n):
            self._fifo[at + i] = values[i]
        registers[_WR_PTR] = registers[_WR_PTR] + 1 & 31
        self._count += 1
        registers[_STATUS_1] |= _PPG_RDY
        if self._count == _DEPTH - (registers[_FIFO_CONFIG] & 0x0F):
            registers[_STATUS_1] |= _A_FULL
        self._update()

    def _width(self):
        """Codes a frame."""
        raise NotImplementedError

    def _pop_byte(self):
        if not self._count:
            return 0
        at = 4 * self._registers[_RD_PTR] + self._byte // 3
        value = self._fifo[at] >> (16 - 8 * (self._byte % 3)) & 0xFF
        self._byte += 1
        if self._byte == 3 * self._width():
            self._byte = 0
            self._count -= 1
            self._registers[_RD_PTR] = self._registers[_RD_PTR] + 1 & 31
            self._registers[_OVF] = 0
        return value

    def _after(self, register):
        return register if register == _DATA else register + 1 & 0xFF

    def _get(self, register):
        if register == _DATA:
            return self._pop_byte()
        value = self._registers[register]
        if register <= _STATUS_2:
            self._registers[register] = 0
            self._update()
        return value

    def _put(self, register, value):
        if register in (_STATUS_1, _STATUS_2, _PART_ID, _DATA):
            return
        registers = self._registers
        registers[register] = value
        if register in (_WR_PTR, _RD_PTR):
            self._count = registers[_WR_PTR] - registers[_RD_PTR] & 31
            self._byte = 0
        self._apply(register, value)
        self._update()

    def _apply(self, register, value):
        """What a register that was written does."""
        raise NotImplementedError


class Max30101(MaximFifoChip):
    """Its source gives red and infrared codes of 18 bits."""

    address = 0x57
    part_id = 0x15

    def __init__(self, source, part_id=None):
        self._pair = array("i", (0, 0))
        super().__init__(source, part_id)

    def _width(self):
        return 1 if self._registers[_MODE] & 7 == 2 else 2

    def _apply(self, register, value):
        if register == _MODE and value & 0x40:
            self.power_on()
            return
        mode, averaged = self._registers[_MODE], self._registers[_FIFO_CONFIG] >> 5
        self.rate = _RATES[self._registers[_SPO2] >> 2 & 7] >> averaged if mode & 7 == 3 and not mode & 0x80 else 0

    def _sample(self, at):
        pair = self._pair
        pair[0] = self.source.data[at] if self.finger else _NOBODY
        pair[1] = self.source.data[at + 1] if self.finger else _NOBODY
        self._push(pair, 2)
