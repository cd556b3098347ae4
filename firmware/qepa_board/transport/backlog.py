"""Care records of the time without a connection: kept in flash, forwarded after it, gone with their consent.

What is kept is sealed under the care key already, and sealed anew when it goes out, under a number of that moment: a
gateway refuses numbers far below the newest. A record stays until it is acknowledged, so a lost connection or a power
cut may send it twice; boot and time in it tell which one it is. Records of an earlier boot are forwarded like others:
their ``t_ms`` counts from that boot, and only who heard that boot can say when it was.
"""

from qepa_wire.errors import WireError
from qepa_wire.payloads import ID_BYTES, encode_care, reseal_care

from .ring import Ring

EVERY_MS = 10000  # one record in ten
AFTER_MS = 3000  # a new connection first shows what is now
PACE_MS = 100
AGAIN_MS = 20000  # an acknowledgement that has not come by then will not
TRIES = 4  # on one connection; a gateway that acknowledges nothing must not be sent the same for ever
ORPHAN_MS = 60000  # a connected gateway that does not grant again within this has no consent any more
_SEQ_BYTES = 4


class CareBacklog:
    """Milliseconds are those of one monotonic clock. Raises BoardError("flash") where flash refuses to forget."""

    def __init__(self, board, counters, flash):
        self._board = board
        self._counters = counters
        self._ring = Ring(flash)
        self._key = None
        self._consent_id = None
        self._had_consent = False
        self._orphan_ms = None
        self._kept_ms = None
        self._due_ms = 0
        self._paced_ms = 0
        self._sending = []  # records of the oldest segment that have not gone out
        self._unsure = {}  # seq: record that has gone out and is not acknowledged
        self._tries = 0

    def __len__(self):
        return len(self._ring)

    @property
    def dropped(self):
        """Records that are lost: pushed out by newer ones, or no room in flash."""
        return self._ring.dropped

    def consent(self, key, consent_id, now_ms, is_connected):
        """Say once a second which consent is in force, None and None without one: its end is the end of the backlog."""
        if consent_id is None:
            self._key = None
            if self._had_consent:
                self._forget()
            elif not is_connected or not len(self._ring):
                self._orphan_ms = None
            elif self._orphan_ms is None:
                self._orphan_ms = now_ms + ORPHAN_MS
            elif now_ms >= self._orphan_ms:
                self._forget()
        elif consent_id != self._consent_id:
            if self._had_consent:
                self._forget()
            self._had_consent = True
            self._key = key
            self._consent_id = consent_id
        else:
            self._key = key

    def _forget(self):
        self._had_consent = False
        self._consent_id = None
        self._key = None
        self._orphan_ms = None
        self._sending = []
        self._unsure = {}
        self._ring.clear()

    def wants(self, now_ms):
        """Whether keep() is due."""
        return self._key is not None and (self._kept_ms is None or now_ms - self._kept_ms >= EVERY_MS)

    def keep(self, care, now_ms):
        """Keep ``care`` for later."""
        seq = self._counters.next_seq()
        self._kept_ms = now_ms
        self._ring.put(
            seq.to_bytes(_SEQ_BYTES, "little") + encode_care(self._key, self._consent_id, self._board, seq, care)
        )

    def connected(self, now_ms):
        """A new connection stands: what was on the way when the last one fell is sent again."""
        self._sending = []
        self._unsure = {}
        self._tries = 0
        self._due_ms = now_ms + AFTER_MS

    def next(self, now_ms):
        """(seq, payload) of a care frame to send now, or None; at most one in PACE_MS, so that nothing else waits."""
        if self._key is None or now_ms < self._due_ms:
            return None
        while True:
            if not self._sending and not self._refill():
                return None
            record = self._sending.pop(0)
            seq = self._counters.next_seq()
            payload = self._resealed(record, seq)
            if payload is None:
                self._settle()
                continue
            self._unsure[seq] = record
            self._paced_ms = now_ms + PACE_MS
            self._due_ms = self._paced_ms if self._sending else now_ms + AGAIN_MS
            return seq, payload

    def _refill(self):
        """Whether there is something to send now."""
        if self._unsure and self._tries < TRIES:
            self._sending = list(self._unsure.values())
            self._unsure = {}
            self._tries += 1
            return True
        if self._unsure:
            self._ring.dropped += len(self._unsure)
            self._unsure = {}
            self._settle()
        self._tries = 1
        self._sending = self._ring.head()
        return len(self._sending) > 0

    def _resealed(self, record, seq):
        """The payload of ``record`` for frame ``seq``, or None if it belongs to another consent."""
        payload = record[_SEQ_BYTES:]
        if payload[:ID_BYTES] != self._consent_id:
            return None
        try:
            return reseal_care(self._key, self._board, int.from_bytes(record[:_SEQ_BYTES], "little"), payload, seq)
        except WireError:
            return None

    def acknowledge(self, seq):
        """The gateway holds frame ``seq``."""
        if self._unsure.pop(seq, None) is not None:
            self._settle()
            if not self._sending and not self._unsure:
                self._due_ms = self._paced_ms

    def _settle(self):
        if not self._sending and not self._unsure and len(self._ring):
            self._ring.drop_head()
