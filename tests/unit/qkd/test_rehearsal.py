"""After its rehearsal an end of a link compiles and loads no kernel any more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qepa_qkd.reconciliation import METHODS

PROGRAM = Path(__file__).with_name("rehearsed_link.py")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_block_needs_no_kernel_that_was_not_rehearsed(method: str, tmp_path: Path) -> None:
    # A process of its own: in this one other tests may have loaded what the rehearsal forgets.
    command = [sys.executable, str(PROGRAM), method, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["reason"] is None
    assert said["kernels"] > 20
    assert said["left_out"] == []
    assert said["later"] == {}
