"""The serial loader in an ESP32's ROM, and the flasher stub it starts: SLIP frames in, SLIP frames out.

After Espressif's "Serial Protocol" (esptool documentation, advanced topics). Sans-IO. The stub's machine code is taken
and thrown away; from then on this answers as the stub does.
"""

import struct
import zlib
from collections.abc import Callable

from .chips import Chip
from .flash_chip import FLASH_BYTES, SECTOR, FlashChip

FRAME_END = b"\xc0"
SYNC_FRAME = b"\xc0\x00\x08\x24\x00"
"""How every SYNC request begins."""

_CHECKSUM_SEED = 0xEF
_SYNC_ANSWERS = 8
_SPI_CMD_USR = 1 << 18
_BAD_COMMAND, _BAD_CHECKSUM, _FLASH_ERROR = 0x05, 0x07, 0x08

_Answer = tuple[int, bytes]


class _RefusedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class RomLoader:
    """One stay in download mode."""

    def __init__(self, chip: Chip, flash: FlashChip, mac: bytes) -> None:
        self._chip, self._flash = chip, flash
        self._registers = chip.registers(mac)
        self._frame = bytearray()
        self._out = bytearray()
        self._stub = False
        self._inflate: zlib._Decompress | None = None
        self._offset = 0
        self._erased_to = 0
        self.wrote = False
        """Whether the flash was changed."""
        self.between_frames = True
        """Whether the last byte ended a frame."""
        self._commands: dict[int, Callable[[bytes], _Answer]] = {
            0x02: lambda data: self._begin(data, compressed=False),
            0x03: self._data,
            0x04: lambda _: (0, b""),
            0x05: lambda _: (0, b""),
            0x06: self._run_from_ram,
            0x07: lambda _: (0, b""),
            0x09: self._write_register,
            0x0A: lambda data: (self._registers.get(_word(data), 0), b""),
            0x0B: lambda _: (0, b""),
            0x0D: lambda _: (0, b""),
            0x0F: lambda _: (0, b""),
            0x10: lambda data: self._begin(data, compressed=True),
            0x11: self._data,
            0x12: lambda _: (0, b""),
            0x13: self._md5,
            0xD0: lambda _: self._erase(0, FLASH_BYTES),
            0xD1: lambda data: self._erase(_word(data), _word(data, 1)),
        }
        if chip.answers_security_info:
            self._commands[0x14] = lambda _: (0, chip.security_info())

    def receive(self, data: bytes) -> bytes:
        """Take what the host sent; returns what goes back. Raises PowerLostError."""
        *complete, rest = data.split(FRAME_END)
        for part in complete:
            frame = bytes(self._frame) + part
            self._frame.clear()
            if frame:
                self._packet(frame.replace(b"\xdb\xdc", FRAME_END).replace(b"\xdb\xdd", b"\xdb"))
        self._frame += rest
        self.between_frames = not rest and bool(complete)
        out = bytes(self._out)
        self._out.clear()
        return out

    def _packet(self, packet: bytes) -> None:
        if len(packet) < 8 or packet[0] != 0:
            return  # an acknowledgement of the stub's flash read, or noise
        _, command, _, checksum = struct.unpack_from("<BBHI", packet)
        data = packet[8:]
        if command == 0x08:
            for _ in range(_SYNC_ANSWERS):
                self._answer(command, 0x20120707)
            return
        if command == 0xD2 and self._stub:
            self._read(data)
            return
        work = self._commands.get(command)
        try:
            if work is None:
                raise _RefusedError(_BAD_COMMAND)
            if command in (0x03, 0x11) and checksum & 0xFF != _checksum(data[16:]):
                raise _RefusedError(_BAD_CHECKSUM)
            value, body = work(data)
        except _RefusedError as refused:
            self._answer(command, status=bytes((1, refused.code)))
        else:
            self._answer(command, value, body)
            if command == 0x06 and self._stub:
                self._send(b"OHAI")

    def _answer(self, command: int, value: int = 0, body: bytes = b"", status: bytes = b"\0\0") -> None:
        tail = status if self._stub else status + b"\0\0"
        self._send(struct.pack("<BBHI", 1, command, len(body) + len(tail), value) + body + tail)

    def _send(self, packet: bytes) -> None:
        self._out += FRAME_END + packet.replace(b"\xdb", b"\xdb\xdd").replace(FRAME_END, b"\xdb\xdc") + FRAME_END

    def _run_from_ram(self, data: bytes) -> _Answer:
        self._stub = self._stub or _word(data, 1) != 0
        return 0, b""

    def _write_register(self, data: bytes) -> _Answer:
        address, value = _word(data), _word(data, 1)
        if address == self._chip.spi_base and value & _SPI_CMD_USR:
            command = self._registers.get(self._chip.spi_usr2, 0) & 0xFF
            self._registers[self._chip.spi_w0] = self._chip.spi_answer(command)
        else:
            self._registers[address] = value
        return 0, b""

    def _begin(self, data: bytes, *, compressed: bool) -> _Answer:
        size, offset = _word(data), _word(data, 3)
        if offset + size > FLASH_BYTES + SECTOR:
            raise _RefusedError(_FLASH_ERROR)
        self._offset = self._erased_to = offset
        self._inflate = zlib.decompressobj() if compressed else None
        if not self._stub:  # the ROM erases up front, the stub as it goes
            self._flash.erase(offset, size)
            self._erased_to = offset + size
        self.wrote = self.wrote or size > 0
        return 0, b""

    def _data(self, data: bytes) -> _Answer:
        block = data[16 : 16 + _word(data)]
        if self._inflate is not None:
            try:
                block = self._inflate.decompress(block)
            except zlib.error:
                raise _RefusedError(_FLASH_ERROR) from None
        if (end := self._offset + len(block)) > self._erased_to:
            start = -(-self._erased_to // SECTOR) * SECTOR
            self._flash.erase(start, end - start)
            self._erased_to = -(-end // SECTOR) * SECTOR
        self._flash.program(self._offset, block)
        self._offset = end
        return 0, b""

    def _md5(self, data: bytes) -> _Answer:
        digest = self._flash.md5(_word(data), _word(data, 1))
        return 0, digest if self._stub else digest.hex().encode()

    def _erase(self, offset: int, length: int) -> _Answer:
        self._flash.erase(offset, length)
        self.wrote = True
        return 0, b""

    def _read(self, data: bytes) -> None:
        offset, length, block, _ = struct.unpack_from("<IIII", data)
        self._answer(0xD2)
        for start in range(offset, offset + length, block):
            self._send(self._flash.read(start, min(block, offset + length - start)))
        self._send(self._flash.md5(offset, length))


def _word(data: bytes, index: int = 0) -> int:
    try:
        return int(struct.unpack_from("<I", data, 4 * index)[0])
    except struct.error:
        raise _RefusedError(_BAD_COMMAND) from None


def _checksum(data: bytes) -> int:
    value = _CHECKSUM_SEED
    for byte in data:
        value ^= byte
    return value
