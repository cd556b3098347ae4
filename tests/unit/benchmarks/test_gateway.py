"""`qepa bench gateway` with the real broker and the real daemon, at a size that any machine can do."""

import pytest

from qepa_tools.benchmarks import bench_broker, gateway
from qepa_tools.errors import ToolError
from qepa_tools.ward.mosquitto import find_mosquitto


@pytest.mark.skipif(find_mosquitto() is None, reason="NOT TESTED: mosquitto is not installed")
def test_every_frame_is_acknowledged_and_counted(monkeypatch):
    for name, size in {"BOARDS": 6, "VECTOR_BOARDS": 48, "FRAMES": 300, "ROUNDS": 1, "LATENCY_FRAMES": 100}.items():
        monkeypatch.setattr(gateway, name, size)
    said = []
    result = gateway.run(said.append)
    assert [row["frames"] for row in result["rows"]] == [300, 96]
    assert all(row["frames_per_s"] > 0 and row["share_of_bare_broker"] > 0 for row in result["rows"])
    for latency in result["latency"]:
        assert 0 < latency["p50_ms"] <= latency["p99_ms"] <= latency["worst_ms"]
    assert [latency["frames"] for latency in result["latency"]] == [100, 25]
    assert result["disk_commits_per_s"] > 0
    assert "the bare broker" in said


def test_without_mosquitto_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(bench_broker, "find_mosquitto", lambda: None)
    with pytest.raises(ToolError, match="apt install mosquitto"):
        gateway.run()
