"""What the flashing tool keeps on this machine: backups, inventory, labels; and which port it takes."""

import termios
from pathlib import Path

import pytest
from serial import SerialException

from qepa_tools.board.backup import read_backup, write_backup
from qepa_tools.board.flasher import Flasher
from qepa_tools.board.inventory import Inventory, KnownBoard
from qepa_tools.board.label import label_text, write_label
from qepa_tools.board.ports import PortError, SerialPort, choose_port
from qepa_tools.board.session import BoardSession
from qepa_tools.errors import ToolError

FILES = {"/qepa/identity.json": b'{"end_key": "31"}', "/qepa/counters": bytes(range(64))}
ONE = SerialPort("/dev/ttyUSB0", "A1", "WCH")
OTHER = SerialPort("/dev/ttyUSB1", "B2", "Espressif")


def test_a_backup_is_for_its_owner_alone_and_says_what_it_is(tmp_path: Path) -> None:
    path = write_backup(tmp_path / "backups", "a0b1", FILES)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert "SECRET" in path.read_text()
    assert read_backup(path) == FILES
    assert write_backup(tmp_path / "backups", "a0b1", FILES) != path, "none is ever overwritten"


def test_a_sealed_backup_opens_only_with_its_passphrase(tmp_path: Path) -> None:
    path = write_backup(tmp_path, "a0b1", FILES, "correct horse")
    assert b"identity" not in path.read_bytes()
    assert read_backup(path, "correct horse") == FILES
    with pytest.raises(ToolError, match="passphrase is wrong"):
        read_backup(path, "wrong horse")
    with pytest.raises(ToolError, match="sealed"):
        read_backup(path)


def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other"
    for content in (b"", b"[]", b'{"format": "qepa board backup 2"}', b'{"format": "qepa board backup 1"}'):
        path.write_bytes(content)
        with pytest.raises(ToolError, match="no backup"):
            read_backup(path)


def test_the_inventory_remembers_boards_by_chip(tmp_path: Path) -> None:
    inventory = Inventory(tmp_path)
    inventory.note("a0b1", target="esp32", version=1)
    inventory.note("a0b1", board=7, gateway="gw-1", patient="p-1")
    inventory.note("c2d3", board=3)
    assert Inventory(tmp_path).boards() == [
        KnownBoard("c2d3", board=3),
        KnownBoard("a0b1", board=7, target="esp32", version=1, gateway="gw-1", patient="p-1"),
    ]
    assert inventory.by_number(7).id == "a0b1"
    inventory.note("a0b1", replaced_by=8)
    assert inventory.by_number(7) is None, "who was replaced is no longer in use"
    assert (tmp_path / "boards.json").stat().st_mode & 0o777 == 0o600


def test_an_inventory_that_is_none_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "boards.json").write_text("my notes")
    with pytest.raises(ToolError, match="move it away"):
        Inventory(tmp_path).note("a0b1", board=7)
    assert (tmp_path / "boards.json").read_text() == "my notes"


def test_a_label_shows_the_number_and_neither_patient_nor_key(tmp_path: Path) -> None:
    board = KnownBoard("a0b1", board=42, target="esp32", profile="ecg", gateway="gw-1", patient="patient-007")
    assert label_text(board) == ["QEPA board 0000002a", "esp32 ecg", "chip a0b1", "gateway gw-1"]
    write_label(board, tmp_path / "label.svg")
    drawn = (tmp_path / "label.svg").read_text()
    assert drawn.startswith("<svg")
    assert "0000002a" in drawn
    assert "patient" not in drawn
    assert drawn.count("<rect") > 200, "a QR code"


@pytest.mark.parametrize("error", [termios.error(5, "Input/output error"), OSError(5, "gone"), SerialException("gone")])
def test_a_port_that_is_unplugged_is_one_sentence_whatever_pyserial_calls_it(error: Exception) -> None:
    with pytest.raises(ToolError, match="replug it"), Flasher("/dev/ttyUSB0")._translated():
        raise error
    with pytest.raises(ToolError, match="replug it"), BoardSession("/dev/ttyUSB0")._translated():
        raise error


def test_ports_are_never_guessed() -> None:
    assert choose_port("/dev/null", None, []) == "/dev/null"
    assert choose_port("rfc2217://dock:4000", None, []) == "rfc2217://dock:4000"
    assert choose_port(None, None, [ONE]) == ONE.device
    assert choose_port(None, "B2", [ONE, OTHER]) == OTHER.device
    with pytest.raises(PortError, match=r"several boards.*ttyUSB0.*ttyUSB1"):
        choose_port(None, None, [ONE, OTHER])
    with pytest.raises(PortError, match="no board is attached"):
        choose_port(None, None, [])
    with pytest.raises(PortError, match="serial number C3"):
        choose_port(None, "C3", [ONE, OTHER])
    with pytest.raises(PortError, match="either"):
        choose_port("/dev/ttyUSB0", "A1", [ONE])
    with pytest.raises(PortError, match="there is no port /dev/ttyNONE"):
        choose_port("/dev/ttyNONE", None, [ONE])
