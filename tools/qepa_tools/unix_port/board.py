"""A board made of MicroPython's unix port: its console, its files in a directory, a board's heap, resets."""

import contextlib
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path

from ..errors import ToolError
from ..virtual_esp32.flash_chip import PowerLostError
from .run_once import BOARD_HEAP_BYTES
from .runtime import ensure_unix_port

POWER_ON, HARD_RESET, WATCHDOG_RESET, SOFT_RESET = 1, 2, 3, 5
"""machine.reset_cause() of an ESP32 (MicroPython documentation, library/machine.html)."""

ROM_BYTES = 320 * 1024
"""Of the ROM partition that firmware/README.md describes."""

STAND_INS_BYTES, ROM_STAND_IN_BYTES = 21 * 1024, 3 * 1024
"""Of the heap: what stands for console, flash and machine takes, and for the ROM's device; all that is C on a board.

tests/micropython/test_memory.py measures it.
"""

RADIO_STAND_IN_BYTES = 12 * 1024
"""Likewise for `bluetooth` and what it has in hand (`tests/micropython/test_ble_bedside.py` measures it)."""

SHIMS = Path(__file__).with_name("shims")

_REPL = Path(__file__).with_name("repl.py")
_CHIPS = Path(__file__).parents[1] / "chips"
_EXIT_HARD_RESET, _EXIT_SOFT_RESET, _EXIT_SOFT_RESET_RAW = 42, 43, 44
_CTRL_C = 3
_MAY_RUN = b"\x04\n\r"
_CRASH_PAUSE_S = 0.5
_BUSY_S = 8.0  # an interpreter that computes for longer is interrupted wherever it is


