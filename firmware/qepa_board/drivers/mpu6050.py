"""MPU-6050 accelerometer and gyroscope (InvenSense, RM-MPU-6000A-00 rev. 4.2) over I2C, 8 g and 500 degrees a second.

It has no watermark interrupt: the driver counts data-ready pulses and wakes its reader every 16.
"""

from .sensor import RESET, UNKNOWN, FifoSensor, const
from .states import RUNNING

# Section 3, "Register Map", pages 6 to 8; overflow: section 4.31, page 44
_SMPLRT_DIV = const(0x19)
_CONFIG = const(0x1A)
_GYRO_CONFIG = const(0x1B)
_ACCEL_CONFIG = const(0x1C)
_FIFO_EN = const(0x23)
_INT_PIN_CFG = const(0x37)
_INT_ENABLE = const(0x38)
_INT_STATUS = const(0x3A)
_USER_CTRL = const(0x6A)
_PWR_MGMT_1 = const(0x6B)
_FIFO_COUNTH = const(0x72)
_FIFO_R_W = const(0x74)
_WHO_AM_I = const(0x75)

_MPU6050 = const(0x68)
_CLOCK_GYRO_X = const(0x01)
_SLEEP = const(0x40)
_DLPF_44_HZ = const(0x03)  # and an internal rate of 1 kHz
_500_DPS = const(0x08)
_8_G = const(0x10)
_ACCELEROMETER_AND_GYRO = const(0x78)
_ACTIVE_LOW_PULSE = const(0x80)
_DATA_RDY = const(0x01)
_FIFO_OFLOW = const(0x10)
_FIFO_ON = const(0x40)
_FIFO_RESET = const(0x04)
_READ = const(64)
_WATERMARK = const(16)


class Mpu6050(FifoSensor):
    """A frame of the FIFO: three axes of the accelerometer, three of the gyroscope, big endian."""

    channels = ("ax", "ay", "az", "gx", "gy", "gz")
    rates = (100, 50, 200)
    watermark = _WATERMARK
    bus_kind = "i2c"
    address = 0x68
    frame_bytes = 12

    def __init__(self, bus, address, pin, flag, fs_hz=100):
        super().__init__(bus, address, pin, flag, fs_hz, _READ, 2)

    def _interrupt(self, _pin):
        self.available += 1
        if self.available % _WATERMARK == 0:
            self._flag.set()

    def _configure(self):
        state = self._is(_WHO_AM_I, _MPU6050)
        if state == RUNNING:
            self._put_all((_PWR_MGMT_1, _CLOCK_GYRO_X, _SMPLRT_DIV, 1000 // self.fs_hz - 1, _CONFIG, _DLPF_44_HZ))
            self._put_all((_GYRO_CONFIG, _500_DPS, _ACCEL_CONFIG, _8_G, _INT_PIN_CFG, _ACTIVE_LOW_PULSE))
            self._put_all((_FIFO_EN, _ACCELEROMETER_AND_GYRO, _INT_ENABLE, _DATA_RDY | _FIFO_OFLOW))
            self._empty()
        return state

    def _sleep(self):
        self._put(_PWR_MGMT_1, _SLEEP)

    def _empty(self):
        self._put(_USER_CTRL, _FIFO_RESET)
        self._put(_USER_CTRL, _FIFO_ON)
        self._get(_INT_STATUS)  # reading clears it

    def _drain(self):
        if self._get(_PWR_MGMT_1) != _CLOCK_GYRO_X:
            return RESET
        self.available = 0
        if self._get(_INT_STATUS) & _FIFO_OFLOW:
            # Frames are cut where the newest bytes have overwritten the oldest.
            self._empty()
            self._missed = UNKNOWN
            return 0
        status = self._status
        self._bus.readfrom_mem_into(self._address, _FIFO_COUNTH, status)
        waiting = (status[0] << 8 | status[1]) // 12
        n = min(_READ, waiting)
        self.available = waiting - n
        return self._drain_fifo(_FIFO_R_W, n)

    def _unpack(self, frames, n, at):
        for i in range(0, 12 * n, 12):
            for axis in range(6):
                value = frames[i + 2 * axis] << 8 | frames[i + 2 * axis + 1]
                if value >= 0x8000:
                    value -= 0x10000
                # 4096 steps a g, 65.5 a degree a second (sections 4.4 and 4.5, pages 14 and 15)
                self.buffers[axis][at] = (125 * value + 256) >> 9 if axis < 3 else (20 * value + 65) // 131
            at += 1
        return at
