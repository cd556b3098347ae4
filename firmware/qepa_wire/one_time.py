"""Frames of suite otp: masked and authenticated by bytes of a one-time block that both sides hold, each used once.

The payload is ``key_id[16] | offset u32 | body | tag[16]``. From ``offset`` on the block gives 32 bytes of key for the
tag, then as many bytes of pad as the body masks: the sealed words and checks of a VECTOR, all of an ALERT.
"""

import struct
from collections import namedtuple

from .errors import WireError
from .frame import SUITE_OTP, VECTOR, Frame, encode, header
from .one_time_mac import KEY_BYTES, TAG_BYTES, check_one_time_tag, one_time_tag
from .payloads import ALERT_FORMAT, ID_BYTES, VECTOR_HEADER, Alert, check_alert

# Bytes ``offset`` to ``offset + len(key) + len(pad)`` of block ``key_id``
OneTime = namedtuple("OneTime", ("key_id", "offset", "key", "pad"))

REFERENCE_BYTES = ID_BYTES + 4
ALERT_BYTES = struct.calcsize(ALERT_FORMAT)
LEAST_BYTES = KEY_BYTES + ALERT_BYTES  # of a block: what the shortest frame uses


def split(key_id: bytes, offset: int, data: bytes) -> OneTime:
    """Return the bytes ``data`` of a block, from ``offset`` on, as key and pad."""
    return OneTime(key_id, offset, data[:KEY_BYTES], data[KEY_BYTES:])


def encode_one_time(
    type_: int, board: int, epoch: int, seq: int, body: bytes, one_time: OneTime, mac_key: bytes
) -> bytes:
    """Return a whole frame: the masked ``body`` under its one-time MAC, and the frame's own MAC over all of it."""
    inner = one_time.key_id + struct.pack("<I", one_time.offset) + body
    head = header(type_, SUITE_OTP, board, epoch, seq, len(inner) + TAG_BYTES)
    return encode(type_, board, epoch, seq, inner + one_time_tag(one_time.key, head + inner), mac_key, SUITE_OTP)


def reference(frame: Frame) -> "tuple[bytes, int, int]":
    """Return (key_id, offset, n_bytes): which bytes of which block a frame of suite otp uses. Raises WireError."""
    payload = frame.payload
    masked = len(payload) - REFERENCE_BYTES - TAG_BYTES
    if frame.type == VECTOR:
        masked -= VECTOR_HEADER
    if masked < 1 or (frame.type != VECTOR and masked != ALERT_BYTES):
        raise WireError("payload", "%d bytes under one-time pads" % len(payload))
    offset: int = struct.unpack_from("<I", payload, ID_BYTES)[0]
    return payload[:ID_BYTES], offset, KEY_BYTES + masked


def open_one_time(frame: Frame, data: bytes) -> Frame:
    """Return the frame with its body for payload and its pad set, ``data`` being the bytes that it uses.

    Raises WireError("mac") unless the one-time MAC holds.
    """
    payload = frame.payload
    one_time = split(b"", 0, data)
    head = header(frame.type, SUITE_OTP, frame.board, frame.epoch, frame.seq, len(payload))
    check_one_time_tag(one_time.key, head + payload[:-TAG_BYTES], payload[-TAG_BYTES:])
    opened = Frame(frame.type, frame.suite, frame.board, frame.epoch, frame.seq, payload[REFERENCE_BYTES:-TAG_BYTES])
    opened.pad = one_time.pad
    return opened


def mask_alert(pad: bytes, alert: Alert) -> bytes:
    """Return the body of an ALERT under one-time pads."""
    return _xor(pad, struct.pack(ALERT_FORMAT, *alert))


def unmask_alert(frame: Frame) -> Alert:
    """Return the alert in a frame that :func:`open_one_time` has opened; raises WireError("payload")."""
    return check_alert(_xor(frame.pad, frame.payload))


def _xor(pad: bytes, data: bytes) -> bytes:
    if len(pad) != len(data):
        raise WireError("payload", "%d bytes under a pad of %d" % (len(data), len(pad)))
    return bytes([a ^ b for a, b in zip(pad, data)])
