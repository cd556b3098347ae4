"""Messages of the authenticated classical channel: frozen values and their bytes, little-endian.

`encode(message)` and `decode(data)` are inverse. `decode` raises ProtocolError and nothing else.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from qepa_qkd.errors import ProtocolError
from qepa_qkd.parity_questions import Question, decode_question, encode_question
from qepa_qkd.serial_protocol import Nibbles, Slots
from qepa_qkd.sifting import LAST_VERDICT

Bits = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

MAX_MESSAGE: Final = 4 << 20
_MOST_EVENTS: Final = 1 << 20
_MOST_PARITIES: Final = 1 << 24
_SKIP: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class PadPosition:
    """How far one segment of authentication key is spent: next pad to send with, next pad to check with."""

    segment: int
    send: int
    receive: int


@dataclass(frozen=True, slots=True)
class Hello:
    """First message each way: do the settings agree, which pads are spent, which blocks are not settled."""

    settings_digest: bytes
    software: str
    pads: tuple[PadPosition, ...]
    pending: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Settle:
    """Of the blocks the peer called pending, those this side has."""

    have: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RunStart:
    """Alice is about to send pulses under run number `run`; Bob arms his receiver."""

    run: int


@dataclass(frozen=True, slots=True)
class RunReady:
    """Bob's receiver waits for the first pulse of `run`."""

    run: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Alice has stopped the transmitter; `reason` is what screens show."""

    reason: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Detections with their symbols that no block will hold: from them Alice finds which slot is which."""

    run: int
    slots: Slots
    symbols: Nibbles


@dataclass(frozen=True, slots=True)
class Aligned:
    """Alice knows which of her slots are Bob's: blocks of `run` may begin."""

    run: int


@dataclass(frozen=True, slots=True)
class Report:
    """Where Bob detected something, slots increasing: batch `batch` of block `block`, counted from 0. No bases yet."""

    run: int
    block: int
    batch: int
    slots: Slots


@dataclass(frozen=True, slots=True)
class Bases:
    """What Bob says of a batch's detections once its block is closed; see `sifting.report_symbols`."""

    block: int
    batch: int
    symbols: Nibbles


@dataclass(frozen=True, slots=True)
class Sift:
    """Alice's verdicts on a batch whose bases she knows."""

    block: int
    batch: int
    verdicts: Nibbles


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Alice opens error correction of a closed block: its identifier, the public order of bits, the error rate."""

    block: int
    block_id: int
    seed: bytes
    error_rate: float


@dataclass(frozen=True, slots=True)
class ParityRequest:
    """Bob asks for parities."""

    block: int
    question: Question


@dataclass(frozen=True, slots=True)
class ParityReply:
    """Alice's answer, one bit a parity."""

    block: int
    parities: Bits


@dataclass(frozen=True, slots=True)
class Corrected:
    """Bob is done: bits he changed, by intensity, and parities he was told."""

    block: int
    errors: tuple[int, int, int]
    leak_bits: int


@dataclass(frozen=True, slots=True)
class Verify:
    """Alice's hash of her bits under a key drawn just now."""

    block: int
    key: bytes
    tag: bytes


@dataclass(frozen=True, slots=True)
class Verified:
    """Bob has the same hash."""

    block: int


@dataclass(frozen=True, slots=True)
class Amplify:
    """Key length, how much of it renews authentication, and the fresh Toeplitz seed."""

    block: int
    key_bits: int
    authentication_bytes: int
    seed: bytes


@dataclass(frozen=True, slots=True)
class Tag:
    """Wegman-Carter tag over all the sender said about the block, and the pad it used."""

    block: int
    segment: int
    position: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """Alice has the block durably; it is live at both ends."""

    block: int


@dataclass(frozen=True, slots=True)
class Abort:
    """The block ends without key; `reason` is what screens show."""

    block: int
    reason: str


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing to say."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The connection makes no sense as configured; `reason` says why."""

    reason: str


Message = (
    Hello | Settle | RunStart | RunReady | Pause | Sample | Aligned | Report | Bases | Sift | Reconcile
    | ParityRequest | ParityReply | Corrected | Verify | Verified | Amplify | Tag | Stored | Abort | KeepAlive | Refuse
)  # fmt: skip


