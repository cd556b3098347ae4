"""HSS/LMS signature verification (RFC 8554) with SHA-256: hashing only, no secrets."""

import hashlib
import struct

from .errors import WireError

_N = 32
# LM-OTS typecode: (w, p, ls); RFC 8554 section 4.1, table 1
_OTS = {1: (1, 265, 7), 2: (2, 133, 6), 3: (4, 67, 4), 4: (8, 34, 0)}
# LMS typecode: height; RFC 8554 section 5.1, table 2
_LMS = {5: 5, 6: 10, 7: 15, 8: 20, 9: 25}
_D_PBLK = b"\x80\x80"
_D_MESG = b"\x81\x81"
_D_LEAF = b"\x82\x82"
_D_INTR = b"\x83\x83"
_MAX_LEVELS = 8
_PUBLIC_BYTES = 24 + _N


def _u32(data: bytes, offset: int) -> int:
    if len(data) < offset + 4:
        raise WireError("signature", "truncated")
    value: int = struct.unpack_from(">I", data, offset)[0]
    return value


def _ots_candidate(signature: bytes, message: bytes, identifier: bytes, leaf: int) -> bytes:
    """Algorithm 4b: the public key that ``signature`` would fit, from an LM-OTS signature of known type."""
    w, p, ls = _OTS[_u32(signature, 0)]
    prefix = identifier + struct.pack(">I", leaf)
    digest = hashlib.sha256(prefix + _D_MESG + signature[4 : 4 + _N] + message).digest()
    top = (1 << w) - 1
    per_byte = 8 // w
    n_digits = _N * per_byte
    checksum = 0
    for i in range(n_digits):
        checksum += top - ((digest[i // per_byte] >> (8 - w * (i % per_byte + 1))) & top)
    digest += struct.pack(">H", (checksum << ls) & 0xFFFF)
    outer = hashlib.sha256(prefix + _D_PBLK)
    for i in range(p):
        digit = (digest[i // per_byte] >> (8 - w * (i % per_byte + 1))) & top
        chain = signature[4 + _N + i * _N : 4 + _N + (i + 1) * _N]
        for j in range(digit, top):
            chain = hashlib.sha256(prefix + struct.pack(">HB", i, j) + chain).digest()
        outer.update(chain)
    return outer.digest()


def _lms_bytes(signature: bytes) -> int:
    """Length of the LMS signature at the start of ``signature``."""
    ots_type = _u32(signature, 4)
    if ots_type not in _OTS:
        raise WireError("signature", "unknown LM-OTS type")
    ots_bytes = 4 + _N * (_OTS[ots_type][1] + 1)
    lms_type = _u32(signature, 4 + ots_bytes)
    if lms_type not in _LMS:
        raise WireError("signature", "unknown LMS type")
    return 4 + ots_bytes + 4 + _N * _LMS[lms_type]


def _verify_lms(public: bytes, message: bytes, signature: bytes) -> None:
    """Algorithm 6: raise unless ``signature`` (exactly one LMS signature) fits ``public``."""
    if len(public) != _PUBLIC_BYTES:
        raise WireError("signature", "public key of %d bytes" % len(public))
    lms_type, ots_type = _u32(public, 0), _u32(public, 4)
    identifier, root = public[8:24], public[24:]
    if len(signature) != _lms_bytes(signature) or _u32(signature, 4) != ots_type:
        raise WireError("signature", "signature does not fit the key's type")
    leaf = _u32(signature, 0)
    ots_end = 8 + _N * (_OTS[ots_type][1] + 1)
    if _u32(signature, ots_end) != lms_type:
        raise WireError("signature", "signature does not fit the key's type")
    height = _LMS[lms_type]
    if leaf >= 1 << height:
        raise WireError("signature", "leaf number out of range")
    candidate = _ots_candidate(signature[4:ots_end], message, identifier, leaf)
    number = (1 << height) + leaf
    node = hashlib.sha256(identifier + struct.pack(">I", number) + _D_LEAF + candidate).digest()
    path = ots_end + 4
    for i in range(height):
        sibling = signature[path + i * _N : path + (i + 1) * _N]
        pair = sibling + node if number & 1 else node + sibling
        number >>= 1
        node = hashlib.sha256(identifier + struct.pack(">I", number) + _D_INTR + pair).digest()
    if node != root:
        raise WireError("signature", "does not verify")


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Return if the HSS ``signature`` over ``message`` verifies under the HSS ``public`` key (section 6.3).

    Raises WireError("signature") for anything else, malformed input included.
    """
    public, signature = bytes(public), bytes(signature)
    levels = _u32(public, 0)
    if not 0 < levels <= _MAX_LEVELS or _u32(signature, 0) != levels - 1:
        raise WireError("signature", "wrong number of levels")
    key, offset = public[4:], 4
    for _ in range(levels - 1):
        end = offset + _lms_bytes(signature[offset:])
        child = signature[end : end + _PUBLIC_BYTES]
        _verify_lms(key, child, signature[offset:end])
        key, offset = child, end + _PUBLIC_BYTES
    _verify_lms(key, message, signature[offset:])
