# mypy: ignore-errors
# This is MicroPython.
"""A board's file system whose power fails at one of its changes: half of what is written then is written."""

import ffi

_SIGKILL = 9


class _File:
    """A file that is being written."""

    def __init__(self, file, change):
        self._file = file
        self._change = change

    def write(self, data):
        self._change(lambda: self._file.write(memoryview(data)[: len(data) // 2]))
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


class MortalFlash:
    """Another file system, ``flash``, up to change number ``cut_at``, from 1 on: the process is killed there."""

    def __init__(self, flash, cut_at):
        self._flash = flash
        self._left = cut_at
        self._kill = ffi.open("libc.so.6").func("i", "raise", "i")

    def _change(self, half=None):
        self._left -= 1
        if not self._left:
            if half:
                half()
            self._kill(_SIGKILL)

    def open(self, path, mode):
        if mode[0] == "r" and "+" not in mode:
            return self._flash.open(path, mode)
        self._change()
        return _File(self._flash.open(path, mode), self._change)

    def remove(self, path):
        self._change()
        self._flash.remove(path)

    def rename(self, old, new):
        self._change()
        self._flash.rename(old, new)

    def mkdir(self, path):
        self._flash.mkdir(path)
        self._change()

    def __getattr__(self, name):
        return getattr(self._flash, name)
