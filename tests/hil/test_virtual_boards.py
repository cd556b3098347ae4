"""`qepa board virtual`: boards of either kind behind ports that the real mpremote opens."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qepa_tools.board.virtual import KINDS, VirtualPlan, virtual_boards
from qepa_tools.errors import ToolError
from qepa_tools.fleet.runtime import FleetError, ensure_runtime

from .test_virtual_esp32 import tool


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "wasm":
        try:
            ensure_runtime()
        except FleetError as error:
            pytest.skip(f"BOARDS OF THE WEBASSEMBLY PORT ARE NOT TESTED HERE: {error}")
    return str(request.param)


def test_each_board_is_itself_and_its_flash_survives(kind: str, tmp_path: Path) -> None:
    plan = VirtualPlan(kind=kind, count=2, directory=tmp_path)
    (tmp_path / "note.txt").write_text("mine")
    with virtual_boards(plan) as (first, second):
        who = "import machine; print(machine.unique_id().hex())"
        assert tool("mpremote", "connect", first.url, "exec", who).strip() == "020000000001"
        assert tool("mpremote", "connect", second.url, "exec", who).strip() == "020000000002"
        tool("mpremote", "connect", first.url, "fs", "cp", str(tmp_path / "note.txt"), ":")
        assert "note.txt" not in tool("mpremote", "connect", second.url, "fs", "ls")
    with virtual_boards(plan) as (first, _):
        assert tool("mpremote", "connect", first.url, "fs", "cat", "note.txt") == "mine"


def test_esptool_and_mpremote_take_turns(kind: str, tmp_path: Path) -> None:
    with virtual_boards(VirtualPlan(kind=kind, directory=tmp_path, chip="esp32s3")) as (port,):
        assert "ESP32-S3" in tool("esptool", "--port", port.url, "flash-id")
        error = tool("mpremote", "connect", port.url, "exec", "print('before')\n1/0", fails=True)
        assert "before" in error
        assert "ZeroDivisionError" in error


def test_the_application_is_interrupted_by_the_console(kind: str, tmp_path: Path) -> None:
    with virtual_boards(VirtualPlan(kind=kind, directory=tmp_path)) as (port,):
        main = (
            "import asyncio\nN = 0\nopen('started', 'w').close()\n"
            "async def count():\n global N\n while True:\n  N += 1\n  await asyncio.sleep_ms(5)\nasyncio.run(count())\n"
        )
        (tmp_path / "main.py").write_text(main)
        tool("mpremote", "connect", port.url, "fs", "cp", str(tmp_path / "main.py"), ":", "+", "reset")
        deadline = time.monotonic() + 30
        while not list(tmp_path.rglob("started")):  # an interrupt that comes before it would be lost, as on a board
            assert time.monotonic() < deadline, "main.py does not start"
            time.sleep(0.05)
        counted = int(tool("mpremote", "connect", port.url, "resume", "exec", "print(N)"))
        assert counted > 0, "it ran"
        assert int(tool("mpremote", "connect", port.url, "resume", "exec", "print(N)")) == counted, "it was stopped"


def test_the_command_prints_where_its_boards_are(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qepa_tools.cli", "board", "virtual", "--count", "2", "--json"]
    with subprocess.Popen(
        [*command, "--dir", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            record = json.loads(process.stdout.readline())
            assert [Path(board["directory"]).name for board in record["boards"]] == ["001", "002"]
            assert tool("mpremote", "connect", record["boards"][1]["port"], "exec", "print(6 * 7)").strip() == "42"
        finally:
            process.terminate()
        assert process.wait(20) == 0


def test_a_kind_or_chip_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="choose one of unix, wasm"):
        VirtualPlan(kind="xtensa", directory=tmp_path)
    with pytest.raises(ToolError, match="choose one of esp32"):
        VirtualPlan(chip="esp8266", directory=tmp_path)
