"""Serial protocol between a host and an optical controller: bytes in, events out.

A frame is `COBS(kind u8, sequence u16, payload, crc32 u32) 00`, little-endian, CRC-32 as in zlib. Commands and their
answers are text, events are binary. Every event carries an absolute slot number and every block the slot range it
covers, so that a lost frame is a known gap and never shifts the sift. hardware/bb84/PROTOCOL.md is normative.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.errors import ProtocolError

Slots = npt.NDArray[np.int64]
Nibbles = npt.NDArray[np.uint8]

MAX_PAYLOAD: Final = 4096
"""Longest payload of one frame, bytes; a controller needs two such buffers."""

STATE_GONE: Final = 0xF
"""State nibble of a slot that the transmitter never sent or no longer remembers."""

_KIND_COMMAND, _KIND_REPLY, _KIND_DETECTIONS, _KIND_QUERY, _KIND_STATES = 0x01, 0x02, 0x10, 0x11, 0x12
_HEAD = struct.Struct("<BH")
_CRC = struct.Struct("<I")
_DETECTIONS = struct.Struct("<IQQI")
_QUERY = struct.Struct("<IHQ")
_STATES = struct.Struct("<IHH")
_MAX_FRAME: Final = MAX_PAYLOAD + _HEAD.size + _CRC.size + (MAX_PAYLOAD // 254) + 4
_DETECTION_SKIP: Final = 0x3FFF
_QUERY_SKIP: Final = 0xFFFF
_TEXT = re.compile(rb"[\x20-\x7e]{1,1024}")

QUERY_SLOTS: Final = 1500
"""Most slots one state query asks for, so that the query fits a frame even when some gaps need skip words."""


class SerialProtocolError(ProtocolError):
    """A frame that is damaged or says something the protocol does not know."""


@dataclass(frozen=True, slots=True)
class Command:
    """A text command to a controller: `*IDN?`, `SET name=value`, `START run=...`, `STOP`, `STATUS?`."""

    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The controller's answer to one command: `OK ...` or `ERR code sentence`."""

    text: str


@dataclass(frozen=True, slots=True)
class Detections:
    """All detections of run `run` in slots [first_slot, end_slot).

    `slots` are absolute and not decreasing (two detectors may fire in one slot); `detectors` are 0 H, 1 V, 2 D, 3 A.
    `overflow` counts events that the controller had to drop since the run began.
    """

    run: int
    first_slot: int
    end_slot: int
    overflow: int
    slots: Slots
    detectors: Nibbles


@dataclass(frozen=True, slots=True)
class StateQuery:
    """Ask the transmitter for the states it sent in `slots` (increasing); `tag` returns with the answer."""

    run: int
    tag: int
    slots: Slots


@dataclass(frozen=True, slots=True)
class States:
    """Answer to a `StateQuery`: a nibble a slot: bit 0 value, bit 1 basis, bits 2-3 intensity; 15 is gone."""

    run: int
    tag: int
    states: Nibbles


Message = Command | Reply | Detections | StateQuery | States


@dataclass(frozen=True, slots=True)
class FramesLost:
    """`count` frames are missing before the next message (sequence gap), or one arrived damaged."""

    count: int


@dataclass(frozen=True, slots=True)
class FrameDamaged:
    """Bytes between two delimiters that are no valid frame; `reason` is for the log."""

    reason: str


Event = Message | FramesLost | FrameDamaged


def cobs_encode(data: bytes) -> bytes:
    """Return `data` without zero bytes (Cheshire and Baker 1999), no delimiter. Grows by 1 in 254, at least 1."""
    out = bytearray()
    pieces = data.split(b"\0")
    for piece in pieces:
        start = 0
        while len(piece) - start >= 254:
            out.append(255)
            out += piece[start : start + 254]
            start += 254
        out.append(len(piece) - start + 1)
        out += piece[start:]
    return bytes(out)


def cobs_decode(data: bytes) -> bytes:
    """Invert `cobs_encode`. Raises SerialProtocolError on a zero byte or a code that points past the end."""
    out = bytearray()
    position, end = 0, len(data)
    if end == 0 or 0 in data:
        raise SerialProtocolError("an empty COBS frame or a zero byte inside one")
    while position < end:
        code = data[position]
        following = position + code
        if following > end:
            raise SerialProtocolError("a COBS code that points outside its frame")
        out += data[position + 1 : following]
        if code < 255 and following < end:
            out.append(0)
        position = following
    return bytes(out)


