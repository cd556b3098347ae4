# mypy: ignore-errors
# This is MicroPython; CPython runs it too.
"""LSM6DSO: FIFO of 512 tagged words, watermark and overrun, INT1 (STMicroelectronics, DS12140)."""

from array import array

from .chip import I2cChip

_FIFO_CTRL1, _FIFO_CTRL2, _FIFO_CTRL3, _FIFO_CTRL4, _INT1_CTRL = 0x07, 0x08, 0x09, 0x0A, 0x0D
_WHO_AM_I, _CTRL1_XL, _CTRL2_G, _CTRL3_C = 0x0F, 0x10, 0x11, 0x12
_STATUS1, _STATUS2, _TAG, _LAST = 0x3A, 0x3B, 0x78, 0x7E
_DEPTH = 512
_RATES = (0, 12, 26, 52, 104, 208, 416, 833)
_GYRO, _ACCELEROMETER = 1, 2
_READ_ONLY = (_WHO_AM_I, _STATUS1, _STATUS2)


class Lsm6dso(I2cChip):
    """Its source gives codes of 16 bits, signed: three axes of the accelerometer, three of the gyroscope."""

    address = 0x6A

    def __init__(self, source, identity=0x6C):
        self._registers = bytearray(128)
        self._words = array("h", [0] * (3 * _DEPTH))
        self._tags = bytearray(_DEPTH)
        self._identity = identity
        super().__init__(source)

    def power_on(self):
        """Nothing converts."""
        for i in range(128):
            self._registers[i] = 0
        self._registers[_WHO_AM_I] = self._identity
        self._registers[_CTRL3_C] = 0x04
        self._tag_count = self.rate = 0
        self._empty()

    def _empty(self):
        self._head = self._count = 0
        self._latched = False
        self._update()

    def _watermark(self):
        return (self._registers[_FIFO_CTRL2] & 1) << 8 | self._registers[_FIFO_CTRL1]

    def _reached(self):
        return 0 < self._watermark() <= self._count

    def _update(self):
        active = self._reached() and self._registers[_INT1_CTRL] & 8
        low = self._registers[_CTRL3_C] & 0x20  # H_LACTIVE
        self._output(0 if bool(active) == bool(low) else 1)

    def _sample(self, at):
        if self._registers[_FIFO_CTRL4] & 7 != 6:
            return
        self._tag_count = self._tag_count + 1 & 3
        self._push(_GYRO, at + 3)
        self._push(_ACCELEROMETER, at)
        self._update()

    def _push(self, sensor, at):
        if self._count == _DEPTH:
            self._head = (self._head + 1) % _DEPTH
            self._count -= 1
            self._latched = True
        i = (self._head + self._count) % _DEPTH
        tag = sensor << 3 | self._tag_count << 1
        bits, parity = tag, 0
        while bits:
            parity ^= bits & 1
            bits >>= 1
        self._tags[i] = tag | parity
        for axis in range(3):
            self._words[3 * i + axis] = self.source.data[at + axis]
        self._count += 1

    def _after(self, register):
        return _TAG if register == _LAST else register + 1

    def _get(self, register):
        if register == _STATUS1:
            return self._count & 0xFF
        if register == _STATUS2:
            value = self._count >> 8 & 3 | (0x80 if self._reached() else 0) | (0x48 if self._latched else 0)
            self._latched = False
            return value
        if register < _TAG:
            return self._registers[register]
        if not self._count:
            return 0
        if register == _TAG:
            return self._tags[self._head]
        i = register - _TAG - 1
        value = self._words[3 * self._head + i // 2] >> 8 * (i % 2) & 0xFF
        if register == _LAST:
            self._head = (self._head + 1) % _DEPTH
            self._count -= 1
            self._update()
        return value

    def _put(self, register, value):
        if register in _READ_ONLY or register >= _TAG:
            return
        if register == _CTRL3_C and value & 1:
            self.power_on()
            return
        registers = self._registers
        registers[register] = value
        if register == _FIFO_CTRL4 and value & 7 == 0:
            self._empty()
        accelerometer, gyroscope = registers[_CTRL1_XL] >> 4, registers[_CTRL2_G] >> 4
        batched = registers[_FIFO_CTRL3]
        alike = accelerometer == gyroscope == batched & 15 == batched >> 4
        self.rate = _RATES[accelerometer] if alike and accelerometer < len(_RATES) else 0
        self._update()
