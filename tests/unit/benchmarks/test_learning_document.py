"""`qepa bench learning`: tables go where their marks are, a chapter's failure is its own, marks have chapters."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from qepa_tools.benchmarks import learning
from qepa_tools.benchmarks.learning import CHAPTERS, Chapter, chapter_of, marks, write
from qepa_tools.cli import app
from qepa_tools.errors import ToolError
from qepa_tools.recordings.table import Table

DOCUMENT = Path(__file__).parents[3] / "server" / "LEARNING.md"
TABLE = Table(title="Beats", columns=["class", "n"], rows=[["N", "3"], ["V", "1"]], notes=["Two classes."])
TEXT = "# Title\n\nBefore.\n\n<!-- beats: begin -->\nold\n<!-- beats: end -->\n\nAfter. \\1\n"


@pytest.fixture
def chapters(monkeypatch, tmp_path):
    """Two chapters, the first of which fails, and a directory that looks like recordings."""

    def fails(_data, _say):
        raise ValueError("no S beats")

    def beats(_data, say):
        say("counting")
        return Chapter(tables={"beats": TABLE}, figures={"beats.png": b"png"})

    for name, made in (("fails", fails), ("beats", beats)):
        module = ModuleType(f"chapter_{name}")
        module.chapter = made
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(learning, "CHAPTERS", {"fails": "chapter_fails", "beats": "chapter_beats"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "100.hea").touch()
    return tmp_path


def bench(folder, *more):
    result = CliRunner().invoke(app, ["bench", "learning", "--data", str(folder / "data"), *more])
    return result.exit_code, result.stdout, result.stderr


def test_a_table_replaces_what_is_between_its_marks_and_nothing_else(tmp_path):
    document = tmp_path / "LEARNING.md"
    document.write_text(TEXT)
    write(document, Chapter(tables={"beats": TABLE}, figures={"curve.png": b"png"}))
    text = document.read_text()
    assert text.startswith("# Title\n\nBefore.\n\n<!-- beats: begin -->\n**Beats**\n\n| class | n |\n")
    assert text.endswith("Two classes.\n<!-- beats: end -->\n\nAfter. \\1\n")
    assert (tmp_path / "learning" / "curve.png").read_bytes() == b"png"
    write(document, Chapter(tables={"beats": TABLE}))
    assert document.read_text() == text


def test_a_document_without_the_place_stays_as_it_is(tmp_path):
    document = tmp_path / "LEARNING.md"
    document.write_text(TEXT)
    with pytest.raises(ToolError, match="0 places for the table other"):
        write(document, Chapter(tables={"beats": TABLE, "other": TABLE}))
    assert document.read_text() == TEXT


def test_a_chapter_that_fails_says_so_and_the_others_go_on(chapters):
    document = chapters / "LEARNING.md"
    document.write_text(TEXT)
    code, out, said = bench(chapters, "--json", "--write", str(document))
    assert code == 1
    assert "Chapter fails failed: ValueError: no S beats" in said
    found = json.loads(out)
    assert found["beats"] == [{"class": "N", "n": "3"}, {"class": "V", "n": "1"}]
    assert found["failed"] == ["Chapter fails failed: ValueError: no S beats"]
    assert "| V | 1 |" in document.read_text()


def test_one_chapter_alone(chapters):
    code, out, _ = bench(chapters, "--json", "--chapter", "beats")
    assert (code, "failed" in json.loads(out)) == (0, False)
    code, out, said = bench(chapters, "--chapter", "lions")
    assert (code, out) == (2, "")
    assert "No chapter is called lions; there is: fails, beats." in said


def test_progress_counts_chapters(chapters):
    seen = []
    learning.run(lambda _what: None, chapters / "data", advanced=lambda done, every: seen.append((done, every)))
    assert seen == [(1, 2), (2, 2)]


def test_what_is_missing_is_said_in_a_sentence(chapters, monkeypatch):
    code, _, said = bench(chapters, "--write", str(chapters / "none.md"))
    assert (code, said.strip().count("\n")) == (2, 0)
    assert "There is no document" in said
    monkeypatch.setattr(learning, "find_data", lambda _directory: None)
    code, _, said = bench(chapters)
    assert code == 2
    assert "No recordings found: name the directory of MIT-BIH with --data." in said


@pytest.mark.parametrize(
    "text",
    ["<!-- a: begin -->", "<!-- a: begin --> <!-- b: begin --> <!-- b: end --> <!-- a: end -->", "<!-- a: end -->"],
)
def test_marks_come_in_pairs(text):
    with pytest.raises(ToolError, match="pairs"):
        marks(text)


def test_each_mark_of_the_document_is_of_one_chapter_and_each_chapter_has_marks():
    found = marks(DOCUMENT.read_text(encoding="utf-8"))
    assert len(set(found)) == len(found)
    assert {mark: chapter_of(mark) for mark in found if chapter_of(mark) is None} == {}, (
        "qepa bench learning makes none"
    )
    assert {chapter_of(mark) for mark in found} == set(CHAPTERS)
