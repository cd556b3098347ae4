"""MAX30101 and MAX30102 pulse oximeters (Maxim, MAX30101 and MAX30102 data sheets) over I2C: red and infrared."""

from .sensor import RESET, UNKNOWN, FifoSensor, const
from .states import RUNNING

# "Register Maps and Descriptions", FIFO on page 15 of both; the MAX86150 has the first nine in common
_INT_STATUS_1 = const(0x00)
_INT_ENABLE_1 = const(0x02)
_INT_ENABLE_2 = const(0x03)
_FIFO_WR_PTR = const(0x04)
_OVF_COUNTER = const(0x05)
_FIFO_RD_PTR = const(0x06)
_FIFO_DATA = const(0x07)
_FIFO_CONFIG = const(0x08)
_MODE_CONFIG = const(0x09)
_SPO2_CONFIG = const(0x0A)
_LED1_PA = const(0x0C)
_LED2_PA = const(0x0D)
_PART_ID = const(0xFF)

_PART = const(0x15)
_A_FULL = const(0x80)
_PWR_RDY = const(0x01)
_DEPTH = const(32)
_OVF_MOST = const(31)  # the counter stops there
_SHDN = const(0x80)
_SPO2_MODE = const(0x03)
_ROLLOVER_17 = const(0x1F)  # no averaging, the newest overwrite the oldest, interrupt at 17 samples
_SPO2_18_BITS = const(0x23)  # full scale 4096 nA, pulses of 411 us; SPO2_SR comes on top
_LED_7_MA = const(0x24)
_SKIN = const(1 << 14)  # infrared counts (256 nA): less comes back when nothing is in front of the optics


class MaximFifo(FifoSensor):
    """The FIFO that the MAX30101, the MAX30102 and the MAX86150 share; the second channel is infrared."""

    watermark = 17
    bus_kind = "i2c"

    def __init__(self, bus, address, pin, flag, fs_hz):
        super().__init__(bus, address, pin, flag, fs_hz, _DEPTH, 7)

    def _drain(self):
        status = self._status  # INT_STATUS_1 to FIFO_RD_PTR
        self._bus.readfrom_mem_into(self._address, _INT_STATUS_1, status)
        if status[0] & _PWR_RDY or status[_INT_ENABLE_1] != _A_FULL:
            return RESET
        self.available = 0
        lost = status[_OVF_COUNTER] & 0x1F
        n = (status[_FIFO_WR_PTR] - status[_FIFO_RD_PTR]) & 0x1F
        if lost:
            n = _DEPTH
            self._missed = UNKNOWN if lost == _OVF_MOST else lost
        elif n == 0 and status[0] & _A_FULL:
            n = _DEPTH  # equal pointers: empty, or exactly full
        n = self._drain_fifo(_FIFO_DATA, n)
        if n:
            self._lead_off = True
            infrared = self.buffers[1]
            for i in range(n):
                if infrared[i] >= _SKIN:
                    self._lead_off = False
                    break
        return n

    def _clear_fifo(self):
        self._put_all((_FIFO_WR_PTR, 0, _OVF_COUNTER, 0, _FIFO_RD_PTR, 0))


class Max30101(MaximFifo):
    """Sample rates that two colours at 18 bits allow ("SpO2 Mode (Allowed Settings)")."""

    channels = ("red", "ir")
    rates = (100, 50, 200, 400)
    address = 0x57
    frame_bytes = 6

    def _configure(self):
        state = self._is(_PART_ID, _PART)
        if state != RUNNING:
            return state
        rate = 0 if self.fs_hz == 50 else 1 if self.fs_hz == 100 else 2 if self.fs_hz == 200 else 3
        self._put_all((_MODE_CONFIG, _SHDN, _FIFO_CONFIG, _ROLLOVER_17, _SPO2_CONFIG, _SPO2_18_BITS | rate << 2))
        self._put_all((_LED1_PA, _LED_7_MA, _LED2_PA, _LED_7_MA, _INT_ENABLE_1, _A_FULL, _INT_ENABLE_2, 0))
        self._clear_fifo()
        self._put(_MODE_CONFIG, _SPO2_MODE)
        self._get(_INT_STATUS_1)  # takes PWR_RDY away
        return RUNNING

    def _sleep(self):
        self._put(_MODE_CONFIG, _SHDN)

    def _unpack(self, frames, n, at):
        red, infrared = self.buffers
        for i in range(0, 6 * n, 6):
            red[at] = (frames[i] & 3) << 16 | frames[i + 1] << 8 | frames[i + 2]
            infrared[at] = (frames[i + 3] & 3) << 16 | frames[i + 4] << 8 | frames[i + 5]
            at += 1
        return at