class _Reader:
    """Cuts fields off the front of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, count: int) -> bytes:
        part = self._data[self._position : self._position + count]
        if len(part) != count:
            raise ProtocolError("a classical message cut short")
        self._position += count
        return part

    def fields(self, layout: str) -> tuple[Any, ...]:
        packed = struct.Struct("<" + layout)
        return packed.unpack(self.take(packed.size))

    def number(self, layout: str = "I") -> int:
        return int(self.fields(layout)[0])

    def count(self, most: int) -> int:
        value = self.number()
        if value > most:
            raise ProtocolError("a classical message that counts more than it may")
        return value

    def text(self) -> str:
        raw = self.take(self.number("H"))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ProtocolError("a classical message with text that is not UTF-8") from None

    def numbers(self, count: int, kind: str) -> Indices:
        return np.frombuffer(self.take(count * np.dtype(kind).itemsize), kind).astype(np.int64)

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._position)

    def end(self) -> None:
        if self._position != len(self._data):
            raise ProtocolError("a classical message with bytes left over")


def encode(message: Message) -> bytes:  # noqa: PLR0911, PLR0912 (one case a message, each a line or three)
    """Return the bytes of `message`."""
    pack = struct.pack
    match message:
        case Hello(digest, software, pads, pending):
            head = pack("<B32s", 1, digest) + _text(software) + pack("<II", len(pads), len(pending))
            body = b"".join(pack("<QII", p.segment, p.send, p.receive) for p in pads)
            return head + body + _u64s(pending)
        case Settle(have):
            return pack("<BI", 2, len(have)) + _u64s(have)
        case RunStart(run):
            return pack("<BI", 3, run)
        case RunReady(run):
            return pack("<BI", 4, run)
        case Pause(reason):
            return b"\x05" + _text(reason)
        case Report(run, block, batch, slots):
            return pack("<BIII", 6, run, block, batch) + _pack_slots(slots)
        case Sift(block, batch, verdicts):
            padded = np.append(verdicts, np.zeros(len(verdicts) & 1, np.uint8)).astype(np.uint8)
            return pack("<BIII", 7, block, batch, len(verdicts)) + (padded[0::2] | padded[1::2] << 4).tobytes()
        case Reconcile(block, block_id, seed, error_rate):
            return pack("<BIQ16sd", 8, block, block_id, seed, error_rate)
        case ParityRequest(block, question):
            return pack("<BI", 9, block) + encode_question(question)
        case ParityReply(block, parities):
            return pack("<BII", 10, block, len(parities)) + _pack_bits(parities)
        case Corrected(block, errors, leak_bits):
            return pack("<BIIIII", 11, block, *errors, leak_bits)
        case Verify(block, key, tag):
            return pack("<BI16s16s", 12, block, key, tag)
        case Verified(block):
            return pack("<BI", 13, block)
        case Amplify(block, key_bits, authentication_bytes, seed):
            return pack("<BIIHI", 14, block, key_bits, authentication_bytes, len(seed)) + seed
        case Tag(block, segment, position, value):
            return pack("<BIQI16s", 15, block, segment, position, value)
        case Stored(block):
            return pack("<BI", 16, block)
        case Abort(block, reason):
            return pack("<BI", 17, block) + _text(reason)
        case KeepAlive():
            return b"\x12"
        case Refuse(reason):
            return b"\x13" + _text(reason)
        case Sample(run, slots, symbols):
            return pack("<BI", 20, run) + _pack_slots(slots) + _pack_symbols(symbols)
        case Aligned(run):
            return pack("<BI", 21, run)
        case Bases(block, batch, symbols):
            return pack("<BIII", 22, block, batch, len(symbols)) + _pack_symbols(symbols)


def decode(data: bytes) -> Message:
    """Return the message in `data`. Raises ProtocolError."""
    reader = _Reader(data)
    parse = _PARSERS.get(reader.number("B"))
    if parse is None:
        raise ProtocolError("a classical message of unknown type")
    message = parse(reader)
    reader.end()
    return message


def _text(text: str) -> bytes:
    raw = text[:200].encode("utf-8")
    return struct.pack("<H", len(raw)) + raw


def _u64s(values: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def _pack_bits(bits: Bits) -> bytes:
    return np.packbits(bits, bitorder="little").tobytes()


def _bits(reader: _Reader, count: int) -> Bits:
    raw = np.frombuffer(reader.take(-(-count // 8)), np.uint8)
    return np.unpackbits(raw, count=count, bitorder="little")


def _pack_slots(slots: Slots) -> bytes:
    """First slot, then 16-bit gaps; 65535 stands for that many slots without an event."""
    first = int(slots[0]) if len(slots) else 0
    words = gaps = np.diff(slots, prepend=first)
    if gaps.max(initial=0) >= _SKIP:
        skips = gaps // _SKIP
        words = np.full(len(gaps) + int(skips.sum()), _SKIP, np.int64)
        words[np.cumsum(skips + 1) - 1] = gaps % _SKIP
    return struct.pack("<QII", first, len(words), len(slots)) + words.astype("<u2").tobytes()


def _slots(reader: _Reader) -> Slots:
    first = reader.number("Q")
    word_count, count = reader.count(_MOST_EVENTS), reader.count(_MOST_EVENTS)
    words = reader.numbers(word_count, "<u2")
    if first >= 1 << 60:
        raise ProtocolError("detections in slots beyond the last")
    slots: Slots = first + np.cumsum(words)
    if words.max(initial=0) == _SKIP:
        slots = slots[words != _SKIP]
    if len(slots) != count or np.any(np.diff(slots) <= 0):
        raise ProtocolError("detections whose slots are impossible")
    return slots


def _pack_symbols(symbols: Nibbles) -> bytes:
    return _pack_bits(np.stack([symbols & 1, symbols >> 1], axis=1).ravel())


def _symbols(reader: _Reader, count: int) -> Nibbles:
    halves = _bits(reader, 2 * count).reshape(count, 2)
    symbols = (halves[:, 0] | halves[:, 1] << 1).astype(np.uint8)
    if np.any(symbols == 1):
        raise ProtocolError("detections whose symbols are impossible")
    return symbols


def _hello(reader: _Reader) -> Hello:
    digest, software = reader.take(32), reader.text()
    pads, pending = reader.count(1 << 16), reader.count(1 << 16)
    positions = tuple(PadPosition(*reader.fields("QII")) for _ in range(pads))
    return Hello(digest, software, positions, reader.fields(f"{pending}Q"))


def _sample(reader: _Reader) -> Sample:
    run, slots = reader.number(), _slots(reader)
    return Sample(run, slots, _symbols(reader, len(slots)))


def _report(reader: _Reader) -> Report:
    run, block, batch = reader.fields("III")
    return Report(run, block, batch, _slots(reader))


def _bases(reader: _Reader) -> Bases:
    block, batch = reader.fields("II")
    return Bases(block, batch, _symbols(reader, reader.count(_MOST_EVENTS)))


def _sift(reader: _Reader) -> Sift:
    block, batch = reader.fields("II")
    count = reader.count(_MOST_EVENTS)
    packed = np.frombuffer(reader.take((count + 1) // 2), np.uint8)
    verdicts = np.empty(2 * len(packed), np.uint8)
    verdicts[0::2], verdicts[1::2] = packed & 15, packed >> 4
    verdicts = verdicts[:count]
    if np.any(verdicts > LAST_VERDICT):
        raise ProtocolError("a sift with verdicts that do not exist")
    return Sift(block, batch, verdicts)


def _reconcile(reader: _Reader) -> Reconcile:
    block, block_id, seed, error_rate = reader.fields("IQ16sd")
    if not 0 < error_rate <= 0.5:
        raise ProtocolError("an error rate that is no rate")
    return Reconcile(block, block_id, seed, error_rate)


def _parity_request(reader: _Reader) -> ParityRequest:
    return ParityRequest(reader.number(), decode_question(reader.rest()))


def _parity_reply(reader: _Reader) -> ParityReply:
    block, count = reader.number(), reader.count(_MOST_PARITIES)
    return ParityReply(block, _bits(reader, count))


def _amplify(reader: _Reader) -> Amplify:
    block, key_bits, authentication_bytes = reader.fields("IIH")
    return Amplify(block, key_bits, authentication_bytes, reader.take(reader.count(MAX_MESSAGE)))


def _corrected(reader: _Reader) -> Corrected:
    block, first, second, third, leak_bits = reader.fields("IIIII")
    return Corrected(block, (first, second, third), leak_bits)


_PARSERS: dict[int, Callable[[_Reader], Message]] = {
    1: _hello,
    2: lambda r: Settle(r.fields(f"{r.count(1 << 16)}Q")),
    3: lambda r: RunStart(r.number()),
    4: lambda r: RunReady(r.number()),
    5: lambda r: Pause(r.text()),
    6: _report,
    7: _sift,
    8: _reconcile,
    9: _parity_request,
    10: _parity_reply,
    11: _corrected,
    12: lambda r: Verify(*r.fields("I16s16s")),
    13: lambda r: Verified(r.number()),
    14: _amplify,
    15: lambda r: Tag(*r.fields("IQI16s")),
    16: lambda r: Stored(r.number()),
    17: lambda r: Abort(r.number(), r.text()),
    18: lambda _: KeepAlive(),
    19: lambda r: Refuse(r.text()),
    20: _sample,
    21: lambda r: Aligned(r.number()),
    22: _bases,
}
