"""Frames that must not be lost: kept in flash, byte for byte, until the gateway says that it holds them.

There is room for MAX_FRAMES. When it is used up, or flash is full, frames give way in this order, each counted in
``dropped``: a HELLO whose epoch has a newer one or no other frame here; the oldest vector; the oldest alert, to a HELLO
or an alert alone. A vector that finds nothing but alerts is dropped itself.
"""

from qepa_wire.errors import WireError
from qepa_wire.frame import ALERT, HELLO, UP_TYPES, VECTOR, parse

from ..errors import BoardError, CorruptError
from ..system.flash import read_record, write_record

PREFIX = "out-"
MAX_FRAMES = 24
_ORDER = {HELLO: 0, ALERT: 1, VECTOR: 2}


class Outbox:
    """Frames by sequence number."""

    def __init__(self, flash):
        self._flash = flash
        self._types = {}
        self._epochs = {}
        self.dropped = 0
        self.corrupt = 0
        for name in flash.names():
            if name.startswith(PREFIX):
                self._recover(name)

    def _recover(self, name):
        try:
            self._note(parse(read_record(self._flash, name), UP_TYPES))
        except (CorruptError, WireError):
            self.corrupt += 1
            self._flash.remove(name)

    def _note(self, frame):
        self._types[frame.seq] = frame.type
        self._epochs[frame.seq] = frame.epoch

    def __len__(self):
        return len(self._types)

    def __contains__(self, seq):
        return seq in self._types

    def seqs(self):
        """Sequence numbers in the order of sending: by epoch, in it HELLO, then alerts, then by age."""
        return sorted(self._types, key=self._rank)

    def _rank(self, seq):
        return (self._epochs[seq], _ORDER[self._types[seq]], seq)

    def epoch(self, seq):
        """Epoch under whose key the frame was made."""
        return self._epochs[seq]

    def put(self, seq, data):
        """Keep frame ``data``; on return it is durable, or, if it is a vector, dropped and counted.

        Raises BoardError("flash") for another frame that flash does not take even when all vectors are gone,
        BoardError("outbox") if nothing else may give way.
        """
        frame = parse(data, UP_TYPES)
        while len(self._types) >= MAX_FRAMES:
            if self._make_room(frame, True):
                continue
            if frame.type == VECTOR:
                return
            raise BoardError("outbox", "nothing in it may give way")
        while True:
            try:
                write_record(self._flash, _name(seq), data)
                break
            except BoardError:
                if self._make_room(frame, False):
                    continue
                if frame.type == VECTOR:
                    return
                raise
        self._note(frame)

    def _make_room(self, frame, may_cost_alerts):
        """Drop the frame that is worth least, ``frame`` counted in; returns whether there is room for it now."""
        victim = self._worth_least(frame, may_cost_alerts)
        if victim is not None:
            self.dropped += 1
            self.remove(victim)
            return True
        if frame.type == VECTOR:
            self.dropped += 1
        return False

    def _worth_least(self, frame, may_cost_alerts):
        epochs = [self._epochs[seq] for seq in self._types if self._types[seq] != HELLO]
        epochs.append(frame.epoch)
        by_age = sorted(self._types)
        newest = {self._epochs[seq]: seq for seq in by_age if self._types[seq] == HELLO}
        for seq in by_age:
            epoch = self._epochs[seq]
            if self._types[seq] == HELLO and (epoch not in epochs or newest[epoch] != seq):
                return seq
        for seq in by_age:
            if self._types[seq] == VECTOR:
                return seq
        if may_cost_alerts and frame.type != VECTOR:
            for seq in by_age:
                if self._types[seq] == ALERT:
                    return seq
        return None

    def get(self, seq):
        """The frame as it was put, or None if flash lost it; it is then no longer in the box."""
        try:
            data = read_record(self._flash, _name(seq))
        except CorruptError:
            data = None
        if data is None and seq in self._types:
            self.corrupt += 1
            self.remove(seq)
        return data

    def remove(self, seq):
        """Forget a frame."""
        self._flash.remove(_name(seq))
        self._types.pop(seq, None)
        self._epochs.pop(seq, None)


def _name(seq):
    return "%s%08x" % (PREFIX, seq)
