"""Starts the application of the slot in use, or says on the console why it does not.

`attach()` makes that slot's packages importable and starts nothing: for the dock, whose raw REPL skips main.py.
"""

import gc
import os
import struct
import sys

from .record import LIB, NAMES, NORMAL, SAFE, TRIAL, A, Slots

ROOT = ""  # tests put another directory here
PAUSE_S = 2  # between a crash and the reset, so that the console can get in
# The application starts its own watchdog once it samples; until then this one ends a trial that hangs.
TRIAL_WATCHDOG_MS = 60000
# Allocated between two collections, from here on. Left to itself, MicroPython collects when no memory is left: what is
# imported is scattered over all of it then, and no room of a few kilobytes is in one piece (library/gc.html).
COLLECT_BYTES = 8192

slot = None  # what boot() or attach() chose in this boot
in_rom = False  # whether its code runs from the ROM partition
mode = NORMAL
booted = False


class Files:
    """Whole files in the directory ``root``, replaced by rename."""

    def __init__(self, root):
        self._root = root
        try:
            os.mkdir(root)
        except OSError:
            pass  # it is there

    def read(self, name):
        """Content, or None."""
        try:
            with open(self._root + "/" + name, "rb") as file:
                return file.read()
        except OSError:
            return None

    def write(self, name, data):
        """Replace the file by ``data``."""
        path = self._root + "/" + name
        with open(path + ".new", "wb") as file:
            file.write(data)
        os.rename(path + ".new", path)


def directory(slot_number):
    """Where a slot is: its `manifest`, and `lib` with its packages."""
    return ROOT + ("" if slot_number == LIB else "/" + NAMES[slot_number])


def version_of(slot_number):
    """Version of a complete slot, 0 if there is none: a slot's manifest is written last.

    Packages in /lib have no manifest; they count as version 1.
    """
    try:
        if slot_number == LIB:
            os.stat(ROOT + "/lib/qepa_board")
            return 1
        with open(directory(slot_number) + "/manifest", "rb") as file:
            head = file.read(10)  # length, "QF", format and target, then the version
        return struct.unpack_from("<I", head, 6)[0] if len(head) == 10 else 0
    except OSError:
        return 0


def attach():
    """Put the confirmed slot on sys.path, unless boot() has put one there; returns its directory."""
    if slot is None:
        _use(Slots(Files(ROOT + "/qepa"), version_of).confirmed)
    return directory(slot)


def _use(slot_number, place=False):
    global slot, in_rom  # noqa: PLW0603  one boot of one board
    slot = slot_number
    if hasattr(gc, "threshold"):  # CPython's has another
        gc.threshold(COLLECT_BYTES)
    library = _rom(slot_number, place)
    in_rom = library is not None
    if not in_rom:
        library = directory(slot_number) + "/lib"
    if library not in sys.path:
        sys.path.insert(0, library)


def _rom(slot_number, place):
    """Where the slot's code is mounted from the ROM partition, or None: then it is loaded from its files."""
    try:
        import vfs  # noqa: PLC0415  not on every port

        if slot_number == LIB or not version_of(slot_number) or not hasattr(vfs, "rom_ioctl") or vfs.rom_ioctl(1) < 1:
            return None
        from .rom import mount  # noqa: PLC0415  not on every board

        try:
            return mount(vfs, slot_number - A, directory(slot_number), place)
        finally:
            _unload("rom", "place")
    except ImportError:
        return None
    except Exception as error:  # the files are there as well
        print("qepa: slot %s is not in ROM: %s" % (NAMES[slot_number], error))
        return None


def _unload(*names):
    """Free the memory of modules of this package that nothing needs any more."""
    package = sys.modules[__name__[: __name__.rfind(".")]]
    for name in names:
        if sys.modules.pop(package.__name__ + "." + name, None):
            delattr(package, name)


def _restarted():
    """Whether this boot follows a reset that nobody asked for, as far as the port can tell."""
    try:
        import machine  # noqa: PLC0415  not on every port

        calm = (machine.PWRON_RESET, machine.DEEPSLEEP_RESET, machine.SOFT_RESET)
        return machine.reset_cause() not in calm
    except (ImportError, AttributeError):
        return True


def boot():
    """What main.py calls: count this boot and start the application; on a board it does not return, but in safe mode.

    A crash is noted, then the board resets. The console's interrupt goes through and counts for nothing.
    """
    global mode, booted  # noqa: PLW0603
    files = Files(ROOT + "/qepa")
    slots = Slots(files, version_of)
    try:
        chosen, mode = slots.begin(_restarted())
    except OSError as error:  # what cannot be counted is not tried
        print("qepa: boot not counted: %s" % error)
        chosen = slots.confirmed
    booted = True
    name = NAMES[chosen]
    if mode == SAFE:
        reason = "crashed %d times in a row" % slots.crashes if slots.is_safe else "there is no application"
        print("qepa: safe mode: slot %s: %s; the dock can mend it" % (name, reason))
    elif mode == TRIAL:
        print("qepa: slot %s on trial, %d boots left" % (name, slots.attempts))
    try:
        _use(chosen, mode != SAFE and slot is None)  # what attach() has mounted is not written
        _start(mode)
    except KeyboardInterrupt:
        if mode != SAFE:
            slots.uncount()
        raise
    except Exception as error:
        _note(files, name, error)
        if mode != SAFE:
            _reset()


def _note(files, name, error):
    from .crash import note_crash, print_exception  # noqa: PLC0415  memory, which most boots need otherwise

    print_exception(error)
    note_crash(files, name, error)


def _start(how):
    if how == SAFE:
        from qepa_board.system.safe_mode import run  # noqa: PLC0415  the slot's own
    else:
        if how == TRIAL:
            import machine  # noqa: PLC0415

            machine.WDT(timeout=TRIAL_WATCHDOG_MS)
        from qepa_board.app import run  # noqa: PLC0415

    run()


def _reset():
    import time  # noqa: PLC0415

    import machine  # noqa: PLC0415

    time.sleep(PAUSE_S)
    machine.reset()
