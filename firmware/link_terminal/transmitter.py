"""The transmitter: random states out as pulses, and their record for the host.

Its hardware is an object with

    block_slots, ring_slots   how many slots a block of pulses has; how many states there is memory for
    start(settings)           get ready; raises RefusedError. Pulses begin with the second `put`
    random(buffer)            fill the buffer from the hardware's random source; False when that source is broken
    free()                    how many blocks may be put now
    put(symbols)              send these pulses next, a byte a slot: bits 0-3 source H V D A, 4-5 intensity, 6 sync
    sent()                    slots whose block has begun to be sent
    fault()                   "" or one word: underrun, when pulses came too late and the slots after it are void
    stop()                    go dark at once
    refuses(name, value)      "" or why a setting cannot be had
    self_test()               details; raises RefusedError with FAULT
"""

import struct

from qepa_wire import link_commands as commands
from qepa_wire import link_frames as frames

from .controller import Controller, RefusedError
from .kernels import draw, translate
from .state_memory import RANDOM_BYTES, StateRing, state_table

SYNC = 0x40


class Transmitter(Controller):
    """Sends a pulse a slot while a run lasts and tells its host only the states it asks for."""

    role = commands.TRANSMITTER

    def __init__(self, hardware):
        super().__init__()
        self._hardware = hardware
        self._ring = StateRing(hardware.ring_slots)
        self._random = bytearray(RANDOM_BYTES * hardware.block_slots)
        self._states = bytearray(hardware.block_slots)
        self._symbols = bytearray(hardware.block_slots)
        self._last_random = b""
        self._state_table = None
        # What goes out for each state: one of four sources, and the intensity.
        self._symbol_of = bytes((1 << (state & 3)) | (state >> 2) << 4 for state in range(16))

    def begin(self, now_ms):  # noqa: ARG002  pulses are paced by the hardware
        self._ring.clear()
        self._state_table = state_table(self.settings["probabilities"], self.settings["key_basis_probability"][0])
        self._hardware.start(self.settings)

    def end(self):
        self._hardware.stop()

    def poll(self, now_ms):
        """Let time pass: keep the hardware supplied with pulses, notice when it broke."""
        super().poll(now_ms)
        while self.run is not None:
            fault = self._hardware.fault()
            if fault:
                self.stop(fault)
            elif not self._hardware.free():
                return
            elif not self._next_block():
                self.stop("random")

    def _next_block(self):
        """Draw one block, remember it, hand it over. False when the random source repeats itself or says it is broken.

        The comparison is the repetition test of SP 800-90B 4.4.1 on 128-bit samples: it finds a source that is stuck,
        not one that is weak.
        """
        random = self._random
        if not self._hardware.random(random) or random[:16] == self._last_random or random[:16] == random[-16:]:
            return False
        self._last_random = bytes(random[:16])
        draw(random, self._state_table, self._states, len(self._states))
        symbols = self._symbols
        translate(self._states, self._symbol_of, symbols, len(symbols))
        every = self.settings["sync_every"][0]
        for slot in range(-self._ring.end % every, len(symbols), every):
            symbols[slot] |= SYNC
        self._ring.store(self._states)
        self._hardware.put(symbols)
        return True

    def frame(self, kind, payload):
        """Answer a query for states; one that is damaged in itself gets no answer, and its slots drop out."""
        size = struct.calcsize(frames.STATE_QUERY_HEAD)
        if kind != frames.STATE_QUERY or len(payload) < size or (len(payload) - size) % 2:
            return
        run, tag, slot = struct.unpack_from(frames.STATE_QUERY_HEAD, payload)
        if run != self.run:
            return
        sent = self._hardware.sent()
        states = bytearray((len(payload) - size + 3) // 4)
        count = 0
        for at in range(size, len(payload), 2):
            gap = payload[at] | payload[at + 1] << 8
            slot += gap
            if gap != frames.QUERY_SKIP:
                states[count >> 1] |= self._ring.state(slot, sent) << ((count & 1) << 2)
                count += 1
        head = struct.pack(frames.STATES_HEAD, run, tag, count)
        self.send(frames.STATES, head + bytes(states[: (count + 1) >> 1]))

    def details(self):
        return " slots=%d" % (self._hardware.sent() if self.run is not None else 0)

    def accept(self, name, value):
        reason = self._hardware.refuses(name, value)
        if reason:
            raise RefusedError(commands.NOT_HERE, reason)

    def self_test(self):
        if not self._hardware.random(self._random) or bytes(self._random[:16]) == bytes(self._random[16:32]):
            raise RefusedError(commands.FAULT, "the random source is stuck")
        return "random=ok " + self._hardware.self_test()
