"""Frames between a board and its gateway: header, payload, MAC under the link key."""

import struct

from .errors import WireError
from .primitives import equal, hmac_sha256

MAGIC = 0x51
VERSION = 1
SUITE_AES256 = 1
SUITE_OTP = 2

HELLO = 0x01
VECTOR = 0x02
CARE = 0x03
ALERT = 0x04
PADS = 0x05
FIRMWARE_WANT = 0x06
WAVE = 0x07
ACK = 0x41
ROUND = 0x42
MODEL = 0x43
CARE_GRANT = 0x44
CARE_REVOKE = 0x45
LABELS = 0x46
PADS_HELD = 0x47
REKEY = 0x48
FIRMWARE_OFFER = 0x49
FIRMWARE_PIECE = 0x4A
WAVES_WANTED = 0x4B

UP_TYPES = (HELLO, VECTOR, CARE, ALERT, PADS, FIRMWARE_WANT, WAVE)
DOWN_TYPES = (
    ACK,
    ROUND,
    MODEL,
    CARE_GRANT,
    CARE_REVOKE,
    LABELS,
    PADS_HELD,
    REKEY,
    FIRMWARE_OFFER,
    FIRMWARE_PIECE,
    WAVES_WANTED,
)
OTP_TYPES = (VECTOR, ALERT)  # what may come in suite otp

HEADER_BYTES = 20
MAC_BYTES = 16
MAX_PAYLOAD = 4 * 65535 + 68
_HEADER = "<BBBBIIII"


class Frame:
    """One parsed frame; nothing in it is to be trusted before :func:`authenticate` has returned."""

    def __init__(self, type_: int, suite: int, board: int, epoch: int, seq: int, payload: bytes) -> None:
        self.type = type_
        self.suite = suite
        self.board = board
        self.epoch = epoch
        self.seq = seq
        self.payload = payload
        self.pad = b""  # the one-time bytes that mask the payload, set by who opened a frame of suite otp


def header(type_: int, suite: int, board: int, epoch: int, seq: int, length: int) -> bytes:
    """Return the 20 bytes before a payload of ``length`` bytes."""
    return struct.pack(_HEADER, MAGIC, VERSION, type_, suite, board, epoch, seq, length)


def encode(
    type_: int, board: int, epoch: int, seq: int, payload: bytes, mac_key: bytes, suite: int = SUITE_AES256
) -> bytes:
    """Return header, payload and MAC as bytes."""
    body = header(type_, suite, board, epoch, seq, len(payload)) + payload
    return body + hmac_sha256(mac_key, body)[:MAC_BYTES]


def parse(data: bytes, types: tuple[int, ...]) -> Frame:
    """Return the Frame in ``data`` if it is whole and of a known magic, version, suite and type.

    ``types`` are the frame types that may come from that side. The MAC is not checked here: the header says
    whose key to take. Raises WireError with reason truncated, magic, version, type, suite or length.
    """
    if len(data) < HEADER_BYTES + MAC_BYTES:
        raise WireError("truncated", "%d bytes" % len(data))
    magic, version, type_, suite, board, epoch, seq, length = struct.unpack_from(_HEADER, data)
    if magic != MAGIC:
        raise WireError("magic")
    if version != VERSION:
        raise WireError("version", "%d" % version)
    if type_ not in types:
        raise WireError("type", "%d" % type_)
    if suite != SUITE_AES256 and not (suite == SUITE_OTP and type_ in OTP_TYPES):
        raise WireError("suite", "%d" % suite)
    if length > MAX_PAYLOAD or len(data) != HEADER_BYTES + length + MAC_BYTES:
        raise WireError("length", "%d bytes for a payload of %d" % (len(data), length))
    return Frame(type_, suite, board, epoch, seq, bytes(data[HEADER_BYTES : HEADER_BYTES + length]))


def authenticate(data: bytes, mac_key: bytes) -> None:
    """Return if the MAC of the parsed frame ``data`` holds; raise WireError("mac") if not."""
    if not equal(hmac_sha256(mac_key, data[:-MAC_BYTES])[:MAC_BYTES], data[-MAC_BYTES:]):
        raise WireError("mac")