class FrameEncoder:
    """Turns messages into frames and counts the sequence of one direction."""

    def __init__(self) -> None:
        self._sequence = 0

    def encode(self, message: Message) -> bytes:
        """Return the frame of `message`, delimiter included. Raises ValueError when it does not fit."""
        kind, payload = _pack(message)
        if len(payload) > MAX_PAYLOAD:
            raise ValueError(f"a payload of {len(payload)} bytes does not fit a frame of {MAX_PAYLOAD}")
        body = _HEAD.pack(kind, self._sequence) + payload
        self._sequence = (self._sequence + 1) & 0xFFFF
        return cobs_encode(body + _CRC.pack(zlib.crc32(body))) + b"\0"


class FrameDecoder:
    """Bytes in, events out. Damaged frames become events, never exceptions; memory is bounded by one frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._expected: int | None = None
        self._skipping = False
        self.frames_lost = 0
        self.frames_damaged = 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield what `data` completes, in order. All of it is consumed once the iterator is exhausted."""
        self._buffer += data
        while (end := self._buffer.find(0)) >= 0:
            frame = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if self._skipping:
                self._skipping = False
            elif frame:
                yield from self._frame(frame)
        if len(self._buffer) > _MAX_FRAME:
            self._buffer.clear()
            if not self._skipping:
                self._skipping = True
                self.frames_damaged += 1
                yield FrameDamaged("no delimiter within the longest frame")

    def _frame(self, frame: bytes) -> Iterator[Event]:
        try:
            sequence, message = decode_frame(frame)
        except SerialProtocolError as error:
            self.frames_damaged += 1
            yield FrameDamaged(str(error))
            return
        gap = 0 if self._expected is None else (sequence - self._expected) & 0xFFFF
        self._expected = (sequence + 1) & 0xFFFF
        if gap:
            self.frames_lost += gap
            yield FramesLost(gap)
        yield message


def decode_frame(frame: bytes) -> tuple[int, Message]:
    """Return (sequence, message) of one frame without its delimiter. Raises SerialProtocolError, nothing else."""
    if len(frame) > _MAX_FRAME:
        raise SerialProtocolError("a frame longer than the protocol allows")
    body = cobs_decode(frame)
    if len(body) < _HEAD.size + _CRC.size:
        raise SerialProtocolError("a frame shorter than its header")
    body, (crc,) = body[: -_CRC.size], _CRC.unpack(body[-_CRC.size :])
    if zlib.crc32(body) != crc:
        raise SerialProtocolError("a frame whose CRC does not match")
    kind, sequence = _HEAD.unpack_from(body)
    unpack = _UNPACK.get(kind)
    if unpack is None:
        raise SerialProtocolError(f"a frame of unknown kind {kind:#04x}")
    try:
        return sequence, unpack(body[_HEAD.size :])
    except struct.error as error:
        raise SerialProtocolError(f"a payload cut short: {error}") from None


