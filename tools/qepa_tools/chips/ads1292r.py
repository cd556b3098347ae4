# mypy: ignore-errors
# This is MicroPython; CPython runs it too.
"""ADS1292R: commands, registers, frames of status, channel 1 and channel 2, DRDY (Texas Instruments, SBAS502)."""

from .chip import SpiChip

_SDATAC, _RDATAC, _RESET, _START, _STOP, _STANDBY, _WAKEUP = 0x11, 0x10, 0x06, 0x08, 0x0A, 0x04, 0x02
_ID, _CONFIG1, _CONFIG2, _LOFF_SENS, _LOFF_STAT = 0, 1, 2, 7, 8
_POWER_ON = b"\x73\x02\x80\x10\x00\x00\x00\x00\x00\x00\x02\x0c"
_RATES = (125, 250, 500, 1000, 2000, 4000, 8000, 0)


class Ads1292r(SpiChip):
    """Its source gives codes of 24 bits: respiration, ECG. START is wired low: conversions start by command."""

    mode = (0, 1)
    has_fifo = False

    def __init__(self, source, identity=0x73):
        self._registers = bytearray(12)
        self._frame = bytearray(9)
        self._identity = identity
        self.lead_off = False
        super().__init__(source)

    def power_on(self):
        """Streaming mode, no conversions."""
        for i in range(12):
            self._registers[i] = _POWER_ON[i]
        self._registers[_ID] = self._identity
        for i in range(9):
            self._frame[i] = 0
        self._streams = True
        self._started = self._asleep = False
        self._bytes = self._left = self._count = self._register = 0
        self._writes = False
        self._retime()
        self._output(1)

    def _retime(self):
        self.rate = _RATES[self._registers[_CONFIG1] & 7] if self._started and not self._asleep else 0

    def _sample(self, at):
        frame = self._frame
        off = 0
        if self.lead_off and self._registers[_CONFIG2] & 0x40:
            off = 0x06 & self._registers[_LOFF_SENS] >> 1  # IN2N and IN2P
        frame[0] = 0xC0 | off
        self._place(3, self.source.data[at])
        self._place(6, 0x7FFFFF if self.lead_off else self.source.data[at + 1])
        if self._streams:
            self._output(1)
            self._output(0)

    def _place(self, at, code):
        self._frame[at] = code >> 16 & 0xFF
        self._frame[at + 1] = code >> 8 & 0xFF
        self._frame[at + 2] = code & 0xFF

    def select(self):
        """A transaction begins."""
        self._bytes = 0
        self._left = 0

    def exchange(self, value):
        """A byte: of the frame while streaming, else of a command. Bytes that are no command are zero."""
        n = self._bytes
        self._bytes = n + 1
        if self._left:
            return self._exchange_register(value)
        out = 0
        if self._streams and n < 9:
            self._output(1)  # DRDY returns with the first clock
            out = self._frame[n]
        if value:
            self._obey(value)
        return out

    def _exchange_register(self, value):
        self._left -= 1
        if self._count < 0:  # this byte tells how many follow
            self._count = self._left = (value & 0x1F) + 1
            return 0
        register = self._register
        self._register = register + 1
        if register >= 12:
            return 0
        if not self._writes:
            return self._registers[register]
        if register not in (_ID, _LOFF_STAT):
            self._registers[register] = value
            self._retime()
        return 0

    def _obey(self, command):
        if command == _SDATAC:
            self._streams = False
        elif command == _RDATAC:
            self._streams = True
        elif command == _RESET:
            self.power_on()
        elif command in (_START, _STOP):
            self._started = command == _START
            self._retime()
        elif command in (_STANDBY, _WAKEUP):
            self._asleep = command == _STANDBY
            self._retime()
        elif command >> 5 in (1, 2) and not self._streams:
            self._writes = command >> 5 == 2
            self._register = command & 0x1F
            self._count = -1
            self._left = 1
