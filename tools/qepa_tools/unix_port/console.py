# mypy: ignore-errors
# ruff: noqa: S102  executing what is typed is its purpose
# This is MicroPython.
"""A board's console for ports whose own lacks the raw mode or cannot be shared: friendly, raw and raw-paste REPL.

MicroPython documentation, "The MicroPython Interactive Interpreter Mode (aka REPL)", sections "Raw mode" and
"Raw-paste mode". Sans-IO: bytes come in one by one, text goes out through a function; newlines are plain.
"""

import io
import sys

_CTRL_A, _CTRL_B, _CTRL_C, _CTRL_D, _CTRL_E, _BACKSPACE = 1, 2, 3, 4, 5, 127
_WINDOW = 128
_BANNER = b'\nMicroPython %s; virtual board\nType "help()" for more information.\n>>> '
_RAW_BANNER = b"raw REPL; CTRL-B to exit\n>"


def run(source, kind, name, names):
    """Execute ``source`` in ``names``; returns its traceback, b"" if there is none. SystemExit passes."""
    try:
        exec(compile(source, name, kind), names)
    except SystemExit:
        raise
    except BaseException as error:
        text = io.StringIO()
        sys.print_exception(error, text)
        return text.getvalue().encode()
    return b""


class Console:
    """``write(data)`` prints; ``soft_reset()`` is called for Ctrl-D and does not return to what was typed."""

    def __init__(self, write, soft_reset, names):
        self._write = write
        self._soft_reset = soft_reset
        self._names = names
        self._line = bytearray()
        self._room = 0
        self.raw = False
        self._take = self._friendly

    def open(self, raw):
        """Say what a board says when it has booted."""
        if raw:
            self._enter_raw()
        else:
            self._leave_raw()

    def feed(self, byte):
        """Take one byte (an int)."""
        self._take(byte)

    def interrupt(self):
        """Ctrl-C while nothing runs, or KeyboardInterrupt out of feed()."""
        self._line = bytearray()
        if self._take == self._paste:
            self._write(b"\x04>")
            self._take = self._raw
        elif not self.raw:
            self._write(b"\n>>> ")

    def _enter_raw(self):
        self.raw = True
        self._take = self._raw
        self._line = bytearray()
        self._write(_RAW_BANNER)

    def _leave_raw(self):
        self.raw = False
        self._take = self._friendly
        self._line = bytearray()
        self._write(_BANNER % sys.version.split("; ")[-1].encode())

    def _raw(self, byte):
        if byte == _CTRL_A:
            if self._line == b"\x05A":
                self._line = bytearray()
                self._room = _WINDOW
                self._take = self._paste
                self._write(b"R\x01" + bytes((_WINDOW & 0xFF, _WINDOW >> 8)) + b"\x01")
            else:
                self._enter_raw()
        elif byte == _CTRL_B:
            self._leave_raw()
        elif byte == _CTRL_C:
            self._line = bytearray()
        elif byte == _CTRL_D:
            self._write(b"OK")
            if not self._line:
                self._write(b"\n")
                self._soft_reset()
                return
            self._answer()
        else:
            self._line.append(byte)

    def _paste(self, byte):
        if byte == _CTRL_C:
            self.interrupt()
        elif byte == _CTRL_D:
            self._take = self._raw
            self._write(b"\x04")
            self._answer()
        else:
            self._line.append(byte)
            self._room -= 1
            if not self._room:
                self._room = _WINDOW
                self._write(b"\x01")

    def _answer(self):
        source = str(self._line, "utf-8")
        self._line = bytearray()
        error = run(source, "exec", "<stdin>", self._names)
        self._write(b"\x04" + error + b"\x04>")

    def _friendly(self, byte):
        if byte == _CTRL_A:
            self._write(b"\n")
            self._enter_raw()
        elif byte == _CTRL_B:
            self._leave_raw()
        elif byte == _CTRL_C:
            self.interrupt()
        elif byte == _CTRL_D and not self._line:
            self._write(b"\n")
            self._soft_reset()
        elif byte in (10, 13):
            self._write(b"\n")
            source = str(self._line, "utf-8")
            self._line = bytearray()
            if source.strip():
                self._write(run(source, "single", "<stdin>", self._names))
            self._write(b">>> ")
        elif byte == _BACKSPACE:
            self._line = self._line[:-1]
            self._write(b"\b \b")
        else:
            self._line.append(byte)
            self._write(bytes((byte,)))
