# mypy: ignore-errors
# This is MicroPython; CPython runs it too.
"""MPU-6050: FIFO of 1024 bytes without a watermark, data-ready pulses on INT (InvenSense, RM-MPU-6000A-00)."""

from .chip import I2cChip

_SMPLRT_DIV, _CONFIG, _FIFO_EN, _INT_PIN_CFG, _INT_ENABLE, _INT_STATUS = 0x19, 0x1A, 0x23, 0x37, 0x38, 0x3A
_USER_CTRL, _PWR_MGMT_1, _COUNT_H, _COUNT_L, _FIFO_R_W, _WHO_AM_I = 0x6A, 0x6B, 0x72, 0x73, 0x74, 0x75
_DATA_RDY, _OFLOW = 0x01, 0x10
_BYTES = 1024


class Mpu6050(I2cChip):
    """Its source gives codes of 16 bits, signed: three axes of the accelerometer, three of the gyroscope."""

    address = 0x68

    def __init__(self, source, identity=0x68):
        self._registers = bytearray(128)
        self._fifo = bytearray(_BYTES)
        self._identity = identity
        super().__init__(source)

    def power_on(self):
        """Asleep."""
        for i in range(128):
            self._registers[i] = 0
        self._registers[_PWR_MGMT_1] = 0x40
        self._registers[_WHO_AM_I] = self._identity
        self._head = self._count = self.rate = 0
        self._overflown = False
        self._output(0)

    def _rest(self):
        return 1 if self._registers[_INT_PIN_CFG] & 0x80 else 0

    def _sample(self, at):
        registers = self._registers
        status = _DATA_RDY
        if registers[_USER_CTRL] & 0x40 and registers[_FIFO_EN] & 0x78 == 0x78:
            for axis in range(6):
                code = self.source.data[at + axis]
                self._push(code >> 8 & 0xFF)
                self._push(code & 0xFF)
            if self._overflown:
                status |= _OFLOW
        self._overflown = False
        registers[_INT_STATUS] |= status
        if status & registers[_INT_ENABLE]:
            self._output(1 - self._rest())
            self._output(self._rest())

    def _push(self, value):
        if self._count == _BYTES:
            self._head = (self._head + 1) % _BYTES
            self._count -= 1
            self._overflown = True
        self._fifo[(self._head + self._count) % _BYTES] = value
        self._count += 1

    def _after(self, register):
        return register if register == _FIFO_R_W else register + 1

    def _get(self, register):
        if register == _COUNT_H:
            return self._count >> 8
        if register == _COUNT_L:
            return self._count & 0xFF
        if register == _FIFO_R_W:
            if not self._count:
                return 0xFF
            value = self._fifo[self._head]
            self._head = (self._head + 1) % _BYTES
            self._count -= 1
            return value
        value = self._registers[register]
        if register == _INT_STATUS:
            self._registers[register] = 0
        return value

    def _put(self, register, value):
        if register in (_WHO_AM_I, _INT_STATUS, _COUNT_H, _COUNT_L, _FIFO_R_W):
            return
        if register == _PWR_MGMT_1 and value & 0x80:
            self.power_on()
            return
        if register == _USER_CTRL and value & 4:
            value &= ~4
            self._head = self._count = 0
        self._registers[register] = value
        if register == _INT_PIN_CFG:
            self._output(self._rest())
        filtered = 0 < self._registers[_CONFIG] & 7 < 7
        asleep = self._registers[_PWR_MGMT_1] & 0x40
        self.rate = 0 if asleep else (1000 if filtered else 8000) // (1 + self._registers[_SMPLRT_DIV])
