"""`qepa simulate`: the true server, gateways and broker with light boards; a small hospital, two rounds, noise on."""

import json
import subprocess
import sys

import pytest


def simulate(folder, *options):
    """Run the command; returns (status, figures, what it said)."""
    command = [sys.executable, "-m", "qepa_tools.cli", "simulate", "--json", "--out", str(folder), *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    return run.returncode, json.loads(run.stdout or "{}"), run.stderr


@pytest.mark.timeout(300)
def test_a_small_hospital_with_a_privacy_budget(tmp_path):
    folder = tmp_path / "run"
    size = ["--boards", "60", "--gateways", "3", "--patients", "12", "--rounds", "2", "--period", "1"]
    status, found, said = simulate(folder, *size, "--epsilon", "8", "--collect", "60", "--settle", "60")
    assert status == 0, said or found
    assert found["simulated"]
    assert [each["state"] for each in found["rounds"]] == ["done", "done"]
    assert all(each["contributors"] == 60 for each in found["rounds"])
    assert all(each["summed"] == each["exact"] == 2 for each in found["rounds"])
    for spent in found["privacy"].values():
        assert spent["patients"] == 12
        assert 0 < spent["spent_epsilon_most"] <= spent["budget_epsilon"] == 8
    assert (folder / "simulation.html").read_text().count("data:image/png") == 2
    assert simulate(folder, *size)[0] == 2  # a folder that is not empty


def test_what_makes_no_hospital_is_said_in_one_sentence(tmp_path):
    status, _, said = simulate(tmp_path / "run", "--boards", "3")
    assert status == 2
    assert said.startswith("qepa: --patients must be 1 to 3")
