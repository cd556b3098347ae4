"""What is checked of a MicroPython image before a chip is touched."""

import hashlib

import pytest

from qepa_tools.board.esp_image import PARTITION_TABLE, ImageError, chip_of, is_whole, parse_partitions, read_image
from qepa_tools.virtual_esp32.images import APPLICATION, FILE_SYSTEM, synthetic_image

PAYLOAD = bytes(range(256)) * 40


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(("chip", "offset"), [("esp32", 0x1000), ("esp32s3", 0), ("esp32c6", 0)])
def test_an_image_says_what_it_is(chip: str, offset: int) -> None:
    data = synthetic_image(chip, payload=PAYLOAD)
    image = read_image(data, digest(data).upper())
    assert (image.target, image.offset, image.end) == (chip, offset, offset + len(data))
    assert [part.label for part in image.partitions] == ["nvs", "phy_init", "factory", "vfs"]
    assert image.file_system().offset == FILE_SYSTEM
    assert chip_of(data) == chip


@pytest.mark.parametrize("at", [APPLICATION + 0x30, -1, -40])
def test_one_flipped_bit_in_the_application_is_found(at: int) -> None:
    data = bytearray(synthetic_image("esp32s3", payload=PAYLOAD))
    data[at] ^= 1
    with pytest.raises(ImageError, match="fails its own SHA-256"):
        read_image(bytes(data), digest(data))
    assert not is_whole("esp32s3", bytes(data[APPLICATION:]))


def test_what_would_erase_the_keys_is_refused() -> None:
    data = synthetic_image("esp32c6", payload=bytes(64 * 1024), file_system=APPLICATION + 0x8000)
    with pytest.raises(ImageError, match="keeps its keys"):
        read_image(data, digest(data))


def test_other_files_are_refused() -> None:
    good = synthetic_image("esp32s3")
    application = good[APPLICATION:]
    other_chip = bytearray(good)
    other_chip[12] = 99
    for data, words in ((b"", "no firmware"), (bytes(other_chip), "no firmware"), (application, "partition table")):
        with pytest.raises(ImageError, match=words):
            read_image(data, digest(data))
    with pytest.raises(ImageError, match="SHA-256 is"):
        read_image(good, "00")


def test_a_partition_table_ends_at_the_first_row_that_is_none() -> None:
    data = synthetic_image("esp32s3")
    table = data[PARTITION_TABLE : PARTITION_TABLE + 0xC00]
    assert len(parse_partitions(table)) == 4
    assert len(parse_partitions(table[:64])) == 2
    assert parse_partitions(b"\xff" * 64) == ()
