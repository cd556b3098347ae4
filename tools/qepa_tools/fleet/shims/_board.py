# mypy: ignore-errors
# ruff: noqa: PLW0603, RUF006  module state is the interpreter's; the loop holds its tasks
# This is MicroPython, with modules that CPython has not.
"""Makes the WebAssembly port of MicroPython look like an ESP32: file system, asyncio.run, blocking sleep, urandom."""

import asyncio
import io
import os
import sys
import time
from asyncio import core

import _host
import uctypes
import vfs

_SLICE_MS = 5  # tasks give way to samples and sockets after this long
_ERRNO = {  # what the port's C library reports (WASI numbers): what MicroPython boards report
    2: 13, 6: 11, 8: 9, 10: 16, 20: 17, 22: 27, 28: 22, 29: 5, 31: 21, 32: 31, 33: 24, 37: 36, 44: 2, 51: 28,
    54: 20, 55: 39, 63: 1, 69: 30, 75: 18,
}  # fmt: skip
_FLASH_BYTES = 2 * 1024 * 1024
_BLOCK = 4096


class _Flash:
    """The flash at `/`: what the port's C library has below /flash, with MicroPython's error numbers.

    Paths are put together here, because a VfsPosix with a root of its own renames a file to itself (its rename
    builds both paths in one buffer).
    """

    def __init__(self):
        self._posix = vfs.VfsPosix()
        self._directory = "/"

    def _absolute(self, path):
        return path if path.startswith("/") else self._directory.rstrip("/") + "/" + path

    def _call(self, method, *args):
        try:
            return method(*args)
        except OSError as error:
            raise OSError(_ERRNO.get(error.errno, error.errno)) from None

    def _on_path(self, method, path):
        return self._call(method, "/flash" + self._absolute(path))

    def mount(self, _readonly, _mkfs):
        pass

    def umount(self):
        pass

    def open(self, path, mode):
        return self._call(self._posix.open, "/flash" + self._absolute(path), mode)

    def chdir(self, path):
        path = self._absolute(path)
        if path != "/" and self.stat(path)[0] != 0x4000:
            raise OSError(20)
        self._directory = path

    def getcwd(self):
        return self._directory

    def ilistdir(self, path):
        entries = [entry for entry in self._on_path(self._posix.ilistdir, path) if entry[0] not in (".", "..")]
        base = path.rstrip("/") + "/" if path else ""
        return iter([(name, kind, 0, self.stat(base + name)[6]) for name, kind, _ in entries])

    def mkdir(self, path):
        self._on_path(self._posix.mkdir, path)

    def remove(self, path):
        self._on_path(self._posix.remove, path)

    def rmdir(self, path):
        self._on_path(self._posix.rmdir, path)

    def rename(self, old, new):
        self._call(self._posix.rename, "/flash" + self._absolute(old), "/flash" + self._absolute(new))

    def stat(self, path):
        return self._on_path(self._posix.stat, path)

    def statvfs(self, _path):
        free = _FLASH_BYTES // _BLOCK - self._blocks("/")
        return (_BLOCK, _BLOCK, _FLASH_BYTES // _BLOCK, free, free, 0, 0, 0, 0, 255)

    def _blocks(self, path):
        blocks = 1
        for entry in self.ilistdir(path):
            child = path + "/" + entry[0]
            blocks += self._blocks(child) if entry[1] == 0x4000 else -(-self.stat(child)[6] // _BLOCK)
        return blocks


def _urandom(count):
    out = bytearray(count)
    _host.urandom(uctypes.addressof(out), count)
    return bytes(out)


_ticks_ms = time.ticks_ms
_ticks_diff = time.ticks_diff
_slice_start = 0
_in_slice = False
_due_ms = 0


def _due_in(wake, now):
    # core._run_iter goes on as long as this is not positive and would starve samples and sockets.
    global _due_ms
    _due_ms = _ticks_diff(wake, now)
    if _due_ms <= 0 and _ticks_diff(now, _slice_start) >= _SLICE_MS:
        _due_ms = 0
        return 1
    return _due_ms


def _schedule(wait_ms):
    if not _in_slice:
        _host.wake_in(wait_ms)


def run_tasks():
    """Run asyncio tasks that are due, at most a slice of them; the host calls this."""
    global _slice_start, _in_slice
    _slice_start = _ticks_ms()
    _in_slice = True
    try:
        core._run_iter()
    finally:
        _in_slice = False
    if core._task_queue.peek():
        _host.wake_in(_due_ms)


def report(error):
    """Tell the host of an exception that ended the program."""
    text = io.StringIO()
    sys.print_exception(error, text)
    _host.failed(text.getvalue())


async def _supervise(coro):
    try:
        await coro
    except asyncio.CancelledError:
        pass
    except BaseException as error:
        report(error)


def _run(coro):
    """asyncio.run as far as an event-driven port can: the program goes on after its source has ended."""
    asyncio.create_task(_supervise(coro))


class _ThreadSafeFlag:
    """asyncio.ThreadSafeFlag, which the port lacks: timer callbacks and tasks never overlap here, an event will do."""

    def __init__(self):
        self._event = asyncio.Event()

    def set(self):
        self._event.set()

    def clear(self):
        self._event.clear()

    async def wait(self):
        await self._event.wait()
        self._event.clear()


_console = None


def open_console(raw):
    """Serve a console from now on; the host types with feed_console() and interrupt_console()."""
    global _console
    from console import Console  # noqa: PLC0415  only boards that have one

    _console = Console(_console_write, lambda: _host.soft_reset(_console.raw), __import__("__main__").__dict__)
    _console.open(raw)


def feed_console(byte):
    """One byte was typed."""
    try:
        _console.feed(byte)
    except SystemExit:
        _host.soft_reset(_console.raw)


def interrupt_console():
    """Ctrl-C was typed: the program that runs is given up, as asyncio.run is by KeyboardInterrupt on a board."""
    core.new_event_loop()
    _console.interrupt()


def _console_write(data):
    _host.console_write(uctypes.addressof(data), len(data))


def _sleep_ms(wait_ms):
    if wait_ms > 0:
        _host.sleep_ms(int(wait_ms))


def _sleep(wait_s):
    _sleep_ms(wait_s * 1000)


def set_up():
    """Mount flash and packages and fill in what the port lacks. Once, before any firmware."""
    vfs.mount(vfs.VfsPosix("/rom/shims"), "/shims", readonly=True)
    vfs.mount(vfs.VfsPosix("/rom/lib"), "/lib", readonly=True)
    vfs.umount("/")
    vfs.mount(_Flash(), "/")
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib", "/shims"]
    os.urandom = _urandom
    os.sync = lambda: None  # a closed file is on the flash
    os.uname = lambda: ("esp32", "esp32", "1.27.0", "v1.27.0", "Simulated ESP32")
    time.sleep_ms = _sleep_ms
    time.sleep = _sleep
    core.ticks_diff = _due_in
    core._schedule_run_iter = _schedule
    core.new_event_loop()
    asyncio.run = core.run = _run
    asyncio.ThreadSafeFlag = _ThreadSafeFlag
