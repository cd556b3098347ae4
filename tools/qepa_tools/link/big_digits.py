"""Digits that can be read from the other end of a bench."""

from typing import Final

_GLYPHS: Final = {
    "0": ("███", "█ █", "█ █", "█ █", "███"),
    "1": (" █ ", "██ ", " █ ", " █ ", "███"),
    "2": ("███", "  █", "███", "█  ", "███"),
    "3": ("███", "  █", "███", "  █", "███"),
    "4": ("█ █", "█ █", "███", "  █", "  █"),
    "5": ("███", "█  ", "███", "  █", "███"),
    "6": ("███", "█  ", "███", "█ █", "███"),
    "7": ("███", "  █", "  █", "  █", "  █"),
    "8": ("███", "█ █", "███", "█ █", "███"),
    "9": ("███", "█ █", "███", "  █", "███"),
    ".": (" ", " ", " ", " ", "█"),
    "-": ("   ", "   ", "███", "   ", "   "),
    "%": ("█   █", "   █ ", "  █  ", " █   ", "█   █"),
    " ": ("  ", "  ", "  ", "  ", "  "),
}


def big(text: str) -> str:
    """Return `text`, made of digits, point, minus, per cent and blanks, five lines high."""
    return "\n".join("  ".join(_GLYPHS[c][row] for c in text) for row in range(5))
