"""Key identifiers: a UUID says where in which block a key lies, so both ends name the same bits without talking.

Layout (version 8, RFC 9562 section 5.8): 60 bits block identifier, 31 bits offset and 31 bits size in bytes. The
block identifier is random and public; nothing in an identifier depends on key material.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from qepa_qkd.errors import KeyNotFound

BLOCK_ID_BITS: Final = 60
_FIELD_BITS: Final = 31
_FIELD_MASK: Final = (1 << _FIELD_BITS) - 1


@dataclass(frozen=True, slots=True)
class KeyLocation:
    """Bytes [offset, offset + size) of the key of block `block_id`."""

    block_id: int
    offset: int
    size: int

    def to_uuid(self) -> UUID:
        """Return the identifier of this key."""
        high, low = self.block_id >> 12, self.block_id & 0xFFF
        custom_c = self.offset << _FIELD_BITS | self.size
        return UUID(int=high << 80 | 8 << 76 | low << 64 | 0b10 << 62 | custom_c)

    @classmethod
    def from_uuid(cls, key_id: UUID) -> "KeyLocation":
        """Invert `to_uuid`. Raises KeyNotFound when this link never makes such identifiers."""
        value = key_id.int
        if value >> 76 & 0xF != 8 or value >> 62 & 0b11 != 0b10:
            raise KeyNotFound(f"key_ID {key_id} was not issued by this link")
        location = cls(
            block_id=(value >> 80) << 12 | value >> 64 & 0xFFF,
            offset=value >> _FIELD_BITS & _FIELD_MASK,
            size=value & _FIELD_MASK,
        )
        if location.size == 0:
            raise KeyNotFound(f"key_ID {key_id} was not issued by this link")
        return location
