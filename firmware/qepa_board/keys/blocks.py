"""One-time blocks from the dock: bytes of quantum key, each used once, for alerts and where it is set for vectors.

A block is one record in flash: its key_ID, its size and the bytes not yet used. Taking bytes replaces the record by one
without them before they are used, so that a power cut wastes them and never gives them twice; the file system erases
the flash below in its own time. Only blocks that the gateway says it holds are used.
"""

import struct

from qepa_wire.one_time import ALERT_BYTES, KEY_BYTES, LEAST_BYTES, split
from qepa_wire.payloads import BLOCK_GONE, ID_BYTES

from ..errors import BoardError, CorruptError
from ..system.flash import read_record, write_record

PREFIX = "otp-"
MAX_BLOCKS = 16
LEAST_BLOCK_BYTES = 64
MOST_BLOCK_BYTES = 4096
ALERT_RESERVE = 256  # bytes of the last block that vectors leave to alerts
_HEAD = "<16sI"
_HEAD_BYTES = struct.calcsize(_HEAD)


class _Block:
    def __init__(self, key_id, size, left):
        self.key_id = key_id
        self.size = size
        self.left = left  # bytes not yet used: the last ones


class BlockStore:
    """Blocks in flash, oldest first. ``changed`` is True once what refresh() or a use found has to be told."""

    def __init__(self, flash):
        self._flash = flash
        self._blocks = {}  # name: _Block
        self._held = set()
        self.changed = False
        self.refresh()

    def refresh(self):
        """Look for blocks that the dock has written or removed since."""
        names = [name for name in self._flash.names() if name.startswith(PREFIX)]
        for name in list(self._blocks):
            if name not in names:
                del self._blocks[name]
                self.changed = True
        for name in names:
            if name not in self._blocks:
                self._read(name)

    def _read(self, name):
        """The unused bytes of block ``name``, or None if flash lost it; it is then removed."""
        try:
            body = read_record(self._flash, name)
        except CorruptError:
            body = None
        if body is None or len(body) < _HEAD_BYTES:
            self._remove(name)
            return None
        key_id, size = struct.unpack_from(_HEAD, body)
        rest = body[_HEAD_BYTES:]
        if name not in self._blocks:
            self.changed = True
        self._blocks[name] = _Block(key_id, size, len(rest))
        return rest

    def _write(self, name, key_id, size, rest):
        write_record(self._flash, name, struct.pack(_HEAD, key_id, size) + rest)
        self._blocks[name] = _Block(key_id, size, len(rest))

    def _remove(self, name):
        self._flash.remove(name)
        self._blocks.pop(name, None)
        self.changed = True

    def load(self, data, size):
        """Append the blocks in ``data``, each key_ID and ``size`` bytes; returns (loaded, known).

        Raises BoardError("blocks") for half a block, a size this board does not take, or too many.
        """
        each = ID_BYTES + size
        if not LEAST_BLOCK_BYTES <= size <= MOST_BLOCK_BYTES or not data or len(data) % each:
            raise BoardError("blocks", "%d bytes are not whole blocks of %d" % (len(data), size))
        known = [block.key_id for block in self._blocks.values()]
        new = []
        for i in range(0, len(data), each):
            key_id = bytes(data[i : i + ID_BYTES])
            if key_id not in known:
                known.append(key_id)
                new.append((key_id, data[i + ID_BYTES : i + each]))
        if len(self._blocks) + len(new) > MAX_BLOCKS:
            raise BoardError("blocks", "no room for more than %d" % MAX_BLOCKS)
        number = max([int(name[len(PREFIX) :], 16) for name in self._blocks] or [0])
        for key_id, rest in new:
            number += 1
            self._write("%s%08x" % (PREFIX, number), key_id, size, bytes(rest))
            self.changed = True
        return len(new), len(data) // each - len(new)

    def key_ids(self):
        """key_IDs of all blocks, oldest first."""
        return [self._blocks[name].key_id for name in sorted(self._blocks)]

    def left(self):
        """Bytes not yet used, of all blocks."""
        return sum(block.left for block in self._blocks.values())

    def all_held(self):
        """Whether the gateway holds every block."""
        return all(block.key_id in self._held for block in self._blocks.values())

    def confirm(self, held):
        """Take the gateway's word: which blocks it holds and how far each is used, which it will never hold."""
        self._held = {block.key_id for block in held if block.used != BLOCK_GONE}
        used = {block.key_id: block.used for block in held}
        for name in list(self._blocks):
            block = self._blocks[name]
            spent = used.get(block.key_id, 0)
            if spent == BLOCK_GONE:
                self._remove(name)
            elif spent > block.size - block.left:
                # This flash is older than what was sent from it: those bytes must not go out again.
                rest = self._read(name)
                if rest is not None:
                    self._write(name, block.key_id, block.size, rest[len(rest) - max(0, block.size - spent) :])

    def take_alert(self):
        """One-time bytes for an alert, or None: the alert then goes without, at once."""
        return self._take(KEY_BYTES + ALERT_BYTES, 0)

    def take_vector(self, n_bytes):
        """One-time bytes for ``n_bytes`` of sealed vector, or None; the last block's end is left to alerts."""
        return self._take(KEY_BYTES + n_bytes, ALERT_RESERVE)

    def _take(self, n_bytes, reserve):
        usable = [name for name in sorted(self._blocks) if self._blocks[name].key_id in self._held]
        for name in usable:
            block = self._blocks[name]
            if block.left < n_bytes + (reserve if name == usable[-1] else 0):
                continue
            try:
                rest = self._read(name)
                if rest is None or len(rest) != block.left:
                    continue
                self._write(name, block.key_id, block.size, rest[n_bytes:])
            except BoardError:
                return None
            return split(block.key_id, block.size - len(rest), rest[:n_bytes])
        return None

    def drop_spent(self):
        """Forget blocks too short for any frame; for when no frame that used them waits for its acknowledgement."""
        for name in list(self._blocks):
            if self._blocks[name].left < LEAST_BYTES:
                self._remove(name)
