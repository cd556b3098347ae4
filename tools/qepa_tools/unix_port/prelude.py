# mypy: ignore-errors
# ruff: noqa: S102  run by the interpreter, not imported; to execute the program is its purpose
# This is MicroPython.
"""Makes the unix port look like a board: flash at /, packages read-only at /lib, stand-ins for chips at /shims.

Arguments: flash directory, library directory, shims directory, models of chips, program (a path on the flash).
"""

import os
import sys

import vfs

flash, library, shims, chips, program = sys.argv[1:6]
if os.getenv("QEPA_ROM"):
    import rom_partition

    rom_partition.attach(os.getenv("QEPA_ROM"))
vfs.umount("/")
vfs.mount(vfs.VfsPosix(flash), "/")
vfs.mount(vfs.VfsPosix(library), "/lib", readonly=True)
vfs.mount(vfs.VfsPosix(shims), "/shims", readonly=True)
vfs.mount(vfs.VfsPosix(chips), "/models/chips", readonly=True)
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib", "/shims", "/models"]
sys.argv[:] = []
del flash, library, shims, chips
with open(program) as file:
    program = compile(file.read(), program, "exec")
exec(program, {"__name__": "__main__"})
