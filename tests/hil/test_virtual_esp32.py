"""The virtual ESP32 is one to the real esptool and the real mpremote, unchanged, as programs of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from qepa_tools.unix_port.board import UnixBoard
from qepa_tools.virtual_esp32.device import APPLICATION, DEAD, DOWNLOAD, VirtualEsp32
from qepa_tools.virtual_esp32.images import synthetic_image
from qepa_tools.virtual_esp32.ports import Rfc2217Port, SocketPort

from .conftest import PlugIn


def tool(name: str, *arguments: str, fails: bool = False) -> str:
    """Run esptool or mpremote and return what it printed."""
    command = [sys.executable, "-m", name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(params=["esp32", "esp32s3", "esp32c6"])
def chip(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_esptool_flashes_and_mpremote_gets_a_prompt(plug_in: PlugIn, chip: str, tmp_path: Path) -> None:
    port = plug_in(chip=chip, blank=True)
    image = tmp_path / "image.bin"
    image.write_bytes(synthetic_image(chip, payload=bytes(range(256)) * 400))
    offset = "0x1000" if chip == "esp32" else "0"
    printed = tool("esptool", "--port", port.url, "write-flash", offset, str(image))
    assert "Hash of data verified" in printed
    assert "02:00:00:00:00:01" in printed
    tool("esptool", "--port", port.url, "verify-flash", offset, str(image))
    tool("esptool", "--port", port.url, "read-flash", offset, str(image.stat().st_size), str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == image.read_bytes()
    assert tool("mpremote", "connect", port.url, "exec", "print(6 * 7)").strip() == "42"
    assert port.board.mode == APPLICATION


def test_esptool_refuses_an_image_for_another_chip(plug_in: PlugIn, tmp_path: Path) -> None:
    port = plug_in(chip="esp32c6")
    image = tmp_path / "image.bin"
    image.write_bytes(synthetic_image("esp32s3"))
    printed = tool("esptool", "--port", port.url, "write-flash", "0", str(image), fails=True)
    assert "not an ESP32-C6 image" in printed


def test_files_live_in_the_flash(plug_in: PlugIn, tmp_path: Path) -> None:
    port = plug_in()
    (tmp_path / "note.txt").write_text("in flash")
    tool("mpremote", "connect", port.url, "fs", "cp", str(tmp_path / "note.txt"), ":/note.txt")
    saved = tmp_path / "vfs.bin"
    tool("esptool", "--port", port.url, "read-flash", "0x200000", "0x10000", str(saved))
    tool("esptool", "--port", port.url, "erase-region", "0x200000", "0x200000")
    assert "note.txt" not in tool("mpremote", "connect", port.url, "fs", "ls")
    tool("esptool", "--port", port.url, "write-flash", "0x200000", str(saved))
    assert tool("mpremote", "connect", port.url, "fs", "cat", "note.txt") == "in flash"


def test_a_chip_that_was_erased_does_not_boot(plug_in: PlugIn) -> None:
    port = plug_in()
    tool("esptool", "--port", port.url, "erase-flash")
    with port.lock:
        port.board.reset(download=False)
    assert port.board.mode == DEAD


def test_mpremote_copies_resets_and_runs_what_boots(plug_in: PlugIn, tmp_path: Path) -> None:
    port = plug_in(over=SocketPort)
    (tmp_path / "main.py").write_text("import machine\nprint('main runs after', machine.reset_cause())\nX = 5\n")
    printed = tool(
        "mpremote", "connect", port.url, "fs", "cp", str(tmp_path / "main.py"), ":", "+", "fs", "sha256sum", "main.py"
    )
    assert len(printed.split()[-1]) == 64
    tool("mpremote", "connect", port.url, "reset")
    printed = tool("mpremote", "connect", port.url, "resume", "exec", "import machine; print(X, machine.reset_cause())")
    assert printed.split() == ["5", "2"], "a hard reset runs main.py, a resumed session sees what it left"


def power(directory: Path) -> Rfc2217Port:
    return Rfc2217Port(VirtualEsp32(directory, UnixBoard)).open()


@pytest.mark.slow
def test_dtr_and_rts_enter_and_leave_download_mode(tmp_path: Path) -> None:
    """Over RFC 2217, whose client takes 50 ms for each change of a timeout: the least that shows it."""
    port = power(tmp_path)
    try:
        printed = tool("esptool", "--port", port.url, "--no-stub", "read-mac")
        assert "02:00:00:00:00:01" in printed
        assert port.board.resets == [APPLICATION, DOWNLOAD, APPLICATION]
        assert tool("mpremote", "connect", port.url, "exec", "print(6 * 7)").strip() == "42"
    finally:
        port.close()


def test_power_fails_at_any_byte(tmp_path: Path) -> None:
    from qepa_tools.virtual_esp32.flash_chip import FlashChip, PowerLostError

    flash = FlashChip(tmp_path / "flash.bin")
    flash.fail_after = 10
    flash.program(0, b"12345678")
    with pytest.raises(PowerLostError):
        flash.program(8, b"abcdefgh")
    assert flash.read(0, 16) == b"12345678ab" + b"\xff" * 6
    flash.program(0, b"\x00")
    flash.program(0, b"\xff")
    assert flash.read(0, 1) == b"\x00", "programming clears bits and sets none"
    flash.erase(5, 1)
    assert flash.read(0, 4096) == b"\xff" * 4096
    flash.close()
