# mypy: ignore-errors
# This is MicroPython.
"""Makes the unix port a board: flash at /, chips' stand-ins at /shims, boot.py and main.py, a console on stdin.

Arguments: flash directory, shims directory, directory with models of chips, "raw", "friendly" or "idle" (friendly
without main.py), and a file descriptor that tells when SIGINT may come ("r"), when nothing runs any more ("0"), and
that one typed byte that may run something is done with ("i"). Ends with 43 for a soft reset in friendly mode and 44 in
raw mode; machine.reset() ends with 42. Whoever started it starts it again.
"""

import gc
import os
import sys

import vfs
from console import Console, run

_SOFT_RESET, _SOFT_RESET_RAW = 43, 44
_MAY_RUN = b"\x04\n\r"
_FILE_TYPE, _DIRECTORY_MODE, _FLASH_BYTES, _BLOCK = 0x8000, 0x4000, 2 * 1024 * 1024, 4096


class _Flash:
    """A directory of the host as a board's file system: sizes in listings, no dot entries, a size of its own.

    Paths are put together here: a VfsPosix with a root of its own renames a file to itself (its rename builds both
    paths in one buffer).
    """

    def __init__(self, root):
        self._root = root
        self._posix = vfs.VfsPosix()
        self._directory = "/"

    def _host(self, path):
        return self._root + (path if path.startswith("/") else self._directory.rstrip("/") + "/" + path)

    def mount(self, _readonly, _mkfs):
        pass

    def umount(self):
        pass

    def open(self, path, mode):
        return self._posix.open(self._host(path), mode)

    def chdir(self, path):
        path = self._host(path)[len(self._root) :]
        if path != "/" and self.stat(path)[0] != _DIRECTORY_MODE:
            raise OSError(20)
        self._directory = path

    def getcwd(self):
        return self._directory

    def mkdir(self, path):
        self._posix.mkdir(self._host(path))

    def remove(self, path):
        self._posix.remove(self._host(path))

    def rename(self, old, new):
        self._posix.rename(self._host(old), self._host(new))

    def rmdir(self, path):
        self._posix.rmdir(self._host(path))

    def stat(self, path):
        found = self._posix.stat(self._host(path))
        return (found[0] & 0xF000,) + found[1:]  # noqa: RUF005  MicroPython has no starred tuples

    def ilistdir(self, path):
        base = self._host(path).rstrip("/")
        for entry in self._posix.ilistdir(base or "/"):
            if entry[0] not in (".", ".."):
                size = self._posix.stat(base + "/" + entry[0])[6] if entry[1] == _FILE_TYPE else 0
                yield (entry[0], entry[1], 0, size)

    def statvfs(self, _path):
        free = (_FLASH_BYTES - self._used("/")) // _BLOCK
        return (_BLOCK, _BLOCK, _FLASH_BYTES // _BLOCK, free, free, 0, 0, 0, 0, 255)

    def _used(self, path):
        used = 0
        for name, kind, _, size in self.ilistdir(path):
            used += _BLOCK + (-(-size // _BLOCK) * _BLOCK if kind == _FILE_TYPE else self._used(path + name + "/"))
        return used


def _set_up(flash, shims, chips):
    rom = os.getenv("QEPA_ROM")
    if rom:
        import rom_partition  # noqa: PLC0415  takes heap, which not every board is to have spent

        rom_partition.attach(rom)
    flash = _Flash(flash)
    cut_at = os.getenv("QEPA_CUT_AT")
    if cut_at:
        from mortal_flash import MortalFlash  # noqa: PLC0415  likewise

        flash = MortalFlash(flash, int(cut_at))
    vfs.umount("/")
    vfs.mount(flash, "/")
    vfs.mount(vfs.VfsPosix(shims), "/shims", readonly=True)
    vfs.mount(vfs.VfsPosix(chips), "/models/chips", readonly=True)
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib", "/shims", "/models"]
    sys.argv[:] = []


def _run_file(name, names):
    try:
        with open("/" + name) as file:
            source = file.read()
    except OSError:
        return
    sys.stdout.buffer.write(run(source, "exec", name, names))


def _boot(mode, names):
    for name in ("boot.py", "main.py") if mode == "friendly" else ("boot.py",):
        _run_file(name, names)
        gc.collect()


def _serve(console, told):
    read = sys.stdin.buffer.read
    while True:
        byte = read(1)
        if not byte:
            sys.exit(0)
        console.feed(byte[0])
        if byte[0] in _MAY_RUN:
            told.write(b"i")


def _main(flash, shims, chips, mode, told):
    told = open("/proc/self/fd/" + told, "wb")  # noqa: SIM115  the host's; after this only the board's own are seen
    _set_up(flash, shims, chips)
    names = {"__name__": "__main__"}
    console = Console(sys.stdout.buffer.write, lambda: sys.exit(_SOFT_RESET_RAW if console.raw else _SOFT_RESET), names)
    to_do = [
        lambda: console.open(mode == "raw"),
        lambda: told.write(b"0"),
        lambda: _boot(mode, names),
        lambda: told.write(b"r"),
    ]
    while True:  # an interrupt may come between any two lines from now on
        try:
            while to_do:
                to_do.pop()()
            _serve(console, told)
        except KeyboardInterrupt:
            if not to_do:
                told.write(b"0")
            console.interrupt()


_main(*sys.argv[1:6])
