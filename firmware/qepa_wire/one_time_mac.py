"""Poly1305 (RFC 8439 section 2.5): 16 bytes of MAC under a key of 32 bytes that serves one message, ever.

Under a uniform one-time key whoever sees one message and its tag forges another of L bytes with probability at most
8 ceil(L / 16) / 2^106 (Bernstein, The Poly1305-AES message-authentication code, FSE 2005), whatever they can compute.
"""

from .errors import WireError
from .primitives import equal

KEY_BYTES = 32
TAG_BYTES = 16
_P = (1 << 130) - 5
_CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF


def poly1305_integers(key: bytes, message: bytes) -> bytes:
    """Return the tag by the RFC's arithmetic. It takes no constant time; the key it works with is spent anyway."""
    r = int.from_bytes(key[:16], "little") & _CLAMP
    total = 0
    for i in range(0, len(message), 16):
        total = (total + int.from_bytes(bytes(message[i : i + 16]) + b"\1", "little")) * r % _P
    return ((total + int.from_bytes(key[16:], "little")) & ((1 << 128) - 1)).to_bytes(16, "little")


try:
    from cryptography.hazmat.primitives.poly1305 import Poly1305 as _Poly1305

    def _tag(key: bytes, message: bytes) -> bytes:
        return _Poly1305.generate_tag(key, message)

except ImportError:  # MicroPython
    _tag = poly1305_integers


def one_time_tag(key: bytes, message: bytes) -> bytes:
    """Return the tag of ``message``; raises WireError("key") unless ``key`` has 32 bytes."""
    if len(key) != KEY_BYTES:
        raise WireError("key", "a one-time key has %d bytes, not %d" % (KEY_BYTES, len(key)))
    return _tag(key, message)


def check_one_time_tag(key: bytes, message: bytes, tag: bytes) -> None:
    """Return if ``tag`` is that of ``message``; raises WireError("mac") if not."""
    if not equal(one_time_tag(key, message), tag):
        raise WireError("mac", "one-time MAC")
