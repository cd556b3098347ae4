"""The history of a link end: bounded, readable after a crash, never a reason to stop; what commands read from it."""

from pathlib import Path

import pytest

from qepa_qkd.distillation import BlockOutcome
from qepa_qkd.history import History, behind_pseudo_terminal, history_path, read_history
from qepa_tools.link.monitor import block_records

GOOD = BlockOutcome(1, 0.01, 0.012, 20_000, None, 120_000)
ALARMED = BlockOutcome(2, None, 0.5, 0, "blinding alarm: no coincidences", 0)


def test_blocks_come_back_with_the_time_since_the_one_before(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    history.started(100.0, simulated=True)
    history.block(104.0, GOOD, 20_000)
    history.block(108.5, ALARMED, 20_000)
    history.started(200.0, simulated=False)
    history.block(203.0, GOOD, 40_000)
    first, second, third = block_records(read_history(tmp_path / "h"))
    assert (first.seconds, second.seconds, third.seconds) == (None, 4.5, None)
    assert (first.simulated, third.simulated) == (True, False)
    assert (first.qber_key, first.qber_test, first.key_bits, first.stock_bits) == (0.01, 0.012, 20_000, 20_000)
    assert (second.qber_key, second.qber_test, second.reason) == (None, None, "blinding alarm: no coincidences")


def test_a_line_that_a_crash_cut_is_left_out(tmp_path: Path) -> None:
    history = History(tmp_path / "h")
    history.block(1.0, GOOD, 1)
    with (tmp_path / "h").open("a") as file:
        file.write('{"t": 2.0, "what": "blo\n[1]\n')
    history.block(3.0, GOOD, 2)
    assert [entry["t"] for entry in read_history(tmp_path / "h")] == [1.0, 3.0]


def test_it_never_grows_beyond_two_files(tmp_path: Path) -> None:
    history = History(tmp_path / "h", most_bytes=2_000)
    for second in range(200):
        history.block(float(second), GOOD, second)
    times = [entry["t"] for entry in read_history(tmp_path / "h")]
    assert times == [float(second) for second in range(200 - len(times), 200)]
    assert len(times) > 10
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 5_000


def test_a_disk_that_takes_nothing_is_logged_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    History(tmp_path / "missing/h").block(1.0, GOOD, 1)
    assert "history cannot be written" in caplog.text


def test_it_lies_beside_the_store(tmp_path: Path) -> None:
    assert history_path(tmp_path / "keys.db") == tmp_path / "keys.history.jsonl"


def test_a_pseudo_terminal_is_told_from_a_port_through_any_name(tmp_path: Path) -> None:
    (tmp_path / "transmitter").symlink_to("/dev/pts/0")
    (tmp_path / "real").symlink_to("/dev/ttyACM0")
    assert behind_pseudo_terminal(tmp_path / "transmitter")
    assert not behind_pseudo_terminal(tmp_path / "real")
