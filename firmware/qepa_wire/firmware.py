"""Payloads that carry firmware to a board (PROTOCOL.md, section 15). Only who is about it loads this module.

The board asks and the gateway answers, so that a piece comes when the board has time for it. ``file`` 0 is the
manifest, 1 its signature, 2 + i the i-th file below lib/ in the manifest's order.
"""

import struct
from collections import namedtuple

from .errors import WireError
from .manifest import MAX_BYTES, MAX_SIGNATURE, TARGETS

ID_BYTES = 8
PIECE_BYTES = 1024
MANIFEST_FILE = 0
SIGNATURE_FILE = 1
FIRST_FILE = 2

# ``digest``: SHA-256 of the manifest, whose first ID_BYTES name the release from then on
Offer = namedtuple("Offer", ("digest", "version", "manifest_bytes", "signature_bytes"))
_OFFER = "<32sIHH"

# ``needs``: what of qepa_board this board cannot do without, as "drivers/max30003 transport/connection"
Want = namedtuple("Want", ("release", "state", "target", "file", "offset", "needs"))
_WANT = "<8sBBHI"
MAX_NEEDS = 200
WANTS = 0  # that piece
COMPLETE = 1  # all is there and verified: the board restarts when it is quiet
STATES = (
    "wants",
    "complete",
    "other",  # from here on: refused, and why
    "firmware_root",
    "signature",
    "manifest",
    "target",
    "profile",
    "downgrade",
    "version",
    "installed",
    "full",
    "flash",
    "memory",
)

Piece = namedtuple("Piece", ("release", "file", "offset", "data"))
_PIECE = "<8sHI"
_PIECE_HEADER = 14


def encode_offer(offer: Offer) -> bytes:
    """Tell a board of a release."""
    return struct.pack(_OFFER, *offer)


def decode_offer(data: bytes) -> Offer:
    """Inverse of :func:`encode_offer`; raises WireError("payload")."""
    if len(data) != struct.calcsize(_OFFER):
        raise WireError("payload", "%d bytes of offer" % len(data))
    offer = Offer(*struct.unpack(_OFFER, data))
    if not 0 < offer.manifest_bytes <= MAX_BYTES or not 0 < offer.signature_bytes <= MAX_SIGNATURE:
        raise WireError("payload", "a manifest of %d bytes" % offer.manifest_bytes)
    return offer


def encode_want(want: Want) -> bytes:
    """Ask for the next piece, or tell what became of the release."""
    needs: bytes = want.needs.encode()
    return struct.pack(_WANT, *want[:5]) + needs


def decode_want(data: bytes) -> Want:
    """Inverse of :func:`encode_want`; raises WireError("payload")."""
    size = struct.calcsize(_WANT)
    if not size <= len(data) <= size + MAX_NEEDS:
        raise WireError("payload", "%d bytes of firmware request" % len(data))
    release, state, target, file, offset = struct.unpack_from(_WANT, data)
    needs = data[size:]
    if state >= len(STATES) or target not in TARGETS or any(not 32 <= byte < 127 for byte in needs):
        raise WireError("payload", "state %d, target %d" % (state, target))
    return Want(release, state, target, file, offset, needs.decode())


def encode_piece(piece: Piece) -> bytes:
    """A part of a file."""
    return struct.pack(_PIECE, piece.release, piece.file, piece.offset) + bytes(piece.data)


def decode_piece(data: bytes) -> Piece:
    """Inverse of :func:`encode_piece`; raises WireError("payload")."""
    if not _PIECE_HEADER < len(data) <= _PIECE_HEADER + PIECE_BYTES:
        raise WireError("payload", "%d bytes of firmware" % len(data))
    release, file, offset = struct.unpack_from(_PIECE, data)
    return Piece(release, file, offset, data[_PIECE_HEADER:])
