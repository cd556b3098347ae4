"""What all drivers share: state, counters, the interrupt, and coming back after a fault.

A driver of one chip gives ``_configure()`` and ``_drain()``, which may raise OSError; nothing gets out of read().
"""

from array import array

from .states import BUS_ERROR, LEAD_OFF, OFF, OVERFLOW, RUNNING, WRONG_CHIP

try:
    from micropython import const
except ImportError:  # CPython

    def const(value):
        """MicroPython folds constants that are so marked into the code."""
        return value


try:
    from time import ticks_diff, ticks_ms
except ImportError:  # CPython
    from time import monotonic_ns

    def ticks_ms():
        """Milliseconds of a monotonic clock."""
        return monotonic_ns() // 1000000

    def ticks_diff(end, start):
        """From start to end, in ms."""
        return end - start


RETRY_MS = const(250)  # between attempts to reach a chip that does not answer
_LONGEST_MS = const(1000000)  # product with a rate stays a small integer

RESET = -1  # _drain(): the chip has lost its configuration
UNKNOWN = -1  # _missed: samples were lost, the chip does not say how many


class Sensor:
    """Base of a driver; ``channels``, ``rates`` (Hz, the default first) and ``watermark`` are the class's.

    ``pin`` is the interrupt's machine.Pin or None; ``depth`` samples fit into each buffer.
    """

    channels = ()
    rates = ()
    contact = None  # channels that LEAD_OFF is about, None for all
    watermark = 0  # samples at which the chip interrupts
    silence_ms = 1000  # a chip that gives no sample for so long is configured anew
    period_ms = 0  # a chip that cannot tell whether a sample is new is asked no more often than this

    def __init__(self, pin, flag, fs_hz, depth):
        self.fs_hz = fs_hz
        self.buffers = tuple([array("i", bytes(4 * depth)) for _ in self.channels])
        self._depth = depth
        self._pin = pin
        self._flag = flag
        self._on_interrupt = self._interrupt  # bound once: binding allocates
        self.state = OFF
        self.available = 0
        self.gap = 0
        self.lost = 0
        self.faults = 0
        self._missed = 0  # set by _drain(): samples lost before those it returns, or UNKNOWN
        self._lead_off = False  # set by _drain()
        self._owed = 0  # lost samples that the next read() with samples reports as its gap
        self._seen_ms = 0  # until when samples have been read, or counted as lost,
        self._carry_ms = 0  # but for this time, which was too short for a sample
        self._fresh_ms = 0  # when it last gave a sample, or was configured
        self._tried_ms = 0  # when it was last tried to be configured

    def start(self):
        """Configure the chip and begin."""
        if self.state != OFF:
            return
        self.available = self.gap = self.lost = self.faults = self._owed = self._carry_ms = 0
        self._seen_ms = ticks_ms()
        self._listen()
        self._bring_up()

    def stop(self):
        """End it; the chip sleeps, if it can be reached."""
        if self.state == OFF:
            return
        if self._pin is not None:
            self._pin.irq(None)
        self.state = OFF
        self.available = 0
        try:
            self._sleep()
        except OSError:
            self.faults += 1

    def read(self):
        """Drain the chip into ``buffers``; returns samples of each channel."""
        self.gap = 0
        state = self.state
        if state == OFF:
            return 0
        if state == BUS_ERROR or state == WRONG_CHIP:  # noqa: PLR1714, SIM109  a tuple would be allocated
            if not self._is_back():
                return 0
        elif self.period_ms and ticks_diff(ticks_ms(), self._fresh_ms) < self.period_ms:
            return 0
        self._missed = 0
        try:
            n = self._drain()
        except OSError:
            self.faults += 1
            self.state = BUS_ERROR
            self._tried_ms = ticks_ms()
            return 0
        now = ticks_ms()
        if n == RESET or (n == 0 and ticks_diff(now, self._fresh_ms) > self.silence_ms):
            self.faults += 1
            self._lose(self._expected())
            self._bring_up()
            return 0
        if self._missed:
            self._lose(self._missed if self._missed > 0 else max(1, self._expected() - n - self.available))
        if n:
            self._seen_ms = self._fresh_ms = now
            self._carry_ms = 0
            self.gap = self._owed
            self._owed = 0
        self.state = LEAD_OFF if self._lead_off else OVERFLOW if self.gap else RUNNING
        return n

    def _is_back(self):
        """Try to reach a chip that did not answer, now and then."""
        if ticks_diff(ticks_ms(), self._tried_ms) < RETRY_MS:
            return False
        self._lose(self._expected())
        return self._bring_up()

    def _expected(self):
        """Samples that the chip should have made since it gave some, by the clock, which starts anew."""
        now = ticks_ms()
        ms = min(_LONGEST_MS, ticks_diff(now, self._seen_ms)) + self._carry_ms
        self._seen_ms = now
        n = ms * self.fs_hz // 1000
        self._carry_ms = ms - n * 1000 // self.fs_hz
        return n

    def _lose(self, n):
        self._owed += n
        self.lost += n

    def _bring_up(self):
        """Identify and configure the chip; whether it runs."""
        self._tried_ms = self._fresh_ms = ticks_ms()
        self.available = 0
        self._lead_off = False
        try:
            self.state = self._configure()
        except OSError:
            self.state = BUS_ERROR
        if self.state == BUS_ERROR:
            self.faults += 1
        return self.state == RUNNING

    def _listen(self):
        if self._pin is not None:
            self._pin.irq(self._on_interrupt, self._pin.IRQ_FALLING)

    def _interrupt(self, _pin):
        self.available = max(self.available, self.watermark)
        self._flag.set()

    def _configure(self):
        """Identify the chip, set it up and start it; returns RUNNING, WRONG_CHIP or BUS_ERROR."""
        raise NotImplementedError

    def _drain(self):
        """Move samples into the buffers; returns how many, or RESET. Sets available, _missed and _lead_off."""
        raise NotImplementedError

    def _sleep(self):
        """Let the chip use as little as it can."""


