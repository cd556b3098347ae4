"""An open serial port in the event loop: bytes out without waiting, bytes in by callback, `closed` when it is lost.

The port may be native USB, a UART or a pseudo-terminal; nothing here knows which.
"""

import asyncio
import contextlib
import errno
import os
import termios
from collections.abc import Callable
from typing import Final

import serial

from qepa_qkd.drivers.errors import NoPortError, PortBusyError, PortError

_READ_BYTES: Final = 1 << 16
_MOST_UNSENT: Final = 1 << 20


def _why(error: Exception) -> str:
    """Why a port does not open, without pyserial's wrapping."""
    cause = error.__context__ if isinstance(error.__context__, termios.error) else error
    if isinstance(cause, termios.error) and cause.args[0] == errno.ENOTTY:
        return "it is none"
    number = getattr(error, "errno", None)
    return str(error) if number is None else os.strerror(number)


class SerialPort:
    """`on_data` is called in the event loop. A lost port stays lost: open it again."""

    def __init__(self, path: str, baud: int, on_data: Callable[[bytes], None]) -> None:
        """Open `path`, exclusively. Raises NoPortError, PortBusyError."""
        try:
            self._port = serial.Serial(path, baud, timeout=0, exclusive=True)
            self._port.reset_input_buffer()
            self._fd: int = self._port.fileno()
        except (OSError, ValueError, serial.SerialException, termios.error) as error:
            if getattr(error, "errno", None) == errno.EWOULDBLOCK:
                raise PortBusyError(f"serial port {path} is in use by another program") from error
            raise NoPortError(f"serial port {path} cannot be opened: {_why(error)}") from error
        self.path = path
        self._loop = asyncio.get_running_loop()
        self._on_data = on_data
        self._unsent = bytearray()
        self.closed: asyncio.Future[str] = self._loop.create_future()
        """Completes with the reason."""
        self._loop.add_reader(self._fd, self._readable)

    def send(self, data: bytes) -> None:
        """Send `data` in time. Raises PortError when the port is lost or takes nothing any more."""
        self.check_open()
        if len(self._unsent) + len(data) > _MOST_UNSENT:
            self.close("the device takes no more bytes")
            self.check_open()
        self._unsent += data
        self._writable()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the device has not taken yet."""
        return len(self._unsent)

    def check_open(self) -> None:
        """Raise PortError with the reason if the port is lost."""
        if self.closed.done():
            raise self.lost()

    def lost(self) -> PortError:
        """The error that says why this closed port closed."""
        return PortError(f"serial port {self.path}: {self.closed.result()}")

    def close(self, reason: str = "closed") -> None:
        """Close the port; the first reason counts."""
        if self.closed.done():
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        with contextlib.suppress(OSError, serial.SerialException):
            self._port.close()
        self.closed.set_result(reason)

    def _writable(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: os.write(self._fd, self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._writable)
            return
        except OSError as error:
            self.close(str(error))
            return
        self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(str(error))
            return
        if data:
            self._on_data(data)
        else:
            self.close("the other end hung up")
