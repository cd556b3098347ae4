"""A NOR flash of 4 MB in a file: erasing sets bits, programming only clears them; power can fail at any byte."""

import hashlib
import mmap
from pathlib import Path

FLASH_BYTES = 4 << 20
SECTOR = 4096


class PowerLostError(Exception):
    """The supply went away while the flash was being written."""


class FlashChip:
    """The file at ``path``; made when first changed, with ``factory`` (offset: bytes) in it and erased elsewhere."""

    def __init__(self, path: Path, factory: dict[int, bytes] | None = None) -> None:
        self._path = path
        self._factory = factory or {}
        self._cells: mmap.mmap | None = None
        self.fail_after: int | None = None
        """Bytes that may still be written before power fails; None for never."""

    def _is_pristine(self) -> bool:
        return self._cells is None and not self._path.is_file()

    def _from_factory(self, offset: int, length: int) -> bytes:
        """What a chip from the factory holds there."""
        content = bytearray(b"\xff" * min(length, max(0, FLASH_BYTES - offset)))
        for start, data in self._factory.items():
            low, high = max(offset, start), min(offset + len(content), start + len(data))
            if low < high:
                content[low - offset : high - offset] = data[low - start : high - start]
        return bytes(content)

    def _map(self) -> mmap.mmap:
        if self._cells is None:
            if self._is_pristine() or self._path.stat().st_size != FLASH_BYTES:
                self._path.write_bytes(self._from_factory(0, FLASH_BYTES))
            with self._path.open("r+b") as file:
                self._cells = mmap.mmap(file.fileno(), FLASH_BYTES)
        return self._cells

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset`` on; short at the end of the chip."""
        if self._is_pristine():  # hundreds of boards need not all have a file
            return self._from_factory(offset, length)
        return self._map()[offset : offset + length]

    def erase(self, offset: int, length: int) -> None:
        """Erase the sectors that ``offset`` to ``offset + length`` touches."""
        start = offset // SECTOR * SECTOR
        stop = min(-(-(offset + length) // SECTOR) * SECTOR, FLASH_BYTES)
        if stop > start:
            self._map()[start:stop] = b"\xff" * (stop - start)

    def program(self, offset: int, data: bytes) -> None:
        """Clear bits. Raises PowerLostError after as many bytes as ``fail_after`` allows."""
        data = data[: max(0, FLASH_BYTES - offset)]
        lost = self.fail_after is not None and len(data) > self.fail_after
        if self.fail_after is not None:
            data = data[: self.fail_after]
            self.fail_after = None if lost else self.fail_after - len(data)
        before = int.from_bytes(self.read(offset, len(data)), "big")
        cleared = before & int.from_bytes(data, "big")
        self._map()[offset : offset + len(data)] = cleared.to_bytes(len(data), "big")
        if lost:
            raise PowerLostError("power failed while the flash was written")

    def corrupt(self, offset: int, length: int) -> None:
        """Flip bits, as worn or disturbed cells do."""
        self._map()[offset : offset + length] = bytes(byte ^ 0x55 for byte in self.read(offset, length))

    def md5(self, offset: int, length: int) -> bytes:
        """MD5 of a region, as the loader's own command computes it to find transmission errors."""
        return hashlib.md5(self.read(offset, length), usedforsecurity=False).digest()

    def close(self) -> None:
        """Release the file."""
        if self._cells is not None:
            self._cells.close()
            self._cells = None
