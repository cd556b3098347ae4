"""One-time blocks: which bytes of a block are left, and that none is used twice."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..errors import Refused

Range = tuple[int, int]  # [start, end)


@dataclass(slots=True)
class Block:
    """A block of quantum key that a board holds too; ``free`` are the ranges not used yet, in order.

    Frames overtake each other, so bytes are used in any order; a board takes them in rising order.
    """

    key_id: bytes
    board: int
    free: list[Range]
    key: bytearray = field(repr=False)

    @classmethod
    def fresh(cls, key_id: bytes, board: int, key: bytes) -> "Block":
        """A block of which nothing is used."""
        return cls(key_id, board, [(0, len(key))], bytearray(key))

    @property
    def left(self) -> int:
        """Bytes not used yet."""
        return bytes_left(self.free)

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Return ``n_bytes`` from ``offset`` on; raises Refused("pad_used") unless all of them are unused."""
        self._range_with(offset, n_bytes)
        return bytes(self.key[offset : offset + n_bytes])

    def use(self, offset: int, n_bytes: int) -> None:
        """Strike these bytes out for good; raises Refused("pad_used") as :meth:`read`."""
        start, end = self._range_with(offset, n_bytes)
        at = self.free.index((start, end))
        rest = [(start, offset), (offset + n_bytes, end)]
        self.free[at : at + 1] = [each for each in rest if each[0] < each[1]]
        self.key[offset : offset + n_bytes] = bytes(n_bytes)

    def _range_with(self, offset: int, n_bytes: int) -> Range:
        for start, end in self.free:
            if start <= offset and offset + n_bytes <= end:
                return start, end
        raise Refused("pad_used", f"bytes {offset} to {offset + n_bytes} of a one-time block")


def bytes_left(free: Iterable[Range]) -> int:
    """Bytes in these ranges."""
    return sum(end - start for start, end in free)


def used_up_to(free: Iterable[Range], size: int) -> int:
    """The end of the highest byte that was used: a board has to go on from there."""
    last = max(free, default=(size, size))
    return last[0] if last[1] == size else size
