"""A table of figures: for reading in a terminal, or as Markdown for a document."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text under columns. notes: what a reader must know, one sentence each; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Aligned columns, the first to the left."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[k]) for line in lines) for k in range(len(self.columns))]
        body = [
            "  ".join(
                [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
            )
            for line in lines
        ]
        return "\n".join([self.title, *body, *self.notes])

    def markdown(self) -> str:
        """A pipe table under its title, notes below."""
        lines = [f"| {' | '.join(line)} |" for line in (self.columns, ["---"] * len(self.columns), *self.rows)]
        return "\n".join([f"**{self.title}**", "", *lines, "", *self.notes])


def percent(part: float, whole: float, digits: int = 1) -> str:
    """A share in percent, a dash where there is nothing to divide by."""
    return f"{100 * part / whole:.{digits}f}" if whole else "-"


def number(value: float | None, digits: int = 1) -> str:
    """A number, a dash where there is none; what rounds to zero has no sign."""
    if value is None or value != value:  # noqa: PLR0124  not a number
        return "-"
    return f"{round(value, digits) + 0.0:.{digits}f}"
