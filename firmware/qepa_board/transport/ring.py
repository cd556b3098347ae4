"""A bounded ring of records in flash: the newest are kept, the oldest dropped and counted.

A segment is one file of up to SEGMENT_RECORDS records, replaced as a whole under a checksum: a power cut leaves it old
or new, and costs at most the PENDING records that are still in memory.

Size: SEGMENTS blocks of 4 kB are 72 kB, for SEGMENTS x SEGMENT_RECORDS = 540 records: 90 minutes at one in 10 s.
Wear: PENDING records a write are one write a minute, 1440 a day if the connection never came back, each about two
erases of 4 kB (data, and the directory's share of it). LittleFS spreads them over the free blocks: with 200 of them
(half of a 2 MB partition's are taken) a block sees 15 erases a day, so its rated 100,000 last 18 years.
"""

from qepa_wire.errors import WireError

from ..errors import BoardError, CorruptError
from ..system.flash import read_record, write_record

PREFIX = "ring-"
SEGMENTS = 18
SEGMENT_RECORDS = 30
PENDING = 6
MAX_RECORD = 128  # so that a segment fits a block


class Ring:
    """Records, oldest first; none is altered when it comes back.

    ``dropped`` counts records that had to give way or found no room, ``corrupt`` segments that flash lost.
    """

    def __init__(self, flash):
        self._flash = flash
        self._segments = []  # [number, records], oldest first; the last one may grow while _open
        self._open = False
        self._pending = []
        self.dropped = 0
        self.corrupt = 0
        for name in flash.names():
            if name.startswith(PREFIX):
                self._recover(name)

    def _recover(self, name):
        try:
            records = _split(read_record(self._flash, name))
            self._segments.append([int(name[len(PREFIX) :], 16), len(records)])
        except (CorruptError, WireError, ValueError):
            self.corrupt += 1
            self._flash.remove(name)

    def __len__(self):
        return sum([count for _, count in self._segments]) + len(self._pending)

    def put(self, record):
        """Keep ``record`` (1 to MAX_RECORD bytes). It is durable once PENDING of them have come."""
        if not 0 < len(record) <= MAX_RECORD:
            raise BoardError("ring", "a record of %d bytes" % len(record))
        if len(self._pending) >= SEGMENT_RECORDS:  # flash has refused to forget for long
            self._pending.pop(0)
            self.dropped += 1
        self._pending.append(bytes(record))
        if len(self._pending) >= PENDING:
            self.flush()

    def flush(self):
        """Write what is pending; where flash has no room, the oldest segment gives way, else what is pending."""
        while self._pending:
            if not self._open or self._segments[-1][1] + len(self._pending) > SEGMENT_RECORDS:
                self._begin()
            segment = self._segments[-1]
            try:
                before = read_record(self._flash, _name(segment[0])) or b""
            except CorruptError:
                self.corrupt += 1
                segment[1] = 0
                before = b""
            try:
                write_record(self._flash, _name(segment[0]), before + _join(self._pending))
            except BoardError:
                if len(self._segments) == 1:
                    self.dropped += len(self._pending)
                    self._pending = []
                    if not segment[1]:
                        self._segments = []
                        self._open = False
                    return
                self._drop_oldest()
                continue
            segment[1] += len(self._pending)
            self._pending = []

    def _begin(self):
        number = self._segments[-1][0] + 1 if self._segments else 0
        while len(self._segments) >= SEGMENTS:
            self._drop_oldest()
        self._segments.append([number, 0])
        self._open = True

    def _drop_oldest(self):
        self.dropped += self._segments[0][1]
        self.drop_head()

    def head(self):
        """Records of the oldest segment, [] if there is nothing. It is closed: what comes later goes elsewhere."""
        while True:
            if not self._segments:
                self.flush()
            if not self._segments:
                return []
            if len(self._segments) == 1:
                self._open = False
            try:
                records = _split(read_record(self._flash, _name(self._segments[0][0])))
                if records:
                    return records
            except (CorruptError, WireError):
                self.corrupt += 1
            self.drop_head()

    def drop_head(self):
        """Forget the oldest segment."""
        number, _ = self._segments.pop(0)
        if not self._segments:
            self._open = False
        self._flash.remove(_name(number))

    def clear(self):
        """Forget everything."""
        self._pending = []
        while self._segments:
            self.drop_head()


def _name(number):
    return "%s%08x" % (PREFIX, number)


def _join(records):
    return b"".join([bytes([len(record)]) + record for record in records])


def _split(body):
    """The records in a segment's ``body``; raises WireError("truncated") if it does not end with one."""
    records = []
    at = 0
    body = body or b""
    while at < len(body):
        end = at + 1 + body[at]
        if end > len(body):
            raise WireError("truncated", "a segment of %d bytes" % len(body))
        records.append(body[at + 1 : end])
        at = end
    return records
