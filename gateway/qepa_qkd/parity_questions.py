"""What Bob asks to correct errors, and its bytes, little-endian.

    opening     0 u8, target u64
    divisions   1 u8, levels u8, width u8, then differences of `width` bytes (1, 2 or 4): the first segment, and from
                each to the next less one
    subsets     2 u8, count u8, then subsets u8, starts u32, ends u32
    syndrome    3 u8, count u32, then frames u16

Most questions of a large block name one segment in few, so a byte or two each is enough where it matters.
"""

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.errors import ProtocolError

Bits = npt.NDArray[np.uint8]
Segments = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]

MOST_DIVISIONS: Final = 1 << 22
_KINDS: Final[dict[int, np.dtype[Any]]] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 4: np.dtype("<u4")}


@dataclass(frozen=True, slots=True)
class Opening:
    """Open the next pass; Alice tells the parity of each block, but of the last one of a later pass.

    `target` is the expected number of errors in a block, in units of 2^-30; the first pass goes by the error rate.
    """

    target: int


@dataclass(frozen=True, slots=True)
class Divisions:
    """Divide segments `levels` times over; Alice tells the parity of the left part of each division.

    `segments` rise. One that cannot be divided is passed over.
    """

    levels: int
    segments: Segments


@dataclass(frozen=True, slots=True)
class SubsetRanges:
    """Parities of the members of random `subsets` among the bits [starts, ends)."""

    subsets: Bits
    starts: Indices
    ends: Indices


@dataclass(frozen=True, slots=True)
class SyndromeBits:
    """LDPC: the next `count` parities of each of the rising `frames`."""

    frames: npt.NDArray[np.uint16]
    count: int


Question = Opening | Divisions | SubsetRanges | SyndromeBits


def encode_question(question: Question) -> bytes:
    """Return the bytes of `question`."""
    match question:
        case Opening(target):
            return struct.pack("<BQ", 0, target)
        case Divisions(levels, segments):
            gaps = np.diff(segments, prepend=-1) - 1
            most = int(gaps.max(initial=0))
            width = 1 if most < 1 << 8 else 2 if most < 1 << 16 else 4
            return struct.pack("<BBB", 1, levels, width) + gaps.astype(_KINDS[width]).tobytes()
        case SubsetRanges(subsets, starts, ends):
            head = struct.pack("<BB", 2, len(subsets))
            return head + subsets.tobytes() + starts.astype("<u4").tobytes() + ends.astype("<u4").tobytes()
        case SyndromeBits(frames, count):
            return struct.pack("<BI", 3, count) + frames.astype("<u2").tobytes()


def decode_question(data: bytes) -> Question:
    """Return the question in `data`. Raises ProtocolError; whether it can be answered is the reference's to say."""
    try:
        return _decode(data)
    except (struct.error, ValueError):
        raise ProtocolError("a parity request cut short") from None


def _decode(data: bytes) -> Question:
    kind, rest = data[:1], data[1:]
    if kind == b"\0":
        return Opening(*struct.unpack("<Q", rest))
    if kind == b"\1":
        return _divisions(rest)
    if kind == b"\2":
        (count,) = struct.unpack_from("<B", rest)
        if len(rest) != 1 + 9 * count:
            raise ProtocolError("a parity request cut short")
        starts = np.frombuffer(rest, "<u4", count, 1 + count).astype(np.int64)
        ends = np.frombuffer(rest, "<u4", count, 1 + 5 * count).astype(np.int64)
        return SubsetRanges(np.frombuffer(rest, np.uint8, count, 1), starts, ends)
    if kind == b"\3":
        return SyndromeBits(np.frombuffer(rest, "<u2", offset=4).astype(np.uint16), *struct.unpack_from("<I", rest))
    raise ProtocolError("a parity request of unknown kind")


def _divisions(data: bytes) -> Divisions:
    levels, width = struct.unpack_from("<BB", data)
    if width not in _KINDS or len(data) > 4 * MOST_DIVISIONS:
        raise ProtocolError("a parity request that makes no sense")
    gaps = np.frombuffer(data, _KINDS[width], offset=2).astype(np.int64)
    names = np.cumsum(gaps + 1) - 1
    if len(names) and names[-1] > np.iinfo(np.int32).max:
        raise ProtocolError("a parity request outside any block")
    return Divisions(levels, names.astype(np.int32))
