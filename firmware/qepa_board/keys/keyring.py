"""Link keys: QKD pads from the dock, each good for one epoch; a ratchet where there is no pad.

A pad is marked used by the write that makes it the epoch's key (Counters.start_epoch); after a power cut between that
and its removal here, the mark tells.
"""

import struct

from qepa_wire.keys import (
    KEY_BYTES,
    LINK_ALERT,
    LINK_MAC_DOWN,
    LINK_MAC_UP,
    LINK_MASK,
    derive,
    ratchet,
)

from ..errors import BoardError, CorruptError
from ..system.flash import read_record, write_record

PADS_FILE = "pads"
ID_BYTES = 16
PAD_BYTES = ID_BYTES + KEY_BYTES
MAX_PADS = 128
USED_IDS = 64  # how many spent pads are remembered, so that loading one again does no harm


class Epoch:
    """One epoch with the keys derived for it."""

    def __init__(self, number, key_id, steps, key):
        self.number = number
        self.key_id = key_id
        self.steps = steps
        self.mask_key = derive(key, LINK_MASK)
        self.mac_up = derive(key, LINK_MAC_UP)
        self.mac_down = derive(key, LINK_MAC_DOWN)
        self.alert_key = derive(key, LINK_ALERT)


class PadStore:
    """Pads in flash, oldest first, and the ids of those spent last. Nothing is kept in memory between calls: the
    dock may write while the application runs."""

    def __init__(self, flash):
        self._flash = flash

    def read(self):
        """(pads, used): lists of bytes. An altered file holds no pads: they are dropped, never guessed at."""
        try:
            body = read_record(self._flash, PADS_FILE)
        except CorruptError:
            self._flash.remove(PADS_FILE)
            return [], []
        if body is None:
            return [], []
        count, n_used = struct.unpack_from("<HH", body)
        pads_end = 4 + count * PAD_BYTES
        pads = [body[i : i + PAD_BYTES] for i in range(4, pads_end, PAD_BYTES)]
        used = [body[i : i + ID_BYTES] for i in range(pads_end, pads_end + n_used * ID_BYTES, ID_BYTES)]
        return pads, used

    def write(self, pads, used):
        """Replace both lists."""
        used = used[-USED_IDS:]
        write_record(self._flash, PADS_FILE, struct.pack("<HH", len(pads), len(used)) + b"".join(pads) + b"".join(used))

    def count(self):
        """Number of pads."""
        return len(self.read()[0])

    def load(self, data, current_id):
        """Append the pads in ``data``; returns (loaded, known): new ones, and ones seen before, which are ignored.

        Raises BoardError("pads") for half a pad, or for more than MAX_PADS.
        """
        if not data or len(data) % PAD_BYTES:
            raise BoardError("pads", "%d bytes are not whole pads of %d" % (len(data), PAD_BYTES))
        pads, used = self.read()
        ids = {pad[:ID_BYTES] for pad in pads} | set(used) | {current_id}
        before = len(pads)
        for i in range(0, len(data), PAD_BYTES):
            pad = bytes(data[i : i + PAD_BYTES])
            if pad[:ID_BYTES] not in ids:
                ids.add(pad[:ID_BYTES])
                pads.append(pad)
        if len(pads) > MAX_PADS:
            raise BoardError("pads", "no room for more than %d" % MAX_PADS)
        loaded = len(pads) - before
        if loaded:
            self.write(pads, used)
        return loaded, len(data) // PAD_BYTES - loaded


class Keyring:
    """Starts epochs."""

    def __init__(self, flash, counters):
        self._counters = counters
        self.pads = PadStore(flash)

    def _unused(self):
        """(pads, used) with the current epoch's pad struck out, should a power cut have left it in."""
        pads, used = self.pads.read()
        current = self._counters.key_id
        if any(pad[:ID_BYTES] == current for pad in pads):
            pads = [pad for pad in pads if pad[:ID_BYTES] != current]
            used.append(current)
            self.pads.write(pads, used)
        return pads, used

    def next_epoch(self, step, pad=True):
        """Start an epoch, with the next pad if ``pad`` and there is one, and return it.

        Else one ratchet step on if ``step`` (at a boot always), or None. None too if there never was a key.
        """
        counters = self._counters
        pads, used = self._unused()
        if pads and pad:
            first = pads[0]
            counters.start_epoch(first[:ID_BYTES], 0, first[ID_BYTES:])
            used.append(first[:ID_BYTES])
            self.pads.write(pads[1:], used)
        elif step and counters.has_key:
            counters.start_epoch(counters.key_id, counters.steps + 1, ratchet(counters.key, 1))
        else:
            return None
        return Epoch(counters.epoch, counters.key_id, counters.steps, counters.key)
