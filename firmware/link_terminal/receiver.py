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
from .kernels import merge
from .slot_clock import SlotClock

BLOCK_INTERVAL_MS = 100  # a block is sent at least so often, empty or not
BLOCK_WORDS = 500
QUEUE_LIMIT_BYTES = 16_384  # what a host that does not read may leave here; then events are dropped and counted
_CHANNELS = 5
_QUEUE = 64
_ROOM = _CHANNELS * _QUEUE
_WRAP = 0xFFFFFFFF
_BASE, _HORIZON, _LATE, _DONE = 10, 11, 13, 14  # places in the state of `merge`
_SYNC = bytes((frames.SYNC_CHANNEL,))


class Receiver(Controller):
    """Streams what the detectors see while a run lasts."""

    role = commands.RECEIVER

    def __init__(self, hardware):
        super().__init__()
        self._hardware = hardware
        self._tags = array("I", bytes(4 * _CHANNELS * _QUEUE))
        self._queues = [memoryview(self._tags)[c * _QUEUE : (c + 1) * _QUEUE] for c in range(_CHANNELS)]
        self._merging = array("I", bytes(4 * 15))
        self._times = array("I", bytes(4 * _ROOM))
        self._channels = bytearray(_ROOM)
        self._by_slot = EventWords(2, frames.DETECTION_SKIP, BLOCK_WORDS)
        self._by_tick = EventWords(3, frames.TAG_SKIP, BLOCK_WORDS)
        self._words = self._by_slot
        self._clock = None
        self._overflow = 0
        self._time = 0  # ticks since the run began: everything before has been merged
        self._opened_ms = 0
        self._dead = 0
        self._last_click = [0] * 4

    def begin(self, now_ms):
        tick_ps = self._hardware.tick_ps
        self._dead = self.settings["dead_time_ns"][0] * 1000 // tick_ps
        self._last_click = [-self._dead] * 4
        self._clock, self._words = None, self._by_tick
        if self.settings["report"] == "slots":
            gate_from, gate = (self.settings[name][0] * 1000 // tick_ps for name in ("gate_delay_ns", "gate_ns"))
            self._clock, self._words = SlotClock(self.settings["sync_every"][0], gate_from, gate), self._by_slot
        self._words.begin(0)
        self._words.take_dropped()
        self._overflow = self._time = 0
        self._opened_ms = now_ms
        for i in range(len(self._merging)):
            self._merging[i] = 0
        self._merging[12] = _ROOM
        self._hardware.start(self.settings)
        self._merging[_BASE] = self._hardware.now()

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
            self._close_block(self._time if self._clock is None else self._clock.end)

    def _merge(self, now):
        """Take all tags up to counter value `now`, oldest first."""
        state = self._merging
        horizon = state[_HORIZON] = (now - state[_BASE]) & _WRAP
        state[_DONE] = 0
        while self.run is not None and not state[_DONE]:
            for c in range(_CHANNELS):
                if state[c] == state[5 + c]:
                    state[c] = c * _QUEUE
                    state[5 + c] = c * _QUEUE + self._hardware.read(c, self._queues[c])
            self._take(merge(self._tags, state, self._times, self._channels))
        self._overflow += state[_LATE]
        state[_LATE] = 0
        self._time += horizon
        state[_BASE] = now

    def _take(self, n):
        """Take n merged events."""
        if self._dead:
            n = self._alive(n)
        if self._clock is None:
            self._tell(self._times, self._channels, n, self._time)
            return
        at = 0
        while at < n and self.run is not None:
            sync = self._channels.find(_SYNC, at, n)
            stop = n if sync < 0 else sync
            self._clock.clicks(self._times, self._channels, at, stop, self._time)
            if sync >= 0:
                told = self._clock.sync(self._time + self._times[sync])
                if told < 0:
                    self.stop("sync")
                    return
                if self._words.first < self._clock.covered:
                    self._words.begin(self._clock.covered)
                self._tell(self._clock.slots, self._clock.detectors, told, self._clock.begin)
            at = stop + 1

    def _alive(self, n):
        """Remove clicks in their detector's dead time; returns how many events are left."""
        kept = 0
        for i in range(n):
            channel, time = self._channels[i], self._time + self._times[i]
            if channel < 4:
                if time - self._last_click[channel] < self._dead:
                    continue
                self._last_click[channel] = time
            self._channels[kept], self._times[kept] = channel, self._times[i]
            kept += 1
        return kept

    def _tell(self, values, channels, n, base):
        """Append n events, each at `base` plus its value; a block that is full is sent and the next one begins."""
        if sum(len(frame) for frame in self.outgoing) > QUEUE_LIMIT_BYTES:
            self._overflow += n
            return
        words, at = self._words, 0
        while at < n:
            at = words.put(values, channels, at, n, base)
            if at < n:
                self._close_block(words.last + 1 if words.length else base + values[at])

    def _close_block(self, end):
        """Send the open block, which covers all up to `end`, and open the next there."""
        clock = self._clock
        if clock is not None and clock.covered < 0:
            return
        self._overflow += self._words.take_dropped()
        overflow = (self._overflow + self._hardware.lost() + (clock.dropped if clock else 0)) & _WRAP
        first = self._words.first
        if clock is None:
            head = struct.pack(frames.TIME_TAGS_HEAD, self.run, first, end, overflow, self._hardware.tick_ps)
            self.send(frames.TIME_TAGS, head + self._words.bytes())
        else:
            head = struct.pack(frames.DETECTIONS_HEAD, self.run, first, end, overflow)
            self.send(frames.DETECTIONS, head + self._words.bytes())
        self._words.begin(end)

    def details(self):
        return " overflow=%d" % (self._overflow + (self._hardware.lost() if self.run is not None else 0))

    def accept(self, name, value):
        reason = self._hardware.refuses(name, value)
        if reason:
            raise RefusedError(commands.NOT_HERE, reason)

    def self_test(self):
        return self._hardware.self_test()