def detections_that_fit(slots: Slots, first_slot: int) -> int:
    """How many of `slots` go in one Detections frame that starts at `first_slot` (skip words counted)."""
    if not len(slots):
        return 0
    gaps = np.diff(slots, prepend=first_slot)
    words = np.cumsum(1 + gaps // _DETECTION_SKIP)
    return int(np.searchsorted(words, (MAX_PAYLOAD - _DETECTIONS.size) // 2, side="right"))


def split_queries(run: int, first_tag: int, slots: Slots) -> Iterator[StateQuery]:
    """Yield queries that cover `slots` in order, each small enough for a frame; tags count up mod 2^16."""
    tag, position = first_tag, 0
    room = (MAX_PAYLOAD - _QUERY.size) // 2
    while position < len(slots):
        part = slots[position : position + QUERY_SLOTS]
        words = np.cumsum(1 + np.diff(part, prepend=part[0]) // _QUERY_SKIP)
        part = part[: max(1, int(np.searchsorted(words, room, side="right")))]
        yield StateQuery(run=run, tag=tag, slots=part)
        position += len(part)
        tag = (tag + 1) & 0xFFFF


def _pack(message: Message) -> tuple[int, bytes]:
    match message:
        case Command(text) | Reply(text):
            encoded = text.encode("ascii")
            if not _TEXT.fullmatch(encoded):
                raise ValueError("a command or reply is 1 to 1,024 printable ASCII characters")
            return (_KIND_COMMAND if isinstance(message, Command) else _KIND_REPLY), encoded
        case Detections():
            head = _DETECTIONS.pack(message.run, message.first_slot, message.end_slot, message.overflow)
            gaps = np.diff(message.slots, prepend=message.first_slot)
            words = _with_skips(gaps, _DETECTION_SKIP, message.detectors.astype(np.int64), 2)
            return _KIND_DETECTIONS, head + words
        case StateQuery():
            first = int(message.slots[0])
            gaps = np.diff(message.slots, prepend=first)
            words = _with_skips(gaps, _QUERY_SKIP, np.zeros(len(gaps), np.int64), 0)
            return _KIND_QUERY, _QUERY.pack(message.run, message.tag, first) + words
        case States():
            padded = np.append(message.states, np.zeros(len(message.states) & 1, np.uint8)).astype(np.uint8)
            packed = (padded[0::2] | padded[1::2] << 4).astype(np.uint8).tobytes()
            return _KIND_STATES, _STATES.pack(message.run, message.tag, len(message.states)) + packed


def _with_skips(gaps: Slots, skip: int, low_bits: Slots, shift: int) -> bytes:
    """Words `gap << shift | low_bits`; a long gap is preceded by words `skip << shift`, worth `skip` slots each."""
    skips = gaps // skip
    words = np.full(len(gaps) + int(skips.sum()), skip << shift, np.int64)
    words[np.cumsum(skips + 1) - 1] = (gaps % skip) << shift | low_bits
    return words.astype("<u2").tobytes()


def _unpack_text(payload: bytes) -> str:
    if not _TEXT.fullmatch(payload):
        raise SerialProtocolError("a text frame that is not 1 to 1,024 printable ASCII characters")
    return payload.decode("ascii")


def _unpack_words(payload: bytes) -> Slots:
    if len(payload) % 2:
        raise SerialProtocolError("event words cut in half")
    return np.frombuffer(payload, "<u2").astype(np.int64)


def _unpack_detections(payload: bytes) -> Detections:
    run, first_slot, end_slot, overflow = _DETECTIONS.unpack_from(payload)
    if first_slot > end_slot or end_slot >= 1 << 62:
        raise SerialProtocolError("detections whose slot range is not a range")
    words = _unpack_words(payload[_DETECTIONS.size :])
    slots = first_slot + np.cumsum(words >> 2)
    events = (words >> 2) != _DETECTION_SKIP
    slots, detectors = slots[events], (words & 3)[events].astype(np.uint8)
    if len(slots) and slots[-1] >= end_slot:
        raise SerialProtocolError("a detection outside the slot range of its block")
    return Detections(run, first_slot, end_slot, overflow, slots, detectors)


def _unpack_query(payload: bytes) -> StateQuery:
    run, tag, first_slot = _QUERY.unpack_from(payload)
    words = _unpack_words(payload[_QUERY.size :])
    if first_slot >= 1 << 62:
        raise SerialProtocolError("a state query beyond the last slot")
    slots = (first_slot + np.cumsum(words))[words != _QUERY_SKIP]
    if not len(slots):
        raise SerialProtocolError("a state query for no slot")
    return StateQuery(run, tag, slots)


def _unpack_states(payload: bytes) -> States:
    run, tag, count = _STATES.unpack_from(payload)
    packed = np.frombuffer(payload[_STATES.size :], np.uint8)
    if len(packed) != (count + 1) // 2:
        raise SerialProtocolError("a state answer whose length does not match its count")
    states = np.empty(2 * len(packed), np.uint8)
    states[0::2], states[1::2] = packed & 15, packed >> 4
    return States(run, tag, states[:count])


_UNPACK: dict[int, Callable[[bytes], Message]] = {
    _KIND_COMMAND: lambda payload: Command(_unpack_text(payload)),
    _KIND_REPLY: lambda payload: Reply(_unpack_text(payload)),
    _KIND_DETECTIONS: _unpack_detections,
    _KIND_QUERY: _unpack_query,
    _KIND_STATES: _unpack_states,
}
