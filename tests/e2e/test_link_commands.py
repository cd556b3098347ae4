"""`qepa link` as its users run it, on a virtual bench: keys made, aligned, replayed, attacked, reported."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

QEPA = [sys.executable, "-m", "qepa_tools.cli"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def qepa(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [*QEPA, "link", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    return done


def document(*arguments: object, code: int = 0) -> dict[str, Any]:
    return dict(json.loads(qepa(*arguments, "--json", code=code).stdout))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder in which a link ran until two blocks gave key, recorded, and what the command said."""
    folder = tmp_path_factory.mktemp("link") / "bench"
    said = document("run", folder, "--blocks", 2, "--record", folder.with_name("bench.qrec"))
    return folder, said


def test_a_run_makes_key_says_that_it_is_simulated_and_saves_plots(ran: tuple[Path, dict[str, Any]]) -> None:
    _, said = ran
    assert said["simulated"]
    assert said["blocks"] >= 2
    assert said["key_bits"] > 10_000
    assert 0.005 < said["qber_key"] < 0.03
    assert said["alarms"] == {}
    assert [Path(name).suffix for name in said["plots"]] == [".png", ".svg"] * 2
    assert all(Path(name).stat().st_size > 1000 for name in said["plots"])


def test_a_report_verifies_the_passports_of_a_run(ran: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, said = ran
    for end in (folder, folder / "bob.toml"):
        numbers = document("report", end, "-o", tmp_path / "page.html")
        with_key = said["blocks"] - said["blocks_without_key"]
        # A block may still end while the programs are told to.
        assert with_key <= numbers["passports_verified"] <= with_key + 1
        assert numbers["passports_rejected"] == []
    assert (tmp_path / "page.html").read_text().count("<svg") >= 4


def test_a_recording_gives_key_again(ran: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = ran
    said = document("replay", folder.with_name("bench.qrec"), "--block-bits", 60_000)
    assert said["ending"] == "bench.qrec is complete"
    assert said["blocks"] >= 1
    assert 0.005 < said["qber_test"] < 0.03


def test_alignment_shows_the_misalignment_of_the_bench() -> None:
    said = document("align", "--seconds", 5, "--bench", "misalignment=0.1")
    assert said["visibility_hv"] == pytest.approx(0.8, abs=0.05)
    assert said["visibility_da"] == pytest.approx(0.8, abs=0.05)
    assert said["rates_hz"]["H"] > 2 * said["rates_hz"]["D"] > 0


def test_alignment_works_with_a_tdc1_too() -> None:
    said = document("align", "--seconds", 12, "--receiver-device", "tdc1", "--bench", "misalignment=0.1")
    assert said["visibility_hv"] == pytest.approx(0.8, abs=0.05)
    assert said["visibility_da"] == pytest.approx(0.8, abs=0.05)


def test_an_attacker_is_noticed_and_key_returns_when_he_leaves() -> None:
    (verdict,) = document("attack", "intercept-resend fraction=0.5", "--blocks", 1)["attacks"]
    assert verdict["outcome"] == "stopped"
    assert verdict["during"]["with_key"] == 0
    assert verdict["during"]["qber_test"] == pytest.approx(0.13, abs=0.03)
    assert any(alarm.startswith("QBER") for alarm in verdict["alarms"])
    assert verdict["recovered_after_s"] is not None


def test_ctrl_c_ends_all_programs_and_still_reports(tmp_path: Path) -> None:
    command = [*QEPA, "link", "run", str(tmp_path / "bench"), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 90
    while len(psutil.Process(process.pid).children(recursive=True)) < 3 and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "blocks" in json.loads(out)
    assert not [child for child in children if child.is_running()]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("run", "x", "--transmitter", "/dev/null"), "neither"),
        (("run", "x", "--bench", "fog=1"), "fog"),
        (("attack", "sabotage"), "no attacker 'sabotage'"),
        (("attack", "none"), "no attack"),
        (("report", "nowhere.toml"), "cannot be read"),
        (("replay", "nowhere.qrec"), "cannot be read"),
        (("align", "--transmitter", "/dev/nothing", "--receiver", "/dev/null"), "no serial port"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence_and_status_2(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    paths = [str(tmp_path / a) if a == "x" or a.startswith("nowhere") else a for a in arguments]
    done = qepa(*paths, code=2)
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
