"""Key identifiers: a UUID says where in which block a key lies and for whom, so both ends agree without talking.

Layout (version 8, RFC 9562 section 5.8), 122 bits: the first 32 bits of the block identifier, 20 bits offset and 13
bits size in bytes, 12 bits audience (which slaves of the master, in alphabetic order), 45 bits tag. The tag is an HMAC
under a key both ends derive from the initial secret: a slave that redeems a key at Bob cannot rewrite the audience of
an identifier it has seen. It decides who may ask, never what a key is: block identifiers are random and public, and
nothing in an identifier depends on key material.
"""

import hashlib
import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from qepa_qkd.errors import KeyNotFound

BLOCK_ID_BITS: Final = 60
PREFIX_BITS: Final = 32
MOST_SLAVES: Final = 12
"""Slaves one master can share a key with."""
MOST_KEY_BYTES: Final = 8192
MOST_OFFSET: Final = (1 << 20) - 1
_TAG_BITS: Final = 45
_WIDTHS: Final = (PREFIX_BITS, 20, 13, MOST_SLAVES, _TAG_BITS)


@dataclass(frozen=True, slots=True)
class KeyLocation:
    """Bytes [offset, offset + size) of the key of block `block_id`."""

    block_id: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What an identifier says; nothing of it is true before `KeyIdentifiers.confirms` says so."""

    block_prefix: int
    offset: int
    size: int
    audience: int
    """Bit i: the i-th of the master's slaves."""
    tag: int

    @classmethod
    def parse(cls, key_id: UUID) -> "Claim":
        """Take an identifier apart. Raises KeyNotFound when no link makes such identifiers."""
        value = key_id.int
        if value >> 76 & 0xF != 8 or value >> 62 & 0b11 != 0b10:
            raise KeyNotFound(f"key_ID {key_id} was not issued by this link")
        packed = (value >> 80) << 74 | (value >> 64 & 0xFFF) << 62 | value & ((1 << 62) - 1)
        fields = []
        for width in reversed(_WIDTHS):
            fields.append(packed & ((1 << width) - 1))
            packed >>= width
        tag, audience, size, offset, prefix = fields
        return cls(prefix, offset, size + 1, audience, tag)


class KeyIdentifiers:
    """Makes and checks the identifiers of one link."""

    def __init__(self, channel_key: bytes) -> None:
        self._key = hmac.digest(channel_key, b"qepa key identifiers", "sha256")

    def issue(self, location: KeyLocation, master: str, slaves: Sequence[str], audience: Collection[str]) -> UUID:
        """Name a key that `master` shares with `audience`, some of its `slaves` (all of them, in alphabetic order).

        Raises ValueError when the location or the audience does not fit an identifier.
        """
        if not (0 <= location.offset <= MOST_OFFSET and 1 <= location.size <= MOST_KEY_BYTES):
            raise ValueError("a key outside of what identifiers can name")
        mask = sum(1 << slaves.index(slave) for slave in set(audience))
        if not 0 < mask < 1 << MOST_SLAVES:
            raise ValueError(f"a key has between 1 and {MOST_SLAVES} slaves")
        fields = (
            location.block_id >> (BLOCK_ID_BITS - PREFIX_BITS),
            location.offset,
            location.size - 1,
            mask,
            self._tag(location, master, sorted(audience)),
        )
        packed = 0
        for field, width in zip(fields, _WIDTHS, strict=True):
            packed = packed << width | field
        high, middle, low = packed >> 74, packed >> 62 & 0xFFF, packed & ((1 << 62) - 1)
        return UUID(int=high << 80 | 8 << 76 | middle << 64 | 0b10 << 62 | low)

    def confirms(self, claim: Claim, block_id: int, master: str, slaves: Sequence[str]) -> bool:
        """Whether this link issued `claim` for a key of `block_id` to `master`, whose slaves are `slaves`."""
        if claim.audience >> len(slaves):
            return False
        location = KeyLocation(block_id, claim.offset, claim.size)
        audience = [slave for i, slave in enumerate(slaves) if claim.audience >> i & 1]
        return hmac.compare_digest(
            claim.tag.to_bytes(6, "big"), self._tag(location, master, audience).to_bytes(6, "big")
        )

    def _tag(self, location: KeyLocation, master: str, audience: Sequence[str]) -> int:
        parts = [f"{location.block_id} {location.offset} {location.size}", master, *audience]
        message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
        return int.from_bytes(hmac.digest(self._key, message, hashlib.sha256)[:8], "big") >> (64 - _TAG_BITS)
