"""LSM6DSO accelerometer and gyroscope (STMicroelectronics, DS12140 rev. 2) over I2C, 8 g and 500 degrees a second."""

from .sensor import RESET, UNKNOWN, FifoSensor, const
from .states import RUNNING

# Section 8, "Register mapping"; reading the FIFO: section 6.5.7, page 34
_FIFO_CTRL1 = const(0x07)
_FIFO_CTRL2 = const(0x08)
_FIFO_CTRL3 = const(0x09)
_FIFO_CTRL4 = const(0x0A)
_INT1_CTRL = const(0x0D)
_WHO_AM_I = const(0x0F)
_CTRL1_XL = const(0x10)
_CTRL2_G = const(0x11)
_CTRL3_C = const(0x12)
_FIFO_STATUS1 = const(0x3A)
_FIFO_DATA_OUT_TAG = const(0x78)

_LSM6DSO = const(0x6C)
_CONTROL = const(0x64)  # BDU, interrupt active low, IF_INC
_8_G = const(0x0C)
_500_DPS = const(0x04)
_CONTINUOUS = const(0x06)
_FIFO_TH = const(0x08)
_OVERRUN = const(0x48)  # FIFO_OVR_IA or OVER_RUN_LATCHED
_TAG_GYRO = const(1)  # FIFO_DATA_OUT_TAG, TAG_SENSOR
_TAG_ACCELEROMETER = const(2)
_READ = const(64)
_WATERMARK = const(16)


class Lsm6dso(FifoSensor):
    """Words of the FIFO carry one sensor each: a sample is a gyroscope word and the accelerometer word after it."""

    channels = ("ax", "ay", "az", "gx", "gy", "gz")
    rates = (104, 26, 52, 208)
    watermark = _WATERMARK
    bus_kind = "i2c"
    address = 0x6A
    frame_bytes = 7

    def __init__(self, bus, address, pin, flag, fs_hz=104):
        super().__init__(bus, address, pin, flag, fs_hz, _READ, 2)
        self._rate = (2 if fs_hz == 26 else 3 if fs_hz == 52 else 4 if fs_hz == 104 else 5) << 4
        self._turned = False  # the gyroscope word of a sample is in its place

    def _configure(self):
        state = self._is(_WHO_AM_I, _LSM6DSO)
        if state == RUNNING:
            rate = self._rate
            self._turned = False
            self._put_all((_FIFO_CTRL4, 0, _CTRL3_C, _CONTROL, _FIFO_CTRL1, 2 * _WATERMARK, _FIFO_CTRL2, 0))
            self._put_all((_FIFO_CTRL3, rate | rate >> 4, _INT1_CTRL, _FIFO_TH, _FIFO_CTRL4, _CONTINUOUS))
            self._put_all((_CTRL2_G, rate | _500_DPS, _CTRL1_XL, rate | _8_G))
        return state

    def _sleep(self):
        self._put_all((_CTRL1_XL, 0, _CTRL2_G, 0, _FIFO_CTRL4, 0))

    def _drain(self):
        if self._get(_CTRL1_XL) != self._rate | _8_G:
            return RESET
        status = self._status
        self._bus.readfrom_mem_into(self._address, _FIFO_STATUS1, status)
        if status[1] & _OVERRUN:
            self._missed = UNKNOWN
        words = (status[1] & 3) << 8 | status[0]
        taken = min(words, 2 * _READ - 1)
        self.available = (words - taken) >> 1
        return self._drain_fifo(_FIFO_DATA_OUT_TAG, taken)

    def _unpack(self, frames, n, at):
        for i in range(0, 7 * n, 7):
            tag = frames[i] >> 3
            if tag == _TAG_GYRO:
                for axis in range(3):
                    value = frames[i + 2 * axis + 2] << 8 | frames[i + 2 * axis + 1]
                    if value >= 0x8000:
                        value -= 0x10000
                    # 17.5 mdps a step (table "Mechanical characteristics")
                    self.buffers[3 + axis][at] = (7 * value + 20) // 40
                self._turned = True
            elif tag == _TAG_ACCELEROMETER and self._turned:
                for axis in range(3):
                    value = frames[i + 2 * axis + 2] << 8 | frames[i + 2 * axis + 1]
                    if value >= 0x8000:
                        value -= 0x10000
                    # 0.244 mg a step
                    self.buffers[axis][at] = (61 * value + 125) // 250
                self._turned = False
                at += 1
        return at
