"""Continuous glucose monitor by the Bluetooth SIG's profile: values of CGM Measurement (0x2AA7, CGMS 1.0.2).

Whoever is the BLE central feeds the values; they are read like a chip's samples. ``minutes`` holds the time of each
sample since the sensor's session began, ``trends`` its rate of change in tenths of mg/dL a minute or NO_TREND.
"""

from array import array

from .sensor import const
from .states import FAULT, OFF, OVERFLOW, RUNNING, WRONG_CHIP

NO_TREND = -32768

_DEPTH = const(16)
# Flags
_TREND = const(0x01)
_QUALITY = const(0x02)
_WARNING = const(0x20)
_CAL_TEMP = const(0x40)
_STATUS = const(0x80)
# Sensor Status Annunciation, Status octet
_WRONG_TYPE = const(0x04)
_BROKEN = const(0x29)  # session stopped, sensor malfunction, general device fault
# Warning octet: the result is lower, or higher, than the device can process
_TOO_LOW = const(0x40)
_TOO_HIGH = const(0x80)
LOWEST = 20  # mg/dL that stand for those two, as qepa_wire.measures bounds glucose
HIGHEST = 600
_SMALLEST = const(6)
_MOST_MG_DL = const(1000)


def crc16(data, start, end):
    """E2E-CRC of data[start:end]: x^16 + x^12 + x^5 + 1 from 0xFFFF, most significant bit first (CGMS, "E2E-CRC")."""
    crc = 0xFFFF
    for i in range(start, end):
        crc ^= data[i] << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc


def sfloat_tenths(value):
    """Ten times the IEEE 11073-20601 SFLOAT ``value`` (16 bits), rounded; None if it is no number of a useful size."""
    if 0x07FE <= value <= 0x0802:
        return None  # +INFINITY, NaN, NRes, reserved, -INFINITY
    mantissa = value & 0x0FFF
    if mantissa & 0x0800:
        mantissa -= 0x1000
    exponent = value >> 12
    if exponent & 8:
        exponent -= 16
    exponent += 1
    if exponent > 4:
        return None if mantissa else 0
    while exponent > 0:
        mantissa *= 10
        exponent -= 1
    divisor = 10**-exponent
    return (2 * mantissa + divisor) // (2 * divisor)


class Cgm:
    """``period_min``: minutes from one reading to the next. Nothing raises for what a value holds: it is counted."""

    channels = ("glucose",)
    contact = None
    fs_hz = 0  # slower than once a second
    bus_kind = None

    def __init__(self, flag, period_min=5):
        self._flag = flag
        self._period_min = period_min
        self.buffers = (array("i", bytes(4 * _DEPTH)),)
        self.minutes = array("i", bytes(4 * _DEPTH))
        self.trends = array("i", bytes(4 * _DEPTH))
        self._glucose = array("i", bytes(4 * _DEPTH))
        self._minutes = array("i", bytes(4 * _DEPTH))
        self._trends = array("i", bytes(4 * _DEPTH))
        self.state = OFF
        self.available = self.gap = self.lost = self.faults = 0
        self._owed = 0
        self._last_min = -1
        self._told = RUNNING  # what the sensor says of itself

    def start(self):
        """Take values from now on."""
        self.available = self.gap = self.lost = self.faults = self._owed = 0
        self._last_min = -1
        self.state = self._told = RUNNING

    def stop(self):
        """Take none."""
        self.state = OFF
        self.available = 0

    def feed(self, value):
        """Take one value of the characteristic, which holds one record or several; whether all was well formed."""
        if self.state == OFF:
            return False
        at = 0
        while at < len(value):
            size = value[at]
            if size < _SMALLEST or at + size > len(value) or not self._take(value, at, size):
                self.faults += 1
                return False
            at += size
        self._flag.set()
        return True

    def _take(self, value, at, size):
        flags = value[at + 1]
        octets = bool(flags & _STATUS) + bool(flags & _CAL_TEMP) + bool(flags & _WARNING)
        words = bool(flags & _TREND) + bool(flags & _QUALITY)
        bare = _SMALLEST + octets + 2 * words
        if size == bare + 2:
            if crc16(value, at, at + bare) != _word(value, at + bare):
                return False
        elif size != bare:
            return False
        status = value[at + 6] if flags & _STATUS else 0
        warning = value[at + 5 + octets] if flags & _WARNING else 0
        self._told = WRONG_CHIP if status & _WRONG_TYPE else FAULT if status & _BROKEN else RUNNING
        trend = sfloat_tenths(_word(value, at + 6 + octets)) if flags & _TREND else None
        glucose = sfloat_tenths(_word(value, at + 2))
        if self._told != RUNNING:
            return True
        if warning & (_TOO_LOW | _TOO_HIGH):
            self._keep(LOWEST if warning & _TOO_LOW else HIGHEST, _word(value, at + 4), NO_TREND)
        elif glucose is not None and 0 < glucose <= 10 * _MOST_MG_DL:
            self._keep((glucose + 5) // 10, _word(value, at + 4), NO_TREND if trend is None else trend)
        return True

    def _keep(self, glucose, minute, trend):
        last = self._last_min
        if minute == last:
            return  # notified twice
        self._last_min = minute
        if last >= 0 and minute > last:  # else another session has begun
            missing = (minute - last + self._period_min // 2) // self._period_min - 1
            if missing > 0:
                self._lose(missing)
        if self.available == _DEPTH:
            self._lose(1)
            for ring in (self._glucose, self._minutes, self._trends):
                for i in range(1, _DEPTH):
                    ring[i - 1] = ring[i]
            self.available -= 1
        i = self.available
        self._glucose[i] = glucose
        self._minutes[i] = minute
        self._trends[i] = trend
        self.available = i + 1

    def _lose(self, n):
        self._owed += n
        self.lost += n

    def read(self):
        """Move what was fed into ``buffers``, ``minutes`` and ``trends``; returns samples."""
        self.gap = 0
        if self.state == OFF:
            return 0
        n = self.available
        glucose = self.buffers[0]
        for i in range(n):
            glucose[i] = self._glucose[i]
            self.minutes[i] = self._minutes[i]
            self.trends[i] = self._trends[i]
        self.available = 0
        if n:
            self.gap = self._owed
            self._owed = 0
        self.state = self._told if self._told != RUNNING else OVERFLOW if self.gap else RUNNING
        return n


def _word(data, at):
    return data[at + 1] << 8 | data[at]
