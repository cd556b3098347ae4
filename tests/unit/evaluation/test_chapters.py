"""The chapters of `qepa bench learning` on beats: tables and a figure, whatever the recordings."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qepa_tools.benchmarks.learning import CHAPTERS
from qepa_tools.evaluation import chapter, study
from qepa_tools.evaluation.fitting import FitSettings
from qepa_tools.evaluation.ways import Softmax, Way


@pytest.fixture
def people(tmp_path: Path, write_record: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six people of 15 s each."""
    monkeypatch.setattr(chapter, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(study, "CACHE", tmp_path / "cache")
    for k in range(6):
        write_record(tmp_path, f"p{k}", symbols="NNNVNNS", seconds=15)
    return tmp_path


def test_the_documents_chapters_are_these() -> None:
    assert CHAPTERS["beats"] == chapter.__name__
    assert CHAPTERS["ways"] == study.__name__


def test_beats_alarms_and_calibration(people: Path) -> None:
    said: list[str] = []
    made = chapter.chapter(people, said.append)
    assert set(made.tables) == {"beats", "beats-alarms", "beats-calibration"}
    assert made.tables["beats"].columns[-1].endswith("INFLATED")
    assert all(len(row) == len(table.columns) for table in made.tables.values() for row in table.rows)
    assert made.figures["beats-alarms.png"].startswith(b"\x89PNG")
    assert len(said) == len(set(said)) == 3


def test_ways_are_told_as_they_are_judged(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "ways", lambda: [Way("one", Softmax(FitSettings())), Way("two", Softmax(FitSettings()))])
    said: list[str] = []
    table = study.chapter(people, said.append).tables["ways"]
    assert said == [row[0] for row in table.rows] == ["one", "two"]
    assert table.rows[0][2:] == table.rows[1][2:]
