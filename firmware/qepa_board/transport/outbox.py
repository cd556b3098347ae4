"""Frames that must not be lost: kept in flash, byte for byte, until the gateway says that it holds them."""

from qepa_wire.errors import WireError
from qepa_wire.frame import ALERT, HELLO, UP_TYPES, VECTOR, parse

from ..errors import CorruptError
from ..system.flash import read_record, write_record

PREFIX = "out-"
MAX_FRAMES = 24
_ORDER = {HELLO: 0, ALERT: 1, VECTOR: 2}


class Outbox:
    """Frames by sequence number. When it is full the oldest vector goes, an alert only if there is nothing else."""

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
        """Keep frame ``data``; on return it is durable."""
        if len(self._types) >= MAX_FRAMES:
            self.dropped += 1
            self.remove(max(self._types, key=lambda old: (_ORDER[self._types[old]], -old)))
        write_record(self._flash, _name(seq), data)
        self._note(parse(data, UP_TYPES))

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
