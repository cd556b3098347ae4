"""After its rehearsal an end of a link compiles and loads no kernel any more; a signal ends it in the middle of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qepa_qkd.reconciliation import METHODS

PROGRAM = Path(__file__).with_name("rehearsed_link.py")


@pytest.mark.timeout(900)  # whoever comes first compiles
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


_CONFIG = """
link = "gw-1"
serial_port = "none"
initial_secret = "none"
listen = "127.0.0.1:0"
[store]
path = "keys.db"
kek = "keys.kek"
signing_key = "passport.key"
[kme]
listen = "127.0.0.1:0"
id = "kme-alice"
peer_id = "kme"
certificate = "none"
private_key = "none"
client_ca = "none"
sae = [{ master = "dock", slave = "gw-1" }]
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_end_that_still_compiles(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "alice.toml").write_text(_CONFIG)
    command = [sys.executable, "-m", "qepa_qkd.alice", "--config", str(tmp_path / "alice.toml")]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "nothing compiled")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as alice:
        assert alice.stderr is not None
        while "compiling frames" not in (line := alice.stderr.readline()):
            assert line
        alice.send_signal(number)
        said, errors = alice.communicate()
    assert (alice.returncode, said) == (0, "")
    assert "Traceback" not in errors
