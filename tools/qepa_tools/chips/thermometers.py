# mypy: ignore-errors
# This is MicroPython; CPython runs it too.
"""TMP117 (Texas Instruments, SNOSD82) and MAX30205 (Maxim, 19-8505): registers of 16 bits, continuous conversion."""

from array import array

from .chip import I2cChip

_CONFIGURATION, _DEVICE_ID = 0x01, 0x0F
_DATA_READY = 0x2000


class _Thermometer(I2cChip):
    """A register pointer, then bytes of that register, big endian."""

    address = 0x48

    def read(self, register, into):
        """Fill ``into`` with the register's bytes."""
        value = self._get_word(register)
        into[0] = value >> 8
        into[1] = value & 0xFF

    def write(self, register, data):
        """Write a register of two bytes, or of one."""
        self._put_word(register, data[0] << 8 | data[1] if len(data) == 2 else data[0])


class Tmp117(_Thermometer):
    """Its source gives codes of 16 bits, signed, one a second."""

    def __init__(self, source, identity=0x0117):
        self._words = array("i", [0] * 16)
        self._identity = identity
        super().__init__(source)

    def power_on(self):
        """Converts once a second, averaging 8 times; there is no result yet."""
        for i in range(16):
            self._words[i] = 0
        self._words[0] = 0x8000
        self._words[_CONFIGURATION] = 0x0220
        self._words[2], self._words[3] = 0x6000, 0x8000
        self._words[_DEVICE_ID] = self._identity
        self.rate = 1
        self._output(1)

    def _sample(self, at):
        self._words[0] = self.source.data[at] & 0xFFFF
        self._words[_CONFIGURATION] |= _DATA_READY
        if self._words[_CONFIGURATION] & 4:  # the ALERT pin tells of data
            self._output(0)

    def _get_word(self, register):
        value = self._words[register]
        if register <= _CONFIGURATION:
            self._words[_CONFIGURATION] &= ~_DATA_READY
            self._output(1)
        return value

    def _put_word(self, register, value):
        if register == _CONFIGURATION:
            if value & 2:
                self.power_on()
                return
            self._words[register] = value & 0x0FFC | self._words[register] & 0xF000
            # continuous with CONV = 100 is once a second; other cycle times are not modelled
            self.rate = 1 if value >> 10 & 3 in (0, 2) and value >> 7 & 7 == 4 else 0
        elif register in (2, 3):
            self._words[register] = value


class Max30205(_Thermometer):
    """Its source gives codes of 16 bits, signed, one a second; it converts 20 times a second."""

    def __init__(self, source):
        self._words = array("i", (0, 0, 0, 0))
        super().__init__(source)

    def power_on(self):
        """Converts; hysteresis 75 degrees, threshold 80."""
        self._words[0] = 0
        self._words[1] = 0
        self._words[2], self._words[3] = 0x4B00, 0x5000
        self.rate = 1

    def _sample(self, at):
        self._words[0] = self.source.data[at] & 0xFFFF

    def _get_word(self, register):
        return self._words[register & 3]

    def _put_word(self, register, value):
        if register == 1:
            self._words[1] = value
            self.rate = 0 if value & 1 else 1
        elif register in (2, 3):
            self._words[register] = value & 0xFF80
