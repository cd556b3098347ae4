"""RP2040 receiver: five PIO machines tag five inputs, DMA keeps the tags in rings, the processor merges them.

Pins: GP2-5 detectors H V D A, GP6 sync, GP10-13 thresholds as PWM behind a low-pass filter. Machines 0-3 are in PIO0
and begin in the same cycle; the sync machine is in PIO1 and begins a few cycles later, the same in every run, which is
as good as a longer cable.

Rates, estimated, not measured on silicon: PIO and DMA take bursts of 1,024 tags a channel, one every 6 cycles; merging
is good for some 10,000 clicks a second. More is counted as overflow. `speed.py` measures it on a board.
"""

import rp2
import uctypes
from machine import PWM, Pin, freq, mem32

from qepa_wire import link_commands as commands

from .controller import RefusedError
from .kernels import copy_ring
from .rp2040_tagger import CYCLES_PER_TICK, rising_edges

FIRST_PIN, FIRST_THRESHOLD_PIN = 2, 10
_CHANNELS = 5
_RING_TAGS = 1024  # 4 kB a channel, the address aligned to that
_RING_BITS = 12
_ENDLESS = 0x0FFFFFFF
_SUPPLY_MV = 3300
_WORD = 0xFFFFFFFF
_SETTLE_US = 2
_PIO_BASES = (0x50200000, 0x50300000)
_CTRL, _FDEBUG, _RXF0 = 0x00, 0x08, 0x20
_DREQ_RX0 = (4, 12)  # of PIO0 and PIO1 (RP2040 datasheet table 120)
_TIMER_LOW = 0x40054028  # TIMERAWL, microseconds


class Hardware:
    """What receiver.py expects of its hardware."""

    def __init__(self):
        self.tick_ps = CYCLES_PER_TICK * 1_000_000 // (freq() // 1_000_000)
        self._memory = bytearray(4 * _RING_TAGS * (_CHANNELS + 1))
        first = -uctypes.addressof(self._memory) % (4 * _RING_TAGS)
        size = 4 * _RING_TAGS
        self._rings = [memoryview(self._memory)[first + c * size : first + (c + 1) * size] for c in range(_CHANNELS)]
        self._dma = [rp2.DMA() for _ in range(_CHANNELS)]
        self._machines = [
            rp2.StateMachine(c, rising_edges, jmp_pin=Pin(FIRST_PIN + c, Pin.IN, Pin.PULL_DOWN))
            for c in range(_CHANNELS)
        ]
        self._levels = [PWM(Pin(FIRST_THRESHOLD_PIN + c), freq=100_000, duty_u16=0) for c in range(4)]
        self._read = [0] * _CHANNELS
        self._lost = 0
        self._last_us = self._elapsed_us = 0

    def start(self, settings):
        """Arm all five machines; the four of PIO0 in one cycle."""
        for level, millivolts in zip(self._levels, settings["thresholds_mv"]):
            level.duty_u16(65535 * millivolts // _SUPPLY_MV)
        self.stop()
        self._lost = 0
        for c in range(_CHANNELS):
            pio, machine = c >> 2, c & 3
            self._read[c] = 0
            control = self._dma[c].pack_ctrl(
                size=2,
                inc_read=False,
                inc_write=True,
                ring_sel=True,
                ring_size=_RING_BITS,
                treq_sel=_DREQ_RX0[pio] + machine,
            )
            self._machines[c].restart()
            while self._machines[c].rx_fifo():
                self._machines[c].get()
            self._dma[c].config(
                read=_PIO_BASES[pio] + _RXF0 + 4 * machine,
                write=self._rings[c],
                count=_ENDLESS,
                ctrl=control,
                trigger=True,
            )
        for base in _PIO_BASES:
            mem32[base + _FDEBUG] = 0xF  # forget old RXSTALL
        mem32[_PIO_BASES[0] + _CTRL] = 0xF
        mem32[_PIO_BASES[1] + _CTRL] = 0x1
        self._last_us = mem32[_TIMER_LOW] & _WORD
        self._elapsed_us = 0

    def now(self):
        """The tick counter, a little in the past: what is older has reached its ring."""
        raw = mem32[_TIMER_LOW] & _WORD
        self._elapsed_us += (raw - self._last_us) & _WORD  # asked often, so that the timer's own wrap does not show
        self._last_us = raw
        return max(0, self._elapsed_us - _SETTLE_US) * 1_000_000 // self.tick_ps & _WORD

    def read(self, channel, buffer):
        """Copy the oldest unread tags of one ring."""
        written = _ENDLESS - self._dma[channel].count
        if written - self._read[channel] > _RING_TAGS - 16:
            # The ring came round. What is left of it may be half old: drop all of it.
            self._lost += written - self._read[channel]
            self._read[channel] = written
        count = min(len(buffer), written - self._read[channel])
        copy_ring(self._rings[channel], self._read[channel], _RING_TAGS - 1, buffer, count)
        self._read[channel] += count
        return count

    def lost(self):
        """Tags that came round in a ring; a FIFO that was full counts as one."""
        for base in _PIO_BASES:
            stalled = mem32[base + _FDEBUG] & 0xF
            if stalled:
                mem32[base + _FDEBUG] = stalled
                self._lost += 1
        return self._lost

    def stop(self):
        """Stop tagging."""
        for machine in self._machines:
            machine.active(0)
        for channel in self._dma:
            channel.active(0)

    def refuses(self, name, value):
        """No reference clock; thresholds come from PWM and cannot be negative."""
        if name == "clock" and value != "internal":
            return "this board has no input for a reference clock"
        if name == "thresholds_mv" and min(value) < 0:
            return "thresholds are from 0 to 3300 mV here"
        return ""

    def self_test(self):
        """Whether an input is stuck high: then its machine would never see an edge."""
        stuck = [c for c in range(_CHANNELS) if Pin(FIRST_PIN + c, Pin.IN, Pin.PULL_DOWN).value()]
        if stuck:
            raise RefusedError(commands.FAULT, "input %d is stuck high" % (stuck[0] + 1))
        return "tick_ps=%d ring_tags=%d clock_hz=%d" % (self.tick_ps, _RING_TAGS, freq())
