# mypy: ignore-errors
# This is MicroPython; CPython runs it too.
"""What models of chips share: power, time, the interrupt output, and where samples come from.

Reading and writing registers allocates nothing, so that a driver's own allocations can be seen.
"""

from array import array


class Frames:
    """Samples in memory, ``width`` codes each, played round and round."""

    def __init__(self, codes, width):
        self.data = codes if isinstance(codes, array) else array("i", codes)
        self.width = width
        self._at = 0
        self._end = len(self.data) // width * width

    def next(self):
        """Index into ``data`` of the first code of the next sample."""
        at = self._at
        self._at = at + self.width if at + self.width < self._end else 0
        return at


class FileFrames:
    """Samples of a file of int32, little endian, ``width`` a sample; a few are in memory at a time."""

    def __init__(self, path, width, held=64):
        self.width = width
        self.data = array("i", bytes(4 * width * held))
        self._file = open(path, "rb")  # noqa: SIM115  as long as the board
        self._at = self._end = 0

    def next(self):
        """Index into ``data`` of the first code of the next sample."""
        if self._at >= self._end:
            self._refill()
        at = self._at
        self._at = at + self.width
        return at

    def _refill(self):
        count = self._file.readinto(self.data)
        if count < 4 * self.width:
            self._file.seek(0)
            count = self._file.readinto(self.data)
            if count < 4 * self.width:
                raise ValueError("a recording without samples")
        self._at = 0
        self._end = count // 4 // self.width * self.width


class Chip:
    """A powered chip. ``rate`` is the samples a second that its registers ask for, 0 while it does not convert.

    Faults: unplug() and plug_in(), which powers it on anew; brown_out(); ``loose``: the bus fails, the chip lives.
    """

    has_fifo = True

    def __init__(self, source):
        self.source = source
        self.unplugged = False
        self.loose = False
        self.level = 1
        self.on_level = None  # called with the level when the interrupt output changes
        self.rate = 0
        self.samples = 0  # made since it was first powered
        self._credit = 0
        self.power_on()

    @property
    def reachable(self):
        """Whether it answers on its bus."""
        return not (self.unplugged or self.loose)

    def power_on(self):
        """Registers as after power-on, FIFO empty."""
        raise NotImplementedError

    def brown_out(self):
        """The supply sagged: whatever was set is forgotten."""
        self.power_on()

    def unplug(self):
        """Off the bus and off the supply."""
        self.unplugged = True

    def plug_in(self):
        """Back, as new."""
        self.unplugged = False
        self.power_on()

    def advance_us(self, us):
        """Let time pass, at most a second at once."""
        if self.unplugged or not self.rate:
            self._credit = 0
            return
        self._credit += us * self.rate
        while self._credit >= 1000000:
            self._credit -= 1000000
            self.samples += 1
            self._sample(self.source.next())

    def _sample(self, at):
        """Take the sample at index ``at`` of source.data."""
        raise NotImplementedError

    def _output(self, level):
        if level != self.level:
            self.level = level
            if self.on_level is not None:
                self.on_level(level)


class I2cChip(Chip):
    """Registers of one byte whose address counts up; ``address``: the one it answers to."""

    address = 0

    def read(self, register, into):
        """Fill ``into`` from ``register`` on."""
        for i in range(len(into)):
            into[i] = self._get(register)
            register = self._after(register)

    def write(self, register, data):
        """Write ``data`` from ``register`` on."""
        for i in range(len(data)):
            self._put(register, data[i])
            register = self._after(register)

    def _after(self, register):
        return register + 1 & 0xFF

    def _get(self, register):
        raise NotImplementedError

    def _put(self, register, value):
        raise NotImplementedError


class SpiChip(Chip):
    """``mode``: (polarity, phase) at which it understands its bus."""

    mode = (0, 0)

    def select(self):
        """Chip select falls."""
        raise NotImplementedError

    def deselect(self):
        """Chip select rises."""

    def exchange(self, value):
        """One byte each way."""
        raise NotImplementedError