class UnixBoard:
    """A running board. It restarts itself on resets; close() cuts its power."""

    def __init__(
        self,
        files: Path,
        *,
        shims: Path = SHIMS,
        heap_bytes: int = BOARD_HEAP_BYTES,
        unique_id: bytes = b"\2\0\0\0\0\1",
        rom: Path | None = None,
        radio: tuple[int, str] | None = None,
        cut_at: int | None = None,
    ) -> None:
        """``files`` is its flash; ``shims`` holds the modules that stand in for hardware.

        ``heap_bytes``: what the firmware has; what the stand-ins take comes on top.
        ``rom`` is its ROM partition, made erased if there is no such file; None for a board without one.
        ``radio``: a qepa_tools.air.radio.Radio's port and this board's address; ``shims`` has its `bluetooth` then.
        ``cut_at``: the number, from 1 on, of the change to its files at which its power fails, counted in the raw REPL.
        """
        heap = heap_bytes + STAND_INS_BYTES + (ROM_STAND_IN_BYTES if rom is not None else 0)
        heap += RADIO_STAND_IN_BYTES if radio is not None else 0
        self._command = [*ensure_unix_port(), "-X", f"heapsize={heap}", str(_REPL)]
        self._files, self._shims = files.resolve(), shims
        self._environment = {"QEPA_UNIQUE_ID": unique_id.hex()}
        if rom is not None:
            if not rom.exists():
                rom.write_bytes(b"\xff" * ROM_BYTES)
            self._environment["QEPA_ROM"] = str(rom.resolve())
        if radio is not None:
            self._environment |= {"QEPA_RADIO": str(radio[0]), "QEPA_RADIO_ADDRESS": radio[1]}
        self._cut_at = cut_at
        self._raw = False
        self._pending = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._console = self._held = self._told = -1
        self._running = 0
        """Typed bytes that may run something and are not done with, and one for the boot."""
        self._interrupting = self._takes_signals = False
        self._interrupt_by: float | None = None
        """Until when an interrupt waits for the interpreter to wait for something."""
        self._restart_at: float | None = None
        self._start(POWER_ON)

    def fileno(self) -> int:
        """Readable when it has printed something or ended."""
        return self._console

    def read(self) -> bytes:
        """What it has printed since; restarts it if it was reset. Raises PowerLostError where its power fails."""
        if self._restart_at is not None and time.monotonic() >= self._restart_at:
            self._restart_at = None
            os.close(self._console)
            os.close(self._held)
            self._start(HARD_RESET)
        out = b""
        while self._restart_at is None:
            try:
                chunk = os.read(self._console, 1 << 16)
            except BlockingIOError:
                break
            except OSError:  # the other end is closed
                chunk = b""
            if not chunk:
                out += self._restart()
                break
            out += chunk
        self._flush()
        return out

    def write(self, data: bytes) -> None:
        """Type on its console; Ctrl-C interrupts what it runs."""
        for byte in data:
            if byte in (1, 2):
                self._raw = byte == 1
            if byte == _CTRL_C:
                self._flush()
                if self._interrupting:
                    continue
                if self._running or self._pending:
                    self._interrupt()
                    continue
            self._pending += bytes((byte,))
        self._flush()

    def close(self) -> None:
        """Kill it at once, as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            os.close(self._console)
            os.close(self._told)
            self._told = -1
            if self._restart_at is not None:
                os.close(self._held)
            self._process = None

    def _flush(self) -> None:
        """Give the interpreter what it takes of the input, unless it is still being interrupted."""
        if self._restart_at is not None or self._process is None:
            return
        self._listen()
        self._signal()
        if self._pending and not self._interrupting:
            with contextlib.suppress(BlockingIOError, OSError):
                count = os.write(self._console, self._pending)
                self._running += sum(byte in _MAY_RUN for byte in self._pending[:count])
                self._pending = self._pending[count:]

    def _interrupt(self) -> None:
        """SIGINT, once the interpreter can take it. What is typed waits until it has: it would be lost."""
        self._interrupting = True
        self._interrupt_by = time.monotonic() + _BUSY_S
        self._signal()

    def _signal(self) -> None:
        """Send the SIGINT that is due.

        This port raises KeyboardInterrupt in the middle of anything, of collecting garbage too, after which nothing can
        be allocated; a board never does. So it comes while the process sleeps.
        """
        if self._interrupt_by is None or not self._takes_signals or self._process is None:
            return
        try:
            stat = Path("/proc", str(self._process.pid), "stat").read_text()
            if stat.rpartition(") ")[2].startswith("S") or time.monotonic() >= self._interrupt_by:
                self._interrupt_by = None
                self._process.send_signal(signal.SIGINT)
        except (OSError, ProcessLookupError):  # it has just ended
            self._interrupt_by = None

    def _listen(self) -> None:
        """Hear what the interpreter tells of its state (see repl.py)."""
        try:
            told = os.read(self._told, 4096)
        except BlockingIOError:
            return
        for byte in told:
            if byte == ord("r"):
                self._takes_signals = True
                if self._interrupting:
                    self._interrupt()
            elif byte == ord("0"):
                self._running, self._interrupting, self._interrupt_by = 0, False, None
            else:
                self._running = max(0, self._running - 1)

    def _start(self, cause: int, mode: str = "friendly") -> None:
        self._console, end = pty.openpty()
        settings = termios.tcgetattr(end)
        settings[0], settings[1], settings[3] = 0, termios.OPOST | termios.ONLCR, 0
        settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
        termios.tcsetattr(end, termios.TCSANOW, settings)
        os.set_blocking(self._console, False)
        if self._told >= 0:
            os.close(self._told)
        self._told, tells = os.pipe()
        os.set_blocking(self._told, False)
        self._running, self._takes_signals = 1, False  # it boots
        environment = self._environment | {"QEPA_RESET_CAUSE": str(cause)}
        if mode == "raw" and self._cut_at is not None:
            environment["QEPA_CUT_AT"] = str(self._cut_at)
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own interpreter
                [*self._command, str(self._files), str(self._shims), str(_CHIPS), mode, str(tells)],
                stdin=end,
                stdout=end,
                stderr=end,
                env=environment,
                start_new_session=True,
                pass_fds=(tells,),
            )
        except OSError as error:
            raise ToolError(f"the virtual board's MicroPython does not start: {error}.") from error
        finally:
            os.close(end)
            os.close(tells)

    def _restart(self) -> bytes:
        """The process has ended: boot again, as the chip would."""
        if self._process is None:
            return b""
        status = self._process.wait()
        if status == -signal.SIGKILL and self._cut_at is not None:
            self.close()
            raise PowerLostError
        os.close(self._console)
        if status in (_EXIT_SOFT_RESET, _EXIT_SOFT_RESET_RAW):
            self._raw = status == _EXIT_SOFT_RESET_RAW
            self._start(SOFT_RESET, "raw" if self._raw else "friendly")
            return b"MPY: soft reboot\r\n"
        self._raw = False
        interrupted, self._interrupting, self._interrupt_by = self._interrupting, False, None
        if interrupted and status not in (_EXIT_HARD_RESET, -signal.SIGALRM):
            self._start(SOFT_RESET, "idle")
            return b""
        self._pending = b""
        if status == _EXIT_HARD_RESET:
            self._start(HARD_RESET)
            return b"rst:0xc (SW_CPU_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n"
        if status == -signal.SIGALRM:
            self._start(WATCHDOG_RESET)
            return b"rst:0x8 (TG1WDT_SYS_RESET),boot:0x13 (SPI_FAST_FLASH_BOOT)\r\n"
        self._console, self._held = pty.openpty()  # something to wait on until it restarts
        os.set_blocking(self._console, False)
        self._restart_at = time.monotonic() + _CRASH_PAUSE_S
        return b"abort() was called: the interpreter ended with status %d\r\n" % status
