"""What must never run backwards: boots, epochs, sequence numbers, rounds; with the link key they belong to.

One record, replaced as a whole: after a power cut every counter is the old or the new one, all of them together.
A counter is durable before what it guards is used.
"""

# ruff: noqa: B904  MicroPython knows no exception chaining and warns on the console

import struct

from qepa_wire.keys import LINK_MAC_DOWN, derive
from qepa_wire.payloads import MAX_RATCHET_STEPS

from ..errors import BoardError, CorruptError, CountersLostError, RefusedError
from ..system.flash import read_record, write_record

FILE = "counters"
SEQ_BLOCK = 1024  # sequence numbers reserved by one write; a reboot skips what is left of them
MAX_STREAM = 4
_MAX_U32 = 0xFFFFFFFF
_FORMAT = "<BIIIIH16s32s32s4Q"
_LAYOUT = 1
_FIELDS = ("boots", "_seq_limit", "epoch", "model", "steps", "key_id", "key", "last_mac_down", "_rounds")
NO_KEY = bytes(32)


class Counters:
    """The durable counters. A failed write raises BoardError("flash") and changes nothing.

    Read them as attributes: boots, epoch, model (highest version ever accepted), steps (ratchet steps from pad
    ``key_id`` to ``key``), last_mac_down (key that still acknowledges frames of the epoch before).
    """

    def __init__(self, flash, boots, seq_limit, epoch, model, steps, key_id, key, last_mac_down, rounds):
        self._flash = flash
        self.boots = boots
        self.epoch = epoch
        self.model = model
        self.steps = steps
        self.key_id = key_id
        self.key = key
        self.last_mac_down = last_mac_down
        self._rounds = rounds  # last round of each stream, index stream - 1
        self._seq_limit = seq_limit
        self._seq = seq_limit

    @classmethod
    def load(cls, flash):
        """Counters in ``flash``; raises CountersLostError if they are missing or altered."""
        try:
            body = read_record(flash, FILE)
        except CorruptError:
            raise CountersLostError("counters", "altered")
        if body is None:
            raise CountersLostError("counters", "missing")
        if len(body) != struct.calcsize(_FORMAT) or body[0] != _LAYOUT:
            raise CountersLostError("counters", "unknown layout")
        fields = struct.unpack(_FORMAT, body)
        return cls(flash, *fields[1:9], list(fields[9:]))

    @classmethod
    def create(cls, flash, boots=0, epoch=0, seq=0, round_=0):
        """Write counters that start above these floors, without a key."""
        counters = cls(flash, boots, seq, epoch, 0, 0, bytes(16), NO_KEY, NO_KEY, [round_] * MAX_STREAM)
        counters._change()
        return counters

    def _change(self, **changed):
        """Write the record with the attributes in ``changed`` replaced; only then are they replaced here."""
        new = {name: changed.get(name, getattr(self, name)) for name in _FIELDS}
        body = struct.pack(_FORMAT, _LAYOUT, *[new[name] for name in _FIELDS[:-1]], *new["_rounds"])
        write_record(self._flash, FILE, body)
        for name, value in changed.items():
            setattr(self, name, value)

    @property
    def has_key(self):
        """Whether there was ever a link key."""
        return self.key != NO_KEY

    def start_boot(self):
        """Count this boot."""
        if self.boots >= _MAX_U32:
            raise BoardError("exhausted", "boots")
        self._change(boots=self.boots + 1)

    def start_epoch(self, key_id, steps, key):
        """Move to the next epoch, whose link key is ``key``: pad ``key_id``, ``steps`` ratchet steps on."""
        if self.epoch >= _MAX_U32 or steps > MAX_RATCHET_STEPS:
            raise BoardError("exhausted", "epochs without a new pad")
        last = derive(self.key, LINK_MAC_DOWN) if self.has_key else NO_KEY
        self._change(epoch=self.epoch + 1, key_id=key_id, steps=steps, key=key, last_mac_down=last)

    def note_model(self, version):
        """Remember that no model below ``version`` is ever to be accepted again."""
        if version > self.model:
            self._change(model=version)

    def next_seq(self):
        """A sequence number that was never returned before, on any boot."""
        seq = self._seq + 1
        if seq > self._seq_limit:
            limit = self._seq_limit + SEQ_BLOCK
            if limit > _MAX_U32:
                raise BoardError("exhausted", "sequence numbers")
            self._change(_seq_limit=limit)
        self._seq = seq
        return seq

    def last_round(self, stream=None):
        """Last round reserved for ``stream``, or for any stream."""
        return max(self._rounds) if stream is None else self._rounds[stream - 1]

    def reserve_round(self, stream, round_):
        """Reserve (stream, round) for one seal; raises RefusedError("replay") unless the round is above the last."""
        if not 0 < stream <= MAX_STREAM:
            raise RefusedError("stream", "%d" % stream)
        if round_ <= self._rounds[stream - 1]:
            raise RefusedError("replay", "round %d of stream %d" % (round_, stream))
        rounds = list(self._rounds)
        rounds[stream - 1] = round_
        self._change(_rounds=rounds)
