"""TMP117 (Texas Instruments, SNOSD82D) and MAX30205 (Maxim, 19-8505 rev. 0) over I2C: temperature, once a second."""

from .sensor import RESET, I2cSensor, const
from .states import RUNNING, WRONG_CHIP

_READ = const(4)


class Thermometer(I2cSensor):
    """Registers of 16 bits, big endian."""

    channels = ("temperature",)
    rates = (1,)
    watermark = 1
    silence_ms = 5000
    bus_kind = "i2c"
    address = 0x48

    def __init__(self, bus, address, pin, flag, fs_hz=1):
        super().__init__(bus, address, pin, flag, fs_hz, _READ, 2)

    def _put_word(self, register, value):
        word = self._status
        word[0] = value >> 8
        word[1] = value & 0xFF
        self._bus.writeto_mem(self._address, register, word)

    def _get_word(self, register):
        word = self._status
        self._bus.readfrom_mem_into(self._address, register, word)
        return word[0] << 8 | word[1]

    def _get_signed(self, register):
        value = self._get_word(register)
        return value - 0x10000 if value & 0x8000 else value


# TMP117, section 7.6, "Register Map"
_TEMP_RESULT = const(0x00)
_CONFIGURATION = const(0x01)
_DEVICE_ID = const(0x0F)
_TMP117 = const(0x117)  # below the revision
_DATA_READY = const(0x2000)
_SETTINGS = const(0x0FFC)  # MOD, CONV, AVG, T/nA, POL, DR/Alert
_SET_UP = const(0x0224)  # continuous, one result a second of 8 averaged, ALERT pin tells of data: not as after reset
_TMP117_SHUTDOWN = const(0x0624)


class Tmp117(Thermometer):
    """Tells when there is a new result."""

    def _configure(self):
        if self._get_word(_DEVICE_ID) & 0x0FFF != _TMP117:
            return WRONG_CHIP
        self._put_word(_CONFIGURATION, _SET_UP)
        return RUNNING

    def _sleep(self):
        self._put_word(_CONFIGURATION, _TMP117_SHUTDOWN)

    def _drain(self):
        configuration = self._get_word(_CONFIGURATION)
        if configuration & _SETTINGS != _SET_UP:
            return RESET
        self.available = 0
        if not configuration & _DATA_READY:
            return 0
        # 1/128 of a degree a step
        self.buffers[0][0] = (self._get_signed(_TEMP_RESULT) * 25 + 16) >> 5
        return 1


# MAX30205, "Register Functions"
_TEMPERATURE = const(0x00)
_MAX30205_CONFIGURATION = const(0x01)
_T_HYST = const(0x02)
_MARK = const(0x4A00)  # 74 degrees; 75 after a reset, by which it is noticed
_MAX30205_SHUTDOWN = const(0x01)


class Max30205(Thermometer):
    """Converts all the time and has neither an identity nor a sign that a result is new: read once a second."""

    watermark = 0
    period_ms = 1000  # a conversion takes at most 50

    def _configure(self):
        self._put(_MAX30205_CONFIGURATION, 0)
        self._put_word(_T_HYST, _MARK)
        if self._get_word(_T_HYST) != _MARK:
            return WRONG_CHIP
        return RUNNING

    def _sleep(self):
        self._put(_MAX30205_CONFIGURATION, _MAX30205_SHUTDOWN)

    def _drain(self):
        if self._get_word(_T_HYST) != _MARK:
            return RESET
        # 1/256 of a degree a step
        self.buffers[0][0] = (self._get_signed(_TEMPERATURE) * 25 + 32) >> 6
        return 1
