"""Serial protocol between a host and an optical controller: bytes in, events out.

A frame is `COBS(kind u8, sequence u16, payload, crc32 u32) 00`, little-endian, CRC-32 as in zlib. Commands and their
answers are text, events are binary. Every event carries an absolute slot number and every block the slot range it
covers, so that a lost frame is a known gap and never shifts the sift. hardware/bb84/PROTOCOL.md is normative.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from qepa_qkd import cobs_compiled
from qepa_qkd.errors import ProtocolError
from qepa_wire import link_frames as frames
from qepa_wire.errors import WireError

Slots = npt.NDArray[np.int64]
Nibbles = npt.NDArray[np.uint8]

MAX_PAYLOAD: Final = frames.MAX_PAYLOAD
"""Longest payload of one frame, bytes."""
STATE_GONE: Final = frames.STATE_GONE
"""State nibble of a slot that the transmitter never sent or no longer remembers."""
SYNC_CHANNEL: Final = frames.SYNC_CHANNEL
"""Channel of a time tag that is a sync pulse; 0 to 3 are the detectors H, V, D, A."""

_DETECTIONS = struct.Struct(frames.DETECTIONS_HEAD)
_QUERY = struct.Struct(frames.STATE_QUERY_HEAD)
_STATES = struct.Struct(frames.STATES_HEAD)
_TIME_TAGS = struct.Struct(frames.TIME_TAGS_HEAD)
_LARGEST_TICK_PS: Final = 10**6
_LARGEST_PS: Final = (1 << 63) - 1
_TEXT = re.compile(rb"[\x20-\x7e]{1,1024}")

QUERY_SLOTS: Final = 1500
"""Most slots one state query asks for, so that the query fits a frame even when some gaps need skip words."""


class SerialProtocolError(ProtocolError):
    """A frame that is damaged or says something the protocol does not know."""


@dataclass(frozen=True, slots=True)
class Command:
    """A text command to a controller; qepa_wire.link_commands has them all."""

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


@dataclass(frozen=True, slots=True)
class TimeTags:
    """Everything that run `run`'s tagger saw in [first_ps, end_ps): times in picoseconds on its own clock, since START.

    `times_ps` do not decrease; `channels` are 0 H, 1 V, 2 D, 3 A, 4 sync. `tick_ps` is the resolution, and all times
    are multiples of it. `overflow` counts events that were dropped since the run began.
    """

    run: int
    first_ps: int
    end_ps: int
    overflow: int
    tick_ps: int
    times_ps: Slots
    channels: Nibbles


Message = Command | Reply | Detections | StateQuery | States | TimeTags


@dataclass(frozen=True, slots=True)
class FramesLost:
    """`count` frames are missing before the next message (sequence gap), or one arrived damaged."""

    count: int


@dataclass(frozen=True, slots=True)
class FrameDamaged:
    """Bytes between two delimiters that are no valid frame; `reason` is for the log."""

    reason: str


Event = Message | FramesLost | FrameDamaged


class FrameEncoder:
    """Turns messages into frames and counts the sequence of one direction."""

    def __init__(self) -> None:
        self._writer = frames.FrameWriter(cobs_compiled.encode)

    def encode(self, message: Message) -> bytes:
        """Return the frame of `message`, delimiter included. Raises ValueError when it does not fit."""
        kind, payload = encode_message(message)
        try:
            return self._writer.frame(kind, payload)
        except WireError as error:
            raise ValueError(str(error)) from None


class FrameDecoder:
    """Bytes in, events out. Damaged frames become events, never exceptions; memory is bounded by one frame."""

    def __init__(self) -> None:
        self._reader = frames.FrameReader(cobs_compiled.decode)
        self._payloads_damaged = 0

    @property
    def frames_lost(self) -> int:
        """Frames missing by their sequence numbers."""
        return self._reader.frames_lost

    @property
    def frames_damaged(self) -> int:
        """Frames that arrived and could not be read."""
        return self._reader.frames_damaged + self._payloads_damaged

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield what `data` completes, in order. All of it is consumed at once."""
        for kind, payload, count in self._reader.feed(data):
            if kind == frames.LOST:
                yield FramesLost(count)
            elif kind == frames.DAMAGED:
                yield FrameDamaged(payload.decode())
            else:
                try:
                    yield decode_message(kind, payload)
                except SerialProtocolError as error:
                    self._payloads_damaged += 1
                    yield FrameDamaged(str(error))


def decode_message(kind: int, payload: bytes) -> Message:
    """Return the message of one frame's payload. Raises SerialProtocolError, nothing else."""
    unpack = _UNPACK.get(kind)
    if unpack is None:
        raise SerialProtocolError(f"a frame of unknown kind {kind:#04x}")
    try:
        return unpack(payload)
    except struct.error as error:
        raise SerialProtocolError(f"a payload cut short: {error}") from None


def detections_that_fit(slots: Slots, first_slot: int) -> int:
    """How many of `slots` go in one Detections frame that starts at `first_slot` (skip words counted)."""
    return _events_that_fit(slots, first_slot, frames.DETECTION_SKIP, _DETECTIONS.size)


