"""What tells one ESP32 from another on the wire: identification registers, as esptool's own tables place them."""

import struct
from dataclasses import dataclass

from esptool.targets import CHIP_DEFS

_MAGIC_ADDRESS = 0x40001000
_UART_DIVIDER = 0x15B  # 40 MHz crystal at 115,200 baud
_FLASH_4MB = 0x1640EF  # JEDEC id, read backwards: Winbond, 2^22 bytes
_SFDP = 0x50444653


@dataclass(frozen=True, slots=True)
class Chip:
    """One kind of chip. ``boot_offset``: where its ROM looks for the second-stage loader."""

    name: str
    image_id: int
    boot_offset: int
    spi_base: int
    spi_w0: int
    spi_usr2: int
    answers_security_info: bool
    boot_words: str

    def registers(self, mac: bytes) -> dict[int, int]:
        """What the registers hold that a flasher reads first; all others read as zero."""
        rom = CHIP_DEFS[self.name]
        high, low = struct.unpack(">HI", mac)
        registers = {rom.UART_CLKDIV_REG: _UART_DIVIDER}
        if self.answers_security_info:
            registers |= {rom.MAC_EFUSE_REG: low, rom.MAC_EFUSE_REG + 4: high}
        else:
            efuse = rom.EFUSE_RD_REG_BASE
            registers |= {_MAGIC_ADDRESS: rom.MAGIC_VALUE, efuse + 4: low, efuse + 8: high}
            registers[efuse + 12] = 1 << 15  # revision 1
        return registers

    def security_info(self) -> bytes:
        """Answer to GET_SECURITY_INFO: nothing is locked."""
        return struct.pack("<IB7xII", 0, 0, self.image_id, 0)

    def spi_answer(self, command: int) -> int:
        """First word the flash chip shifts out after ``command``."""
        return {0x9F: _FLASH_4MB, 0x5A: _SFDP}.get(command, 0)


def _chip(name: str, boot_words: str) -> Chip:
    rom = CHIP_DEFS[name]
    return Chip(
        name=name,
        image_id=rom.IMAGE_CHIP_ID,
        boot_offset=rom.BOOTLOADER_FLASH_OFFSET,
        spi_base=rom.SPI_REG_BASE,
        spi_w0=rom.SPI_REG_BASE + rom.SPI_W0_OFFS,
        spi_usr2=rom.SPI_REG_BASE + rom.SPI_USR2_OFFS,
        answers_security_info=not rom.USES_MAGIC_VALUE,
        boot_words=boot_words,
    )


CHIPS = {
    "esp32": _chip("esp32", "ets Jul 29 2019 12:21:46"),
    "esp32s3": _chip("esp32s3", "ESP-ROM:esp32s3-20210327"),
    "esp32c6": _chip("esp32c6", "ESP-ROM:esp32c6-20220919"),
}
