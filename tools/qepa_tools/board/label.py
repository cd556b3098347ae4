"""A label to stick on a board: number, gateway, kind, and a QR code that says the same. No patient, no key."""

from html import escape
from pathlib import Path

import segno

from .inventory import KnownBoard

_QUIET, _MODULE_MM, _LINE_MM = 2, 0.5, 4.0


def label_text(board: KnownBoard) -> list[str]:
    """Lines of the label."""
    number = "not provisioned" if board.board is None else f"{board.board:08x}"
    lines = [f"QEPA board {number}", f"{board.target} {board.profile}".strip(), f"chip {board.id}"]
    return lines + ([f"gateway {board.gateway}"] if board.gateway else [])


def label_uri(board: KnownBoard) -> str:
    """What the QR code holds."""
    number = "" if board.board is None else f"{board.board:08x}"
    return f"qepa:board:{number}:{board.gateway}:{board.id}"


def write_label(board: KnownBoard, path: Path) -> None:
    """Write an SVG of about 50 by 20 mm."""
    code = segno.make_qr(label_uri(board), error="m")
    rows = list(code.matrix_iter(scale=1, border=_QUIET))
    side = len(rows) * _MODULE_MM
    lines = label_text(board)
    height = max(side, _LINE_MM * (len(lines) + 1))
    squares = "".join(
        f'<rect x="{x * _MODULE_MM}" y="{y * _MODULE_MM}" width="{_MODULE_MM}" height="{_MODULE_MM}"/>'
        for y, row in enumerate(rows)
        for x, dark in enumerate(row)
        if dark
    )
    texts = "".join(
        f'<text x="{side + 1}" y="{_LINE_MM * (i + 1)}" font-size="3" font-family="sans-serif">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    width = side + 48
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}mm" height="{height}mm" viewBox="0 0 {width} {height}">'
        f'<rect width="100%" height="100%" fill="white"/>{squares}{texts}</svg>\n'
    )
