"""An explanation as one HTML page, its pictures inside."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from qepa_tools.explanation.story import METHOD, Story, clock, margin, signed, warnings
from qepa_tools.recordings.recording import AAMI_CLASSES
from qepa_tools.recordings.table import Table

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 860px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 1.6rem 0 .3rem; }
p { color: #444; margin: .3rem 0; } img { max-width: 100%; height: auto; }
.note { background: #fff3cd; border-left: 4px solid #e69f00; padding: .4rem .8rem; color: #1a1a1a; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #e3e3e3; }
th:first-child, td:first-child { text-align: left; } th { color: #666; font-weight: 500; }
"""
_NOTE = (
    "Not a medical device. This says what the model's answer rests on, not whether it is right, and not what causes "
    "what in the heart. "
)


def write_beat(story: Story, picture: bytes, directory: Path) -> Path:
    """Write the page and the picture of a beat into a directory, made if it is not there; returns the page's path."""
    setting = story.setting
    name = f"{setting.case.recording.id}-{story.number}" + ("" if setting.measured_by == "board" else "-bedside")
    why = story.why
    title = f"Record {story.setting.case.recording.id}, beat {story.number} at {clock(story.at_s)}: {why.answer}"
    chances = ", ".join(f"{class_} {100 * p:.0f} %" for class_, p in why.probabilities.items())
    others = [_against_n(story, class_) for class_ in AAMI_CLASSES[1:3]]
    table = Table(
        title=f"Why {why.answer} and not {why.rival}",
        columns=[
            f"what the {setting.measured_by} measured",
            "feature",
            f"for {why.answer}, not {why.rival}",
            "S, not N",
            "V, not N",
        ],
        rows=[[r.phrase, r.feature, margin(r), *(signed(other[r.feature]) for other in others)] for r in why.reasons],
        notes=[
            f"In {why.unit}. An average beat of the background starts at {signed(why.start)}, this one ends at "
            f"{signed(why.lead)}: above 0 {why.answer} is likelier than {why.rival}."
        ],
    )
    said = [
        f"Annotated {story.annotated}. Probabilities, not calibrated: {chances}.",
        f"By {story.setting.how}. Compared with {story.setting.compared}.",
    ]
    warned = [*warnings(story), _NOTE + setting.method]
    return _write(directory, name, title, said, warned, picture, [table])


def write_summary(tables: Sequence[Table], picture: bytes, directory: Path) -> Path:
    """Write the page and the picture of what models look at on the whole."""
    return _write(directory, "summary", "What the beat classifier looks at", [], [_NOTE + METHOD], picture, tables)


def _against_n(story: Story, class_: str) -> dict[str, float]:
    found = story.why.contributions
    c = AAMI_CLASSES.index(class_)
    return dict(zip(story.setting.names, found[c] - found[0], strict=True))


def _write(
    directory: Path, name: str, title: str, said: Sequence[str], warned: Sequence[str], picture: bytes,
    tables: Sequence[Table],
) -> Path:  # fmt: skip
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.png").write_bytes(picture)
    image = base64.b64encode(picture).decode()
    parts = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(text)}</p>" for text in said)]
    parts += [f'<p class="note">{escape(text)}</p>' for text in warned]
    parts.append(f'<img alt="{escape(title)}" src="data:image/png;base64,{image}">')
    parts += [f"<h2>{escape(table.title)}</h2>{_html(table)}" for table in tables]
    page = directory / f"{name}.html"
    page.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n",
        encoding="utf-8",
    )
    return page


def _html(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = row(table.columns, "th") + "".join(row(cells, "td") for cells in table.rows)
    return f'<div class="wide"><table>{body}</table></div>' + "".join(f"<p>{escape(n)}</p>" for n in table.notes)
