"""The tables of hardware/bb84/PROTOCOL.md, made from the code: `python -m qepa_tools.bench.protocol_tables FILE`."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from qepa_wire import link_commands as commands
from qepa_wire import link_frames as frames


def with_tables(document: str) -> str:
    """Return `document` with what stands between `<!-- table NAME -->` and `<!-- end -->` made anew.

    Raises ValueError when a table has no place in it.
    """
    for name, table in tables().items():
        before, found, rest = document.partition(f"<!-- table {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not found or not end:
            raise ValueError(f"the document has no place for the table {name}")
        document = before + found + table + end + after
    return document


def tables() -> dict[str, str]:
    """Return each table as Markdown, by name."""
    return {
        "frames": _table(
            ("kind", "name", "direction", "payload"),
            ((f"{kind:02x}", name, direction, payload) for kind, name, direction, payload in frames.KINDS),
        ),
        "commands": _table(
            ("command", "controller", "answer after `OK`", "meaning"),
            ((f"`{text}`", _roles(roles), answer, meaning) for text, roles, answer, meaning in commands.COMMANDS),
        ),
        "settings": _table(
            ("setting", "controller", "values", "default", "unit", "meaning"),
            (
                (f"`{s.name}`", _roles(s.roles), _values(s), f"`{s.default}`", s.unit, s.meaning)
                for s in commands.SETTINGS
            ),
        ),
        "errors": _table(("number", "meaning"), ((str(code), meaning) for code, meaning in commands.ERRORS)),
    }


def _roles(roles: Sequence[str]) -> str:
    return "both" if len(roles) == len(commands.BOTH) else roles[0]


def _values(setting: commands.Setting) -> str:
    if setting.words:
        return " or ".join(f"`{word}`" for word in setting.words)
    low, high = (commands.unscaled(x, setting.digits) for x in (setting.lowest, setting.highest))
    return f"{setting.count} from {low} to {high}" if setting.count > 1 else f"{low} to {high}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text()))
