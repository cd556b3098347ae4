"""A test that fails shows what its programs said, also when it is ended because it took too long."""

import shutil
import subprocess
import sys
from pathlib import Path

TESTS = """
import os
import signal
import subprocess
import sys

PROGRAM = "import sys, time; print(sys.argv[1], file=sys.stderr, flush=True); print(1, flush=True); time.sleep(600)"

def start(folder, says):
    with (folder / "program.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, says], stdout=subprocess.PIPE, stderr=log)
    process.stdout.readline()
    return process

def test_that_passes(tmp_path):
    start(tmp_path, "all is well").kill()
    os.utime(tmp_path / "program.log", (0, 0))

def test_that_waits_for_ever(tmp_path):
    process = start(tmp_path, "x" * 9000 + "the key is missing")
    signal.setitimer(signal.ITIMER_REAL, 0.1)  # the limit's, which comes early
    try:
        process.stdout.read()
    finally:
        process.kill()
"""


def test_the_ends_of_the_programs_logs_are_in_the_report(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "--timeout=250", "-p", "no:cacheprovider"]
    said = subprocess.run(
        [*command, f"--rootdir={tmp_path}", str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    ).stdout
    assert "Timeout" in said
    assert "end of test_that_waits_for_ever0/program.log" in said
    assert "the key is missing" in said
    assert "x" * 3000 not in said
    assert "all is well" not in said
