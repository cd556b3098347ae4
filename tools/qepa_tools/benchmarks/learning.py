"""``qepa bench learning``: every table and figure of server/LEARNING.md, made anew from the recordings.

The document keeps its prose. What is measured stands between marks and is replaced:

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

CHAPTERS: Mapping[str, str] = {}  # in the order of the document: chapter, module with `chapter(data, say) -> Chapter`


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """tables: by the name of their marks. figures: PNG by file name, kept in server/learning/."""

    tables: Mapping[str, Table]
    figures: Mapping[str, bytes] = field(default_factory=dict)


def run(say: Say, data: Path | None = None, document: Path | None = None, only: str = "") -> dict[str, object]:
    """Make all chapters, or one; with ``document`` its tables and figures are replaced. ToolError without recordings.

    ``data``: a folder with mitdb (default: where recordings are looked for).
    """
    found = find_data(data)
    if found is None:
        raise ToolError("No recordings found: name the directory of MIT-BIH with --data.")
    if only and only not in CHAPTERS:
        raise ToolError(f"No chapter is called {only}; there is: {', '.join(CHAPTERS)}.")
    result: dict[str, object] = {"what": "learning"}
    for name in [only] if only else CHAPTERS:
        say(name)
        chapter: Chapter = import_module(CHAPTERS[name]).chapter(found, say)
        for mark, table in chapter.tables.items():
            result[mark] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        if document is not None:
            write(document, chapter)
    return result


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