def tags_that_fit(times_ps: Slots, first_ps: int, tick_ps: int) -> int:
    """How many of `times_ps` go in one TimeTags frame that starts at `first_ps`."""
    return _events_that_fit(times_ps // tick_ps, first_ps // tick_ps, frames.TAG_SKIP, _TIME_TAGS.size)


def _events_that_fit(times: Slots, first: int, skip: int, head: int) -> int:
    room = (MAX_PAYLOAD - head) // 2
    words = np.cumsum(1 + np.diff(times[: room + 1], prepend=first) // skip)
    return int(np.searchsorted(words, room, side="right"))


def split_queries(run: int, first_tag: int, slots: Slots) -> Iterator[StateQuery]:
    """Yield queries that cover `slots` in order, each small enough for a frame; tags count up mod 2^16."""
    tag, position = first_tag, 0
    room = (MAX_PAYLOAD - _QUERY.size) // 2
    while position < len(slots):
        part = slots[position : position + QUERY_SLOTS]
        words = np.cumsum(1 + np.diff(part, prepend=part[0]) // frames.QUERY_SKIP)
        part = part[: max(1, int(np.searchsorted(words, room, side="right")))]
        yield StateQuery(run=run, tag=tag, slots=part)
        position += len(part)
        tag = (tag + 1) & 0xFFFF


def encode_message(message: Message) -> tuple[int, bytes]:
    """Return (kind, payload). Raises ValueError on text that is no text."""
    match message:
        case Command(text) | Reply(text):
            encoded = text.encode("ascii")
            if not _TEXT.fullmatch(encoded):
                raise ValueError("a command or reply is 1 to 1,024 printable ASCII characters")
            return (frames.COMMAND if isinstance(message, Command) else frames.REPLY), encoded
        case Detections():
            head = _DETECTIONS.pack(message.run, message.first_slot, message.end_slot, message.overflow)
            gaps = np.diff(message.slots, prepend=message.first_slot)
            words = _with_skips(gaps, frames.DETECTION_SKIP, message.detectors.astype(np.int64), 2)
            return frames.DETECTIONS, head + words
        case TimeTags():
            tick_ps = message.tick_ps
            first, end = message.first_ps // tick_ps, message.end_ps // tick_ps
            head = _TIME_TAGS.pack(message.run, first, end, message.overflow, tick_ps)
            gaps = np.diff(message.times_ps // tick_ps, prepend=first)
            return frames.TIME_TAGS, head + _with_skips(gaps, frames.TAG_SKIP, message.channels.astype(np.int64), 3)
        case StateQuery():
            first = int(message.slots[0])
            gaps = np.diff(message.slots, prepend=first)
            words = _with_skips(gaps, frames.QUERY_SKIP, np.zeros(len(gaps), np.int64), 0)
            return frames.STATE_QUERY, _QUERY.pack(message.run, message.tag, first) + words
        case States():
            padded = np.append(message.states, np.zeros(len(message.states) & 1, np.uint8)).astype(np.uint8)
            packed = (padded[0::2] | padded[1::2] << 4).astype(np.uint8).tobytes()
            return frames.STATES, _STATES.pack(message.run, message.tag, len(message.states)) + packed


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
    if first_slot > end_slot or end_slot >= frames.LARGEST_TIME:
        raise SerialProtocolError("detections whose slot range is not a range")
    words = _unpack_words(payload[_DETECTIONS.size :])
    slots = first_slot + np.cumsum(words >> 2)
    events = (words >> 2) != frames.DETECTION_SKIP
    slots, detectors = slots[events], (words & 3)[events].astype(np.uint8)
    if len(slots) and slots[-1] >= end_slot:
        raise SerialProtocolError("a detection outside the slot range of its block")
    return Detections(run, first_slot, end_slot, overflow, slots, detectors)


def _unpack_time_tags(payload: bytes) -> TimeTags:
    run, first, end, overflow, tick_ps = _TIME_TAGS.unpack_from(payload)
    if not 1 <= tick_ps <= _LARGEST_TICK_PS or first > end or end * tick_ps > _LARGEST_PS:
        raise SerialProtocolError("time tags whose time range is not a range")
    words = _unpack_words(payload[_TIME_TAGS.size :])
    ticks = first + np.cumsum(words >> 3)
    events = (words >> 3) != frames.TAG_SKIP
    ticks, channels = ticks[events], (words & 7)[events].astype(np.uint8)
    if len(ticks) and (ticks[-1] >= end or channels.max() > SYNC_CHANNEL):
        raise SerialProtocolError("a time tag outside the range of its block, or of no channel")
    return TimeTags(run, first * tick_ps, end * tick_ps, overflow, tick_ps, ticks * tick_ps, channels)


def _unpack_query(payload: bytes) -> StateQuery:
    run, tag, first_slot = _QUERY.unpack_from(payload)
    words = _unpack_words(payload[_QUERY.size :])
    if first_slot >= frames.LARGEST_TIME:
        raise SerialProtocolError("a state query beyond the last slot")
    slots = (first_slot + np.cumsum(words))[words != frames.QUERY_SKIP]
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
    frames.COMMAND: lambda payload: Command(_unpack_text(payload)),
    frames.REPLY: lambda payload: Reply(_unpack_text(payload)),
    frames.DETECTIONS: _unpack_detections,
    frames.STATE_QUERY: _unpack_query,
    frames.STATES: _unpack_states,
    frames.TIME_TAGS: _unpack_time_tags,
}
