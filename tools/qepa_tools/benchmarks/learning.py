"""``qepa bench learning``: every table and figure of server/LEARNING.md, made anew from the recordings.

The document keeps its prose. What is measured stands between marks and is replaced. NAME is the chapter's, or begins
with it and a dash:

    <!-- NAME: begin -->
    table
    <!-- NAME: end -->
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from ..errors import ToolError
from ..recordings.places import find_data
from ..recordings.table import Table

Say = Callable[[str], None]
Advanced = Callable[[int, int], None]

CHAPTERS: Mapping[str, str] = {  # in the order of the document: chapter, module with `chapter(data, say) -> Chapter`
    "beats": "qepa_tools.evaluation.chapter",
    "ways": "qepa_tools.evaluation.study",
    "explanations": "qepa_tools.explanation.chapter",
    "drift": "qepa_tools.explanation.drift_chapter",
    "federated-protection": "qepa_tools.federated.protection",
    "federated-start": "qepa_tools.federated.starts",
    "federated-hostile": "qepa_tools.federated.hostile",
    "federated-bounds": "qepa_tools.federated.bounds",
    "bedside": "qepa_tools.training.bedside_chapter",
    "activity": "qepa_tools.training.activity_chapter",
    "glucose": "qepa_tools.training.glucose_chapter",
    "privacy": "qepa_tools.leakage.chapter",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """tables: by the name of their marks. figures: PNG by file name, kept in server/learning/."""

    tables: Mapping[str, Table]
    figures: Mapping[str, bytes] = field(default_factory=dict)


def run(
    say: Say,
    data: Path | None = None,
    document: Path | None = None,
    only: str = "",
    advanced: Advanced = lambda _done, _all: None,
) -> dict[str, object]:
    """Make all chapters, or one; with ``document`` its tables and figures are replaced. ToolError without recordings.

    ``data``: a folder with mitdb (default: where recordings are looked for). A chapter that fails does not stop the
    others: ``failed`` holds a sentence for each. ``advanced(done, all)`` is called after each chapter.
    """
    found = find_data(data)
    if found is None:
        raise ToolError("No recordings found: name the directory of MIT-BIH with --data.")
    if only and only not in CHAPTERS:
        raise ToolError(f"No chapter is called {only}; there is: {', '.join(CHAPTERS)}.")
    if document is not None and not document.is_file():
        raise ToolError(f"There is no document {document} to write to.")
    result: dict[str, object] = {"what": "learning"}
    failed: list[str] = []
    wanted = [only] if only else list(CHAPTERS)
    for done, name in enumerate(wanted, start=1):
        say(name)
        try:
            chapter: Chapter = import_module(CHAPTERS[name]).chapter(found, say)
            for mark, table in chapter.tables.items():
                result[mark] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
            if document is not None:
                write(document, chapter)
        except Exception as error:  # whatever it is: hours of other chapters must not be lost by it
            why = str(error) if isinstance(error, ToolError) else f"{type(error).__name__}: {error}"
            failed.append(f"Chapter {name} failed: {why}")
        advanced(done, len(wanted))
    return {**result, "failed": failed} if failed else result


def marks(text: str) -> list[str]:
    """Return the names of the places for tables in a document; ToolError for a mark without its other end."""
    found = re.findall(r"<!-- ([\w-]+): (begin|end) -->", text)
    begins, ends = found[::2], found[1::2]
    if [(name, "end") for name, _ in begins] != ends or any(what != "begin" for _, what in begins):
        raise ToolError("The marks of a document must come in pairs, begin and end, none inside another.")
    return [name for name, _ in begins]


def chapter_of(mark: str) -> str | None:
    """Return the chapter that makes the table at ``mark``; None if none does."""
    fitting = [name for name in CHAPTERS if mark == name or mark.startswith(name + "-")]
    return max(fitting, key=len, default=None)


def write(document: Path, chapter: Chapter) -> None:
    """Replace a chapter's tables and figures; ToolError where the document has no place for a table."""
    text = document.read_text(encoding="utf-8")
    for mark, table in chapter.tables.items():
        begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        body = f"{begin}\n{table.markdown().rstrip()}\n{end}"
        text, places = pattern.subn(lambda _: body, text)  # noqa: B023  # called at once
        if places != 1:
            raise ToolError(f"{document} has {places} places for the table {mark}, not one.")
    folder = document.with_suffix("")
    folder = folder.with_name(folder.name.lower())
    for file, png in chapter.figures.items():
        folder.mkdir(exist_ok=True)
        (folder / file).write_bytes(png)
    document.write_text(text, encoding="utf-8")
