"""RP2040 transmitter: PIO makes the pulses, DMA feeds it block by block, the processor draws states.

Pins: GP2-5 sources H V D A, GP6-7 intensity, GP8 sync, GP9 strobe. State memory is 64 kB of the 264 kB of RAM.

A block is started only once it has been drawn, so that no state is ever sent twice; between blocks PIO lives on its
FIFO of 32 slots. When that runs dry it waits in the dark and a sticky flag says so: the run ends with the fault
`underrun`, because all later slots would be shifted.

Rates, estimated, not measured on silicon: the strobe is exact to 8 ns and PIO itself goes to 12.5 MHz, but gathering
random bits bounds the rate to some 50 kHz. `STATUS?` says whether a rate was kept.
"""

import hashlib
import os

import rp2
from machine import Pin, disable_irq, enable_irq, freq, mem32

from qepa_wire import link_commands as commands

from .controller import RefusedError
from .rp2040_pulses import SHORTEST_SLOT_CYCLES, loop_counts, pulses

FIRST_PIN, STROBE_PIN = 2, 9
_BLOCK_SLOTS = 2048
_RING_SLOTS = 1 << 17  # 64 kB
_PIO0_BASE = 0x50200000
_FDEBUG = _PIO0_BASE + 0x08
_TXF0 = _PIO0_BASE + 0x10
_TXSTALL = 1 << 24  # of state machine 0, sticky, cleared by writing 1 (RP2040 datasheet 3.7)
_DREQ_PIO0_TX0 = 0
_RAW_BYTES = 64


class Hardware:
    """What transmitter.py expects of its hardware."""

    block_slots = _BLOCK_SLOTS
    ring_slots = _RING_SLOTS

    def __init__(self):
        self._machine = None
        self._blocks = (bytearray(_BLOCK_SLOTS), bytearray(_BLOCK_SLOTS))
        self._channel = rp2.DMA()
        self._put = self._begun = 0  # blocks drawn, blocks handed to DMA
        self._busy = False  # DMA has a block
        self._fault = ""

    def start(self, settings):
        """Set the program up; it waits for its first symbols."""
        cycles = freq() // settings["pulse_rate_hz"][0]
        if cycles < SHORTEST_SLOT_CYCLES:
            raise RefusedError(commands.NOT_HERE, "pulse_rate_hz is at most %d here" % (freq() // SHORTEST_SLOT_CYCLES))
        strobe = settings["pulse_width_ns"][0] * (freq() // 1_000_000) // 1000
        rest, strobe = loop_counts(cycles, strobe)
        self._dark()
        self._put = self._begun = 0
        self._fault = ""
        self._machine = rp2.StateMachine(0, pulses, out_base=Pin(FIRST_PIN), sideset_base=Pin(STROBE_PIN))
        self._machine.put(rest)
        self._machine.put(strobe)
        control = self._channel.pack_ctrl(size=2, inc_write=False, treq_sel=_DREQ_PIO0_TX0, irq_quiet=False)
        self._channel.config(read=self._blocks[0], write=_TXF0, count=_BLOCK_SLOTS // 4, ctrl=control)
        self._channel.irq(self._block_done, hard=True)

    def random(self, buffer):
        """SHA-256 of the ring oscillator's bits, 64 bytes of them for 32.

        The oscillator is the RP2040's only source, and its datasheet (2.17.5) does not recommend it for security: for
        keys that matter, an RP2350 or an external source belongs here.
        """
        for at in range(0, len(buffer), 32):
            raw = os.urandom(_RAW_BYTES)
            if raw[:16] == raw[16:32]:
                return False
            piece = hashlib.sha256(raw).digest()
            buffer[at : at + 32] = piece[: len(buffer) - at]
        return True

    def free(self):
        """Blocks that may be written: not the one DMA reads, nor one that waits."""
        return 2 - (self._put - self._begun) - self._busy

    def put(self, symbols):
        """Copy the symbols into the free block; the second one starts the light."""
        self._blocks[self._put & 1][:] = symbols
        state = disable_irq()
        self._put += 1
        if self._put >= 2 and not self._busy:
            self._begin_block()
        enable_irq(state)
        if self._put == 2:
            # DMA has filled the FIFO meanwhile: from here on the machine never waits, or the flag says so.
            mem32[_FDEBUG] = _TXSTALL
            self._machine.active(1)

    def sent(self):
        """Slots whose block has begun."""
        return self._begun * _BLOCK_SLOTS

    def fault(self):
        """Whether the machine ever waited for symbols."""
        if self._begun and not self._fault and mem32[_FDEBUG] & _TXSTALL:
            self._fault = "underrun"
            self._dark()
        return self._fault

    def stop(self):
        """Dark, at once."""
        self._dark()

    def refuses(self, name, value):
        """No reference clock. PIO holds pins until the next slot: a sync pulse in every slot would have no edges."""
        if name == "sync_every" and value[0] < 2:
            return "sync_every is at least 2 here"
        return "this board has no input for a reference clock" if name == "clock" and value != "internal" else ""

    def self_test(self):
        """Memory of the pulses: what is written is read."""
        for pattern in (0x55, 0xAA):
            for block in self._blocks:
                block[:] = bytes([pattern]) * _BLOCK_SLOTS
                if block != bytes([pattern]) * _BLOCK_SLOTS:
                    raise RefusedError(commands.FAULT, "memory of the pulses is broken")
        return "blocks=2 block_slots=%d ring_slots=%d clock_hz=%d" % (_BLOCK_SLOTS, _RING_SLOTS, freq())

    def _block_done(self, _):
        """DMA is through with a block; nothing may be allocated here."""
        self._busy = False
        if self._begun < self._put:
            self._begin_block()

    def _begin_block(self):
        self._channel.read = self._blocks[self._begun & 1]
        self._channel.count = _BLOCK_SLOTS // 4
        self._begun += 1
        self._busy = True
        self._channel.active(1)

    def _dark(self):
        self._channel.active(0)
        self._busy = False
        if self._machine is not None:
            self._machine.active(0)
            for pin in range(FIRST_PIN, STROBE_PIN + 1):
                Pin(pin, Pin.OUT, value=0)
