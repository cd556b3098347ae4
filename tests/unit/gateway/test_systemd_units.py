"""The units in gateway/systemd start programs that there are, and forbid them nothing that they need."""

import shutil
import subprocess
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[3] / "gateway" / "systemd"


def unit(name):
    parser = ConfigParser(strict=False, interpolation=None)  # After= and Environment= may stand there twice
    parser.optionxform = str
    parser.read(UNITS / name)
    return parser


@pytest.mark.parametrize(
    ("name", "instances"), [("qepa-gateway.service", [""]), ("qepa-link@.service", ["alice", "bob"])]
)
def test_a_unit_starts_a_program_that_there_is(name, instances):
    service = unit(name)["Service"]
    for instance in instances:
        python, flag, module, option, config = service["ExecStart"].replace("%i", instance).split()
        assert (python, flag, option) == ("/opt/qepa/.venv/bin/python", "-m", "--config")
        assert find_spec(module) is not None
        assert config.startswith("/etc/qepa/")


def test_a_gateway_that_cannot_start_is_not_tried_again_a_link_end_is_whose_controller_may_come_later():
    assert unit("qepa-gateway.service")["Service"]["RestartPreventExitStatus"] == "2"
    link = unit("qepa-link@.service")
    assert "RestartPreventExitStatus" not in link["Service"]
    assert (link["Service"]["Restart"], link["Unit"]["StartLimitIntervalSec"]) == ("always", "0")


def test_only_the_unit_whose_program_compiles_may_make_code():
    assert unit("qepa-gateway.service")["Service"]["MemoryDenyWriteExecute"] == "yes"  # test_uplink_lighthe.py
    link = unit("qepa-link@.service")["Service"]
    assert "MemoryDenyWriteExecute" not in link
    assert link["Environment"] == f"NUMBA_CACHE_DIR=%C/{link['CacheDirectory']}"
    assert "PrivateDevices" not in link  # its controller is a serial port


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="NOT TESTED: systemd is not installed")
@pytest.mark.parametrize("name", ["qepa-gateway.service", "qepa-link@bob.service"])
def test_systemd_understands_every_line(tmp_path, name):
    source = UNITS / name.replace("bob", "")
    here = source.read_text().replace("/opt/qepa/.venv/bin/python", "/bin/true")
    (tmp_path / name).write_text(here)
    said = subprocess.run(["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True, check=False)
    assert [line for line in said.stderr.splitlines() if name in line] == []
