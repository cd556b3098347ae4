"""Consistent Overhead Byte Stuffing (Cheshire and Baker 1999): bytes without a zero, so that a zero can end a frame."""

from .errors import WireError


def encode(data: bytes) -> bytes:
    """Return ``data`` without zero bytes, no delimiter; 1 byte longer, and 1 more for each full 254."""
    out = bytearray()
    start, end = 0, len(data)
    while True:
        zero = data.find(b"\0", start)
        stop = end if zero < 0 else zero
        while stop - start >= 254:
            out.append(255)
            out += data[start : start + 254]
            start += 254
        out.append(stop - start + 1)
        out += data[start:stop]
        if zero < 0:
            return bytes(out)
        start = zero + 1


def decode(data: bytes) -> bytes:
    """Return what ``encode`` was given. Raises WireError with reason cobs, whatever ``data`` is."""
    end = len(data)
    if end == 0 or data.find(b"\0") >= 0:
        raise WireError("cobs", "empty, or a zero byte inside")
    out = bytearray()
    position = 0
    while position < end:
        code = data[position]
        following = position + code
        if following > end:
            raise WireError("cobs", "a code that points outside the frame")
        out += data[position + 1 : following]
        if code < 255 and following < end:
            out.append(0)
        position = following
    return bytes(out)
