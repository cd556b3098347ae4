"""The last crashes, one line each: which slot, which exception, where. Never its message, which may hold anything."""

import io
import sys

FILE = "crashes"
LINES = 4
_LINE_CHARS = 120


def print_exception(error, file=sys.stdout):
    """The traceback of ``error``, on both interpreters."""
    if hasattr(sys, "print_exception"):
        sys.print_exception(error, file)
    else:
        import traceback  # noqa: PLC0415  CPython

        traceback.print_exception(error, file=file)


def describe(error):
    """Class of ``error`` and where it was raised, such as "ValueError in qepa_board/app.py, line 7, in push"."""
    text = io.StringIO()
    print_exception(error, text)
    places = [line.strip() for line in text.getvalue().split("\n") if line.strip().startswith("File ")]
    where = places[-1][5:].replace('"', "") if places else "an unknown place"
    return ("%s in %s" % (type(error).__name__, where))[:_LINE_CHARS]


def note_crash(files, slot, error):
    """Append a line; a flash that refuses it costs the line, nothing else."""
    try:
        lines = read_crashes(files)
        lines.append("%s: %s" % (slot, describe(error)))
        files.write(FILE, "\n".join(lines[-LINES:]).encode())
    except Exception:
        return


def read_crashes(files):
    """The lines, oldest first; ``files`` has read(name) and write(name, data)."""
    data = files.read(FILE)
    try:
        return data.decode().split("\n")[-LINES:] if data else []
    except ValueError:
        return []
