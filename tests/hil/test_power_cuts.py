"""A real interpreter is killed at each change of its flash while the dock provisions it; half a write is in flash then.

What a file system of the host keeps of it is not what LittleFS would: that one shows a file only once it is closed.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qepa_board.keys.counters import Counters
from qepa_board.system.flash import Flash
from qepa_tools.unix_port.board import UnixBoard
from qepa_tools.virtual_esp32.flash_chip import PowerLostError

from ..unit.board_app.test_provisioning import FLOORS, MOVED, OLD, SEALED, at_work, blank, stored, without_counters
from .conftest import Flashed, Hospital, Qepa, Releases
from .test_life import OLD as BOARD
from .test_life import provision, qepa_file, status

DOCK = "from qepa_boot.loader import attach; attach()\nfrom qepa_board.system import dock\ndock."
RAW = b"raw REPL; CTRL-B to exit\r\n>"


class Console:
    """A board's raw REPL without a host's tools in between."""

    def __init__(self, files: Path, cut_at: int | None) -> None:
        self._board = UnixBoard(files, cut_at=cut_at)
        self._printed = b""

    def dock(self, call: str) -> dict[str, Any] | None:
        """The answer to a call of the dock on a fresh interpreter, None if the power failed."""
        try:
            self._await(b">>> ")
            self._type(b"\x01\x04", b"soft reboot")
            self._await(RAW)
            printed = self._type(DOCK.encode() + call.encode() + b"\x04", b"\x04>")
        except PowerLostError:
            return None
        finally:
            self._board.close()
        answer, error = printed.removeprefix(b"OK").split(b"\x04")[:2]
        assert not error, error.decode()
        record: dict[str, Any] = json.loads(answer.splitlines()[-1])
        return record

    def _type(self, data: bytes, end: bytes) -> bytes:
        self._board.write(data)
        return self._await(end)

    def _await(self, end: bytes, timeout_s: float = 60) -> bytes:
        deadline = time.monotonic() + timeout_s
        while end not in self._printed:
            assert time.monotonic() < deadline, self._printed
            time.sleep(0.005)
            self._printed += self._board.read()
        before, _, self._printed = self._printed.partition(end)
        return before + end


@pytest.fixture
def lay_out(tmp_path: Path, releases: Releases) -> Iterator[Callable[..., tuple[Path, Flash]]]:
    """Makes a board's files: the firmware, and what one of the states of test_provisioning has in flash."""
    for path, content in releases.first.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)

    def make(state: Callable[[Flash], None]) -> tuple[Path, Flash]:
        files = tmp_path / "files"
        shutil.rmtree(files, ignore_errors=True)
        files.mkdir()
        for name in ("lib", "qepa_boot"):
            (files / name).symlink_to(tmp_path / name)
        flash = Flash(str(files / "qepa"))
        state(flash)
        return files, flash

    return make


@pytest.mark.parametrize(
    ("state", "identity", "changes", "least_round"),
    [
        (blank, OLD, 6, 0),
        (at_work, MOVED, 5, SEALED),
        (without_counters, MOVED | {"floors": FLOORS}, 9, FLOORS["round"]),
    ],
)
def test_an_interpreter_killed_at_any_change_leaves_an_identity_whole_or_absent_and_the_dock_finishes(
    lay_out: Callable[..., tuple[Path, Flash]],
    state: Callable[[Flash], None],
    identity: dict[str, Any],
    changes: int,
    least_round: int,
) -> None:
    call = f"provision({json.dumps(identity)!r})"
    for moment in range(1, changes + 2):
        files, flash = lay_out(state)
        old, had_round = stored(flash)
        answer = Console(files, moment).dock(call)
        assert (answer is None) == (moment <= changes)
        now, round_ = stored(flash)
        assert now in (None, old, identity)
        assert had_round is None or (round_ is not None and round_ >= had_round)
        assert now != old or old is None or round_ == had_round, "an old end key has the counters that it had"
        again = Console(files, None).dock(call)
        assert again is not None
        assert again["ok"], again
        now, round_ = stored(flash)
        assert now == identity
        assert round_ >= least_round
        assert not [name for name in flash.names() if name.endswith(".new")]


def test_a_board_that_lost_power_while_it_was_provisioned_is_provisioned_by_the_same_command(
    flashed: Flashed, qepa: Qepa, hospital: Hospital
) -> None:
    cuts: list[int] = []
    port = flashed(cuts=cuts)
    cuts.append(5)  # in the middle of its identity
    port.unplug()
    port.plug()
    assert "does not answer" in provision(qepa, hospital, port, BOARD, code=2)
    assert not (port.board.files / "qepa" / "identity.json").exists()
    port.plug()
    provision(qepa, hospital, port, BOARD)
    assert bytes.fromhex(json.loads(qepa_file(port, "identity.json"))["end_key"]) == hospital.end_key(BOARD)
    assert status(port)["provisioned"]
    Counters.load(Flash(str(port.board.files / "qepa")))
