# mypy: ignore-errors
# This is MicroPython; CPython runs it too.
"""MAX30003: registers of 24 bits, ECG FIFO of 32 words with tags, INTB, DC lead-off (Maxim, MAX30003 data sheet)."""

from array import array

from .chip import SpiChip

_STATUS, _EN_INT, _EN_INT2, _MNGR_INT, _MNGR_DYN = 0x01, 0x02, 0x03, 0x04, 0x05
_SW_RST, _SYNCH, _FIFO_RST, _INFO = 0x08, 0x09, 0x0A, 0x0F
_CNFG_GEN, _CNFG_CAL, _CNFG_EMUX, _CNFG_ECG = 0x10, 0x12, 0x14, 0x15
_BURST, _FIFO = 0x20, 0x21
_WRITABLE = (_EN_INT, _EN_INT2, _MNGR_INT, _MNGR_DYN, _CNFG_GEN, _CNFG_CAL, _CNFG_EMUX, _CNFG_ECG, 0x1D, 0x1E)
_POWER_ON = (
    (_EN_INT, 0x000003), (_EN_INT2, 0x000003), (_MNGR_INT, 0x780004), (_MNGR_DYN, 0x3F0000), (_CNFG_GEN, 0x000004),
    (_CNFG_CAL, 0x004800), (_CNFG_EMUX, 0x300000), (_CNFG_ECG, 0x805000), (0x1D, 0x3FA300), (0x1E, 0x202400),
)  # fmt: skip
_EINT, _EOVF, _DCLOFFINT = 0x800000, 0x400000, 0x100000
_DEPTH = 32
_RATES = (512, 256, 128, 0)  # with FMSTR = 00
_EN_ECG, _EN_VCAL, _OPEN = 0x080000, 0x400000, 0x300000
_EMPTY, _OVERFLOW = 6 << 3, 7 << 3


class Max30003(SpiChip):
    """Its source gives 18-bit ADC codes. ``lead_off``: an electrode has come off."""

    mode = (0, 0)

    def __init__(self, source, info=0x513000):
        self._registers = [0] * 0x21
        self._fifo = array("i", [0] * _DEPTH)
        self._info = info
        self.lead_off = False
        super().__init__(source)

    def power_on(self):
        """As after power-on and SW_RST."""
        for i in range(len(self._registers)):
            self._registers[i] = 0
        for register, value in _POWER_ON:
            self._registers[register] = value
        self._fresh = True  # the first INFO read-back after a reset is not valid
        self._count = self._bytes = self._command = self._word = 0
        self._clear_fifo()
        self._retime()

    def _clear_fifo(self):
        self._head = self._count = 0
        self._overflown = False
        self._update()

    def _retime(self):
        general = self._registers[_CNFG_GEN]
        rate = _RATES[self._registers[_CNFG_ECG] >> 22] if not general & 0x300000 else 0
        self.rate = rate if general & _EN_ECG else 0

    def _status(self):
        value = 0
        if self._count > self._registers[_MNGR_INT] >> 19:
            value |= _EINT
        if self._overflown:
            value |= _EOVF
        if self.lead_off and self._registers[_CNFG_GEN] >> 12 & 3 == 1:
            value |= _DCLOFFINT | 0x0A
        return value

    def _update(self):
        enabled = self._registers[_EN_INT]
        self._output(0 if enabled & 3 and self._status() & enabled & 0xF00F00 else 1)

    def _sample(self, at):
        code = self.source.data[at]
        if self._registers[_CNFG_EMUX] & _OPEN:
            code = 0  # isolated from the electrodes
        elif self._registers[_CNFG_CAL] & _EN_VCAL:
            code = 1000 if self.samples & 1 else -1000
        elif self.lead_off:
            code = 0x1FFFF
        if self._count == _DEPTH:
            self._overflown = True
        elif not self._overflown:
            self._fifo[(self._head + self._count) % _DEPTH] = code
            self._count += 1
        self._update()

    def _pop(self):
        """The next word of the FIFO: 18 bits, ETAG, no PTAG."""
        if self._overflown:
            return _OVERFLOW
        if not self._count:
            return _EMPTY
        code = self._fifo[self._head]
        self._head = (self._head + 1) % _DEPTH
        self._count -= 1
        if self._registers[_CNFG_GEN] & _EN_ECG == 0:
            return _EMPTY
        return (code & 0x3FFFF) << 6 | (0 if self._count else 2 << 3)

    def select(self):
        """A transaction begins: one command byte, then words of three."""
        self._bytes = 0

    def deselect(self):
        """A transaction ends."""
        self._update()

    def exchange(self, value):
        """A byte of a transaction."""
        n = self._bytes
        self._bytes = n + 1
        if n == 0:
            self._command = value
            return 0
        at = (n - 1) % 3
        if self._command & 1:
            if at == 0:
                self._word = self._read(self._command >> 1, n)
            return self._word >> (16 - 8 * at) & 0xFF
        self._word = self._word << 8 & 0xFFFF00 | value if at else value
        if n == 3:
            self._write(self._command >> 1, self._word)
        return 0

    def _read(self, register, n):
        if register == _BURST or (register == _FIFO and n == 1):
            return self._pop()
        if n > 1:
            return 0
        if register == _STATUS:
            return self._status()
        if register == _INFO:
            fresh = self._fresh
            self._fresh = False
            return 0 if fresh else self._info
        return self._registers[register] if register < len(self._registers) else 0

    def _write(self, register, value):
        if register == _SW_RST:
            self.power_on()
        elif register in (_SYNCH, _FIFO_RST):
            self._clear_fifo()
        elif register in _WRITABLE:
            self._registers[register] = value
            self._retime()
