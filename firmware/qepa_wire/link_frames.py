"""Frames on the serial line between an optical controller and its host; hardware/bb84/PROTOCOL.md is normative.

`COBS(kind u8, sequence u16, payload, crc32 u32) 00`, little-endian. The same code runs in the controllers, on
MicroPython, and in their hosts. What a peer sends wrong is counted and told, never raised.
"""

import struct
from binascii import crc32

from . import cobs
from .errors import WireError

try:
    from collections.abc import Callable
except ImportError:  # MicroPython: the annotation stays a string
    pass

PROTOCOL_VERSION = 1
MAX_PAYLOAD = 4096  # of one frame, bytes; a controller needs two such buffers

COMMAND, REPLY = 0x01, 0x02
DETECTIONS, STATE_QUERY, STATES, TIME_TAGS = 0x10, 0x11, 0x12, 0x13
KINDS = (
    # kind, name, direction, payload
    (COMMAND, "command", "to controller", "1 to 1,024 characters of printable ASCII"),
    (REPLY, "reply", "to host", "the same; `OK`, `OK text` or `ERR number sentence`"),
    (
        DETECTIONS,
        "detections",
        "receiver to host",
        "`run u32, first_slot u64, end_slot u64, overflow u32, words u16[]`",
    ),
    (STATE_QUERY, "state query", "host to transmitter", "`run u32, tag u16, first_slot u64, words u16[]`"),
    (STATES, "states", "transmitter to host", "`run u32, tag u16, count u16, nibbles`"),
    (
        TIME_TAGS,
        "time tags",
        "receiver to host",
        "`run u32, first_tick u64, end_tick u64, overflow u32, tick_ps u32, words u16[]`",
    ),
)

DETECTIONS_HEAD = "<IQQI"
STATE_QUERY_HEAD = "<IHQ"
STATES_HEAD = "<IHH"
TIME_TAGS_HEAD = "<IQQII"

DETECTION_SKIP = 0x3FFF  # a word is gap << 2 | detector; this gap is so many slots and no event
QUERY_SKIP = 0xFFFF  # a word is a gap; this one is so many slots and no question
TAG_SKIP = 0x1FFF  # a word is gap << 3 | channel; this gap is so many ticks and no event
SYNC_CHANNEL = 4  # channels 0 to 3 are the detectors H, V, D, A
STATE_GONE = 0xF  # nibble of a slot that the transmitter never sent or no longer remembers
LARGEST_TIME = 1 << 62  # slots and ticks stay below

LOST, DAMAGED = -1, -2  # what FrameReader tells besides kinds

_HEAD = "<BH"
_OVERHEAD = 7  # head and CRC
MAX_FRAME = MAX_PAYLOAD + _OVERHEAD + MAX_PAYLOAD // 254 + 4


class FrameWriter:
    """Makes frames and counts the sequence of one direction; `encode` does COBS, natively where that is possible."""

    def __init__(self, encode: "Callable[[bytes], bytes]" = cobs.encode) -> None:
        self._encode = encode
        self._sequence = 0

    def frame(self, kind: int, payload: bytes) -> bytes:
        """Return the next frame, delimiter included. Raises WireError with reason length."""
        if len(payload) > MAX_PAYLOAD:
            raise WireError("length", "a payload of %d bytes does not fit a frame of %d" % (len(payload), MAX_PAYLOAD))
        body = struct.pack(_HEAD, kind, self._sequence) + payload
        self._sequence = (self._sequence + 1) & 0xFFFF
        return self._encode(body + struct.pack("<I", crc32(body))) + b"\0"


class FrameReader:
    """Takes bytes in pieces of any size and gives frames; memory is bounded by one frame. `decode` undoes COBS."""

    def __init__(self, decode: "Callable[[bytes], bytes]" = cobs.decode) -> None:
        self._decode = decode
        self._partial = b""
        self._expected = -1  # no frame yet: the first one sets the count
        self._skipping = False
        self.frames_lost = 0
        self.frames_damaged = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes, int]]:
        """Return what ``data`` completes, in order.

        A frame is (kind, payload, 0), kinds unknown here included. Frames known to be missing before the next one are
        (LOST, b"", how many). Bytes between two delimiters that are no frame are (DAMAGED, reason, 1).
        """
        events: list[tuple[int, bytes, int]] = []
        start = 0
        while True:
            end = data.find(b"\0", start)
            self._keep(data[start : end if end >= 0 else len(data)], events)
            if end < 0:
                return events
            frame, self._partial = self._partial, b""
            if self._skipping:
                self._skipping = False
            elif frame:
                self._frame(frame, events)
            start = end + 1

    def _keep(self, piece: bytes, events: list[tuple[int, bytes, int]]) -> None:
        if self._skipping:
            return
        if len(self._partial) + len(piece) > MAX_FRAME:
            self._partial = b""
            self._skipping = True
            self.frames_damaged += 1
            events.append((DAMAGED, b"no delimiter within the longest frame", 1))
        else:
            self._partial += piece

    def _frame(self, frame: bytes, events: list[tuple[int, bytes, int]]) -> None:
        try:
            kind, sequence, payload = parse(frame, self._decode)
        except WireError as error:
            self.frames_damaged += 1
            events.append((DAMAGED, str(error).encode(), 1))
            return
        gap = 0 if self._expected < 0 else (sequence - self._expected) & 0xFFFF
        self._expected = (sequence + 1) & 0xFFFF
        if gap:
            self.frames_lost += gap
            events.append((LOST, b"", gap))
        events.append((kind, payload, 0))


def parse(frame: bytes, decode: "Callable[[bytes], bytes]" = cobs.decode) -> tuple[int, int, bytes]:
    """Return (kind, sequence, payload) of one frame without its delimiter.

    Raises WireError with reason length, cobs or crc, and nothing else.
    """
    if len(frame) > MAX_FRAME:
        raise WireError("length", "a frame longer than the protocol allows")
    body = decode(frame)
    if len(body) < _OVERHEAD:
        raise WireError("length", "a frame shorter than its header")
    if crc32(body[:-4]) != struct.unpack("<I", body[-4:])[0]:
        raise WireError("crc", "a frame whose CRC does not match")
    kind, sequence = struct.unpack_from(_HEAD, body)
    return kind, sequence, body[3:-4]
