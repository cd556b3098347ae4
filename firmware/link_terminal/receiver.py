"""The receiver: tags of four detectors and the sync line, merged in time, out as blocks by slot or as raw tags.

Its hardware is an object with

    tick_ps                 length of a tick
    start(settings)         begin to tag; raises RefusedError
    now()                   the tick counter, mod 2^32; tags up to it can be read
    read(channel, buffer)   put the oldest unread tags (mod 2^32) of a channel into array "I"; returns how many
    lost()                  tags lost in hardware since start
    stop()                  stop tagging
    refuses(name, value)    "" or why a setting cannot be had
    self_test()             details; raises RefusedError with FAULT

`poll` must come more often than the counter wraps.
"""

import struct
from array import array

from qepa_wire import link_commands as commands
from qepa_wire import link_frames as frames

from .controller import Controller, RefusedError
from .event_words import EventWords
from .slot_clock import SlotClock

BLOCK_INTERVAL_MS = 100  # a block is sent at least so often, empty or not
BLOCK_WORDS = 500
QUEUE_LIMIT_BYTES = 16_384  # what a host that does not read may leave here; then events are dropped and counted
_CHANNELS = 5
_QUEUE = 64
_WRAP = 0xFFFFFFFF
_LATE = 1 << 31


class Receiver(Controller):
    """Streams what the detectors see while a run lasts."""

    role = commands.RECEIVER

    def __init__(self, hardware):
        super().__init__()
        self._hardware = hardware
        self._tags = [array("I", bytes(4 * _QUEUE)) for _ in range(_CHANNELS)]
        self._next = [0] * _CHANNELS
        self._filled = [0] * _CHANNELS
        self._by_slot = EventWords(2, frames.DETECTION_SKIP, BLOCK_WORDS)
        self._by_tick = EventWords(3, frames.TAG_SKIP, BLOCK_WORDS)
        self._reset()

    def _reset(self):
        self._overflow = 0
        self._time = 0  # ticks since the run began: everything before has been merged
        self._base = 0  # what the counter showed then
        self._first = self._last = 0  # where the open block begins; its last event, in slots or ticks
        self._opened_ms = 0
        self._clock = None
        self._last_click = [-1 << 30] * 4

    def begin(self, now_ms):
        self._reset()
        self._opened_ms = now_ms
        self._by_slot.take()
        self._by_tick.take()
        for channel in range(_CHANNELS):
            self._next[channel] = self._filled[channel] = 0
        per_ns = self._hardware.tick_ps
        self._dead = self.settings["dead_time_ns"][0] * 1000 // per_ns
        self._gate_from = self.settings["gate_delay_ns"][0] * 1000 // per_ns
        self._gate = self.settings["gate_ns"][0] * 1000 // per_ns
        if self.settings["report"] == "slots":
            self._clock = SlotClock(self.settings["sync_every"][0], self._by_slot_event)
        self._hardware.start(self.settings)
        self._base = self._hardware.now()

    def end(self):
        self._hardware.stop()

    def poll(self, now_ms):
        """Let time pass: merge what has been tagged, send what is due."""
        super().poll(now_ms)
        if self.run is None:
            return
        self._merge(self._hardware.now())
        if self.run is not None and self._clock is not None and self._clock.late(self._time):
            self.stop("sync")
        if self.run is not None and now_ms - self._opened_ms >= BLOCK_INTERVAL_MS:
            self._opened_ms = now_ms
            self._close_block(self._time if self._clock is None else self._clock.slot)

    def _merge(self, now):
        """Take all tags up to counter value `now`, oldest first."""
        start, base = self._time, self._base
        horizon = (now - base) & _WRAP
        while self.run is not None:
            first, channel = horizon, -1
            for c in range(_CHANNELS):
                if self._next[c] == self._filled[c]:
                    self._next[c], self._filled[c] = 0, self._hardware.read(c, self._tags[c])
                while self._next[c] < self._filled[c]:
                    gap = (self._tags[c][self._next[c]] - base) & _WRAP
                    if gap < _LATE:
                        if gap < first:
                            first, channel = gap, c
                        break
                    self._next[c] += 1  # older than what has been merged: too late to be told
                    self._overflow += 1
            if channel < 0:
                break
            self._next[channel] += 1
            self._tag(start + first, channel)
        self._time, self._base = start + horizon, now

    def _tag(self, time, channel):
        if channel < 4:
            if time - self._last_click[channel] < self._dead:
                return
            self._last_click[channel] = time
        if self._clock is None:
            self._event(self._by_tick, time, channel)
        elif channel < 4:
            self._clock.click(time, channel)
        elif not self._clock.sync(time):
            self.stop("sync")

    def _by_slot_event(self, slot, phase, detector):
        if self._gate and not self._gate_from <= phase < self._gate_from + self._gate:
            return
        if self._first < self._clock.covered:
            self._first = self._last = self._clock.covered
        self._event(self._by_slot, slot, detector)

    def _event(self, words, at, channel):
        """Append an event at slot or tick `at`; when the block is full it is sent and the next one begins."""
        if at < self._first or sum(len(frame) for frame in self.outgoing) > QUEUE_LIMIT_BYTES:
            self._overflow += 1  # the frame before has closed with this slot, or the host does not read
        elif words.put(at - self._last, channel):
            self._last = at
        else:
            self._close_block(max(self._last + 1, self._first) if words.length else at)
            self._event(words, at, channel)

    def _close_block(self, end):
        """Send the open block, which covers all up to `end`, and open the next there."""
        if self._clock is not None and self._clock.covered < 0:
            return
        if self._clock is not None and self._first < self._clock.covered:
            self._first = self._clock.covered
        overflow = (self._overflow + self._hardware.lost() + (self._clock.dropped if self._clock else 0)) & _WRAP
        if self._clock is None:
            head = struct.pack(frames.TIME_TAGS_HEAD, self.run, self._first, end, overflow, self._hardware.tick_ps)
            self.send(frames.TIME_TAGS, head + self._by_tick.take())
        else:
            head = struct.pack(frames.DETECTIONS_HEAD, self.run, self._first, end, overflow)
            self.send(frames.DETECTIONS, head + self._by_slot.take())
        self._first = self._last = end

    def details(self):
        return " overflow=%d" % (self._overflow + (self._hardware.lost() if self.run is not None else 0))

    def accept(self, name, value):
        reason = self._hardware.refuses(name, value)
        if reason:
            raise RefusedError(commands.NOT_HERE, reason)

    def self_test(self):
        return self._hardware.self_test()
