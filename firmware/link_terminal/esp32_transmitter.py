"""ESP32 transmitter: RMT paces the pulses. For demonstration at low rates: a few thousand pulses a second.

MicroPython's RMT drives one pin with a list of durations and cannot keep several channels in step, so a slot is: select
source and intensity by GPIO, then let RMT make the strobe, whose width is exact to 12.5 ns. When each strobe starts is
up to the processor, which waits for it: set sync_every=1, so that the receiver follows. RMT has no receiving side in
MicroPython, so that there is no ESP32 receiver.

The receiver gives up on sync pulses that wander by a 64th of an interval. So a pulse goes out within a 128th of a slot
of its time or not at all: drawing states, answering the host or collecting garbage costs dark slots, whatever their
states, as loss on the fibre does.

Sync falls before the selection changes and rises once it stands, so that each sync pulse has an edge.

Pins: GPIO 16-19 sources H V D A, 21-22 intensity, 23 sync, 25 strobe: those of the ESP32 itself, an S3 or C3 has not
all of them. Figures are estimates, not measured on silicon.
"""

import os
import time

import esp32
from machine import Pin

from qepa_wire import link_commands as commands

from .controller import RefusedError

_SYMBOL_PINS = (16, 17, 18, 19, 21, 22, 23)
_SYNC = 6  # its place among them
_STROBE_PIN = 25
_RMT_HZ = 80_000_000
_HIGHEST_RATE_HZ = 2_000
_BLOCK_SLOTS = 16  # drawing more at once would cost more dark slots in a row
_MOST_DARK = 8  # in a row: the next sync pulse is well within slot_clock.MOST_INTERVALS
_RING_SLOTS = 1 << 15


class Hardware:
    """What transmitter.py expects of its hardware. Pulses go out in `fault`, which is asked between all else."""

    block_slots = _BLOCK_SLOTS
    ring_slots = _RING_SLOTS

    def __init__(self):
        self._pins = [Pin(number, Pin.OUT, value=0) for number in _SYMBOL_PINS]
        self._strobe = esp32.RMT(0, pin=Pin(_STROBE_PIN, Pin.OUT), clock_div=1)
        self._blocks = (bytearray(_BLOCK_SLOTS), bytearray(_BLOCK_SLOTS))
        self._put = self._sent = 0  # blocks taken, slots begun
        self._durations = (1,)
        self._period_us = 0
        self._due_us = 0
        self._dark = 0  # slots missed since the last pulse

    def start(self, settings):
        """Get ready; the first block starts the light."""
        rate = settings["pulse_rate_hz"][0]
        if rate > _HIGHEST_RATE_HZ:
            raise RefusedError(commands.NOT_HERE, "pulse_rate_hz is at most %d here" % _HIGHEST_RATE_HZ)
        self._period_us = 1_000_000 // rate
        self._durations = (max(1, (settings["pulse_width_ns"][0] * (_RMT_HZ // 1_000_000) + 500) // 1000),)
        self._put = self._sent = 0
        self._dark = 0

    def random(self, buffer):
        """The hardware generator; ESP-IDF calls it true random while the radio or the ADC noise source is on."""
        buffer[:] = os.urandom(len(buffer))
        return True

    def free(self):
        """Two blocks at most."""
        return 2 - (self._put - self._sent // _BLOCK_SLOTS)

    def put(self, symbols):
        """Copy a block; the second one starts the light."""
        self._blocks[self._put & 1][:] = symbols
        self._put += 1

    def sent(self):
        """Slots that have begun."""
        return self._sent

    def fault(self):
        """Send what is due or soon will be; too many slots missed in a row end the run.

        Allocates nothing, so that no collection of garbage delays a pulse that is due.
        """
        while self._dark <= _MOST_DARK and self._put >= 2 and self._sent < self._put * _BLOCK_SLOTS:
            now_us = time.ticks_us()
            if not self._sent:
                self._due_us = now_us  # the receiver counts from the first pulse: it is never late
            late_us = time.ticks_diff(now_us, self._due_us)
            if late_us < -(self._period_us // 2):
                break
            while late_us < 0:
                late_us = time.ticks_diff(time.ticks_us(), self._due_us)
            if late_us <= self._period_us >> 7:
                self._pulse(self._blocks[self._sent // _BLOCK_SLOTS & 1][self._sent % _BLOCK_SLOTS])
                self._dark = 0
            else:
                self._dark += 1
            self._due_us = time.ticks_add(self._due_us, self._period_us)
            self._sent += 1
        return "underrun" if self._dark > _MOST_DARK else ""

    def stop(self):
        """Dark: a strobe under way finds no source selected."""
        for pin in self._pins:
            pin.off()

    def refuses(self, name, value):
        """No reference clock."""
        return "this board has no input for a reference clock" if name == "clock" and value != "internal" else ""

    def self_test(self):
        """Nothing to read back."""
        return "ring_slots=%d" % _RING_SLOTS

    def _pulse(self, symbol):
        pins = self._pins
        pins[_SYNC].off()
        for bit in range(len(pins)):
            pins[bit].value(symbol >> bit & 1)
        self._strobe.write_pulses(self._durations, 1)
