"""COBS for long frames: the bytes and the errors of `qepa_wire.cobs`, which is normative, by compiled loops."""

from typing import Any, Final

import numpy as np

from qepa_jit.kernels import kernel
from qepa_wire import cobs

_COMPILED_FROM_BYTES: Final = 64
"""Shorter frames are not worth the call."""


def encode(data: bytes) -> bytes:
    """Return ``data`` without zero bytes, no delimiter."""
    if len(data) < _COMPILED_FROM_BYTES:
        return cobs.encode(data)
    out = np.empty(len(data) + len(data) // 254 + 1, np.uint8)
    return out[: _encode(np.frombuffer(data, np.uint8), out)].tobytes()


def decode(data: bytes) -> bytes:
    """Return what ``encode`` was given. Raises WireError with reason cobs, whatever ``data`` is."""
    if len(data) < _COMPILED_FROM_BYTES:
        return cobs.decode(data)
    out = np.empty(len(data), np.uint8)
    length = _decode(np.frombuffer(data, np.uint8), out)
    # What is no COBS is told in one place.
    return out[:length].tobytes() if length >= 0 else cobs.decode(data)


@kernel
def _encode(data: Any, out: Any) -> int:
    """Return the length of what was written."""
    code, at = 0, 1
    for byte in data:
        if byte:
            out[at] = byte
            at += 1
        if not byte or at - code == 255:
            out[code] = at - code
            code = at
            at += 1
            # A full block stands for no zero: a zero after it is a block of its own.
    out[code] = at - code
    return at


@kernel
def _decode(data: Any, out: Any) -> int:
    """Return the length of what was written, -1 if `data` is no COBS."""
    end, position, length = len(data), 0, 0
    while position < end:
        code = data[position]
        following = position + code
        if code == 0 or following > end:
            return -1
        for i in range(position + 1, following):
            if data[i] == 0:
                return -1
            out[length] = data[i]
            length += 1
        if code < 255 and following < end:
            out[length] = 0
            length += 1
        position = following
    return length
