"""One HTML file of a report: headings, sentences, figures, tables, and pictures inside it."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from .recordings.table import Table

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 940px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 1.8rem 0 .3rem; }
p, figcaption { color: #444; margin: .3rem 0; } figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
svg { width: 100%; height: auto; }
.note, .bad { padding: .4rem .8rem; color: #1a1a1a; border-left: 4px solid; white-space: pre-line; }
.note { background: #fff3cd; border-color: #e69f00; } .bad { background: #fde2d5; border-color: #d55e00; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: .8rem; }
dt { color: #666; font-size: .85rem; } dd { margin: 0; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { text-align: right; padding: .25rem .5rem; border-bottom: 1px solid #e3e3e3; }
th:first-child, td:first-child { text-align: left; } th { color: #666; font-weight: 500; }
"""


def heading(text: str) -> str:
    """Of what is below it; a table brings its own."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, *, note: bool = False) -> str:
    """One sentence or more; note: what nobody may overlook."""
    return f'<p class="note">{escape(text)}</p>' if note else f"<p>{escape(text)}</p>"


def fault(text: str) -> str:
    """What is wrong; its line breaks stay."""
    return f'<p class="bad">{escape(text)}</p>'


def figures(named: Iterable[tuple[str, str]]) -> str:
    """Names and their values, side by side."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in named)
    return f"<dl>{cells}</dl>"


def section(table: Table) -> str:
    """A table under its title, notes below."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    notes = "".join(paragraph(note) for note in table.notes)
    body = row(table.columns, "th") + "".join(row(cells, "td") for cells in table.rows)
    return f'{heading(table.title)}<div class="wide"><table>{body}</table></div>{notes}'


def illustration(png: bytes, caption: str) -> str:
    """A picture with its caption."""
    image = base64.b64encode(png).decode()
    return drawing(f'<img alt="{escape(caption)}" src="data:image/png;base64,{image}">', caption)


def drawing(svg: str, caption: str) -> str:
    """An SVG element with its caption."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def page(title: str, parts: Iterable[str], headline: str | None = None) -> str:
    """The whole file; parts are HTML, made by the functions above. headline: where it is not the title."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join([f"<h1>{escape(headline or title)}</h1>", *parts])
        + "\n</body></html>\n"
    )