class I2cSensor(Sensor):
    """A chip with registers of one byte on an I2C bus."""

    address = 0

    def __init__(self, bus, address, pin, flag, fs_hz, depth, status_bytes):
        super().__init__(pin, flag, fs_hz, depth)
        self._bus = bus
        self._address = address
        self._byte = bytearray(1)
        self._status = bytearray(status_bytes)

    def _put(self, register, value):
        self._byte[0] = value
        self._bus.writeto_mem(self._address, register, self._byte)

    def _put_all(self, pairs):
        """Write ``pairs``: register, value, register, value ..."""
        for i in range(0, len(pairs), 2):
            self._put(pairs[i], pairs[i + 1])

    def _get(self, register):
        self._bus.readfrom_mem_into(self._address, register, self._byte)
        return self._byte[0]

    def _is(self, register, identity):
        """RUNNING if the register holds the identity, else WRONG_CHIP."""
        return RUNNING if self._get(register) == identity else WRONG_CHIP


def halvings(frame_bytes, n):
    """A buffer for n frames (a power of two) and views of its first n, n/2, n/4 ... 1: reads that need no slices."""
    view = memoryview(bytearray(frame_bytes * n))
    views = []
    while n:
        views.append(view[: frame_bytes * n])
        n >>= 1
    return views


class FifoSensor(I2cSensor):
    """A chip whose FIFO of frames is read at one register, in chunks of ``chunk`` frames and their halvings."""

    frame_bytes = 0
    chunk = 16

    def __init__(self, bus, address, pin, flag, fs_hz, depth, status_bytes):
        super().__init__(bus, address, pin, flag, fs_hz, depth, status_bytes)
        self._views = halvings(self.frame_bytes, self.chunk)

    def _drain_fifo(self, register, n):
        """Read n frames and unpack them; returns samples."""
        done = 0
        size = self.chunk
        for view in self._views:
            while n >= size:
                self._bus.readfrom_mem_into(self._address, register, view)
                done = self._unpack(view, size, done)
                n -= size
            size >>= 1
        return done

    def _unpack(self, frames, n, at):
        """Put n frames into the buffers from index ``at`` on; returns the index after them."""
        raise NotImplementedError
