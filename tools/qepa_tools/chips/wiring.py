# mypy: ignore-errors
# ruff: noqa: ARG002, D101, PLC0206, PLW0603  names and signatures are MicroPython's; module state is the board's
# This is MicroPython; CPython runs it too.
"""Which chip hangs on which bus and pin of this board, and the time they share; machine's I2C and SPI."""

_ENODEV = 19
_ETIMEDOUT = 110
_FLOATING = 0xFF  # what a bus that nobody drives reads as
_SLICE_US = 2000  # chips take turns

_i2c = {}  # (bus, address): chip
_selects = {}  # chip select pin: (bus, chip)
_selected = {}  # SPI bus: chip
_levels = {}  # pin: level that a chip gives it
_watchers = {}  # pin: (handler, trigger, machine.Pin)
_chips = []
_unbuffered = []  # interrupt pins of chips without a FIFO
named = {}  # kind of chip: chip, as a board's plan names them
stuck = set()  # I2C buses whose data line is held down
before_use = None  # called before every use of a bus or pin, where time is not advanced by others
_ms = 0
_us = 0


def on_i2c(chip, bus, address=None, interrupt=None):
    """Connect a chip to an I2C bus, and its interrupt output to a pin."""
    _i2c[(bus, chip.address if address is None else address)] = chip
    _power(chip, interrupt)
    return chip


def on_spi(chip, bus, select, interrupt=None):
    """Connect a chip to an SPI bus and its chip select to a pin; likewise."""
    _selects[select] = (bus, chip)
    _power(chip, interrupt)
    return chip


def _power(chip, interrupt):
    _chips.append(chip)
    if interrupt is not None:
        _levels[interrupt] = chip.level
        if not chip.has_fifo:
            _unbuffered.append(interrupt)
        chip.on_level = lambda level: _changed(interrupt, level)


def advance_us(us):
    """Let time pass for all chips."""
    global _ms, _us
    while us > 0:
        step = min(us, _SLICE_US)
        us -= step
        _us += step
        _ms += _us // 1000
        _us %= 1000
        for chip in _chips:
            chip.advance_us(step)


def wake():
    """Let drivers look at chips with a FIFO now: where time comes in bursts, interrupts alone would come late."""
    for handler, trigger, machine_pin in _watchers.values():
        if handler is not None and trigger & 2 and machine_pin.number not in _unbuffered:
            handler(machine_pin)


def ticks_ms():
    """The chips' time as time.ticks_ms() counts it."""
    return _ms & 0x3FFFFFFF


def drive(pin, level):
    """The processor sets a pin."""
    if pin not in _selects:
        return
    bus, chip = _selects[pin]
    if level:
        if _selected.get(bus) is chip:
            chip.deselect()
            _selected[bus] = None
    else:
        _selected[bus] = chip
        chip.select()


def level(pin):
    """What a chip gives a pin, or None if none is connected to it."""
    if before_use is not None:
        before_use()
    return _levels.get(pin)


def watch(pin, handler, trigger, machine_pin):
    """Call ``handler(machine_pin)`` on falling (2) or rising (1) edges of a pin; None ends it."""
    _watchers[pin] = (handler, trigger, machine_pin)


def _changed(pin, new_level):
    _levels[pin] = new_level
    handler, trigger, machine_pin = _watchers.get(pin, (None, 0, None))
    if handler is not None and trigger & (1 if new_level else 2):
        handler(machine_pin)


class I2C:
    def __init__(self, id=-1, *, scl=None, sda=None, freq=400000, timeout=50000):
        self._id = id

    def _chip(self, address):
        if before_use is not None:
            before_use()
        if self._id in stuck:
            raise OSError(_ETIMEDOUT)
        for key in _i2c:  # looked for like this, because a tuple as a key would be allocated
            if key[0] == self._id and key[1] == address:
                chip = _i2c[key]
                if chip.reachable:
                    return chip
        raise OSError(_ENODEV)

    def scan(self):
        return [address for bus, address in _i2c if bus == self._id and _i2c[(bus, address)].reachable]

    def readfrom_mem_into(self, address, register, into):
        self._chip(address).read(register, into)

    def readfrom_mem(self, address, register, count):
        into = bytearray(count)
        self.readfrom_mem_into(address, register, into)
        return bytes(into)

    def writeto_mem(self, address, register, data):
        self._chip(address).write(register, data)


class SoftI2C(I2C):
    def __init__(self, scl, sda, *, freq=400000, timeout=50000):
        super().__init__(-1)


class SPI:
    MSB = 0

    def __init__(self, id, baudrate=1000000, **settings):
        self._id = id
        self.init(baudrate, **settings)

    def init(self, baudrate=1000000, *, polarity=0, phase=0, bits=8, firstbit=0, sck=None, mosi=None, miso=None):
        self._polarity = polarity
        self._phase = phase

    def deinit(self):
        pass

    def _chip(self):
        if before_use is not None:
            before_use()
        chip = _selected.get(self._id)
        if chip is None or not chip.reachable:
            return None
        return chip if chip.mode[0] == self._polarity and chip.mode[1] == self._phase else None

    def write_readinto(self, out, into):
        chip = self._chip()
        for i in range(len(into)):
            into[i] = _FLOATING if chip is None else chip.exchange(out[i])

    def readinto(self, into, write=0):
        chip = self._chip()
        for i in range(len(into)):
            into[i] = _FLOATING if chip is None else chip.exchange(write)

    def read(self, count, write=0):
        into = bytearray(count)
        self.readinto(into, write)
        return bytes(into)

    def write(self, out):
        chip = self._chip()
        if chip is not None:
            for i in range(len(out)):
                chip.exchange(out[i])
