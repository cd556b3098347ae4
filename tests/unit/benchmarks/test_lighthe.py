"""`qepa bench lighthe`: what it compares gives the right sums, and what is missing is said."""

from array import array

import pytest

from qepa_tools.benchmarks import lighthe, machine, peers, unmasking
from qepa_tools.errors import ToolError


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    """One call each: figures are nobody's business here."""

    def once(operation, **_):
        operation()
        return 1e-3

    for module in (lighthe, machine, peers, unmasking):
        monkeypatch.setattr(module, "median_s", once)


def test_all_boards_of_all_sizes_are_unmasked_by_the_servers_own_code(monkeypatch, tmp_path):
    monkeypatch.setattr(unmasking, "SIZES", (100, 1500))
    monkeypatch.setattr(unmasking, "_PER_CELL", 1000)  # two sums for 1,500
    said = []
    rows = unmasking.growth(240, 1e9, 1e9, said.append)
    assert [row["boards"] for row in rows] == [100, 1500]
    assert rows[1]["machine_limit_ms"] == pytest.approx(1500 * 976 * 2e-6)
    assert len(said) == 2
    unmasking.plot(rows, tmp_path / "new" / "unmask.svg")
    assert b"<svg" in (tmp_path / "new" / "unmask.svg").read_bytes()


def test_lighthe_opens_the_sum_and_a_board_sends_a_thousand_bytes():
    rows = lighthe._lighthe()
    assert {row["bytes"] for row in rows} == {4 * 240 + 16}


def test_tenseal_gives_the_sum_where_it_is_installed():
    pytest.importorskip("tenseal", reason="NOT TESTED: TenSEAL has no wheel for this machine")
    rows = peers.tenseal(lighthe._VALUES, 30)
    assert [row["name"].split()[1] for row in rows] == ["CKKS", "CKKS", "BFV"]
    assert min(row["bytes"] for row in rows) > 15 * (4 * 240 + 16)


def test_a_wrong_sum_of_a_peer_is_no_result():
    pytest.importorskip("tenseal", reason="NOT TESTED: TenSEAL has no wheel for this machine")
    too_large = array("i", [30_000] * 240)  # thirty of them are beyond the plaintext modulus
    with pytest.raises(ToolError, match="wrong"):
        peers.tenseal(too_large, 30)


def test_a_peer_that_is_missing_is_named_with_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "flower_python", lambda: tmp_path / "no" / "python")
    monkeypatch.setattr(lighthe, "_paillier", list)
    monkeypatch.setattr(lighthe, "_tenseal", list)
    monkeypatch.setattr(unmasking, "SIZES", (100,))
    result = lighthe.run()
    assert result["missing"] == ["Flower is not installed: python -m qepa_tools.benchmarks.peers"]
    assert result["rows"][0]["times_slower"] == 1
