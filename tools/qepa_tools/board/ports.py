"""Which serial port: named by the user, by a board's serial number, or the only one there is. Never a guess."""

import termios
from dataclasses import dataclass
from pathlib import Path

from serial import SerialException
from serial.tools.list_ports import comports

from ..errors import ToolError

GONE: tuple[type[Exception], ...] = (SerialException, OSError, termios.error)
"""What pyserial raises for a port that is unplugged while it is used; termios' own error is no OSError."""

# USB vendors of boards: Espressif, and the bridges on development boards (Silicon Labs, WCH, FTDI)
_VENDORS = {0x303A: "Espressif", 0x10C4: "Silicon Labs", 0x1A86: "WCH", 0x0403: "FTDI"}


class PortError(ToolError):
    """No port, or several."""


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A USB serial port that may have a board on it."""

    device: str
    serial_number: str
    vendor: str


def serial_ports() -> list[SerialPort]:
    """Ports with a USB vendor that boards use, by device."""
    return sorted(
        (
            SerialPort(port.device, port.serial_number or "", _VENDORS[port.vid])
            for port in comports()
            if port.vid in _VENDORS
        ),
        key=lambda port: port.device,
    )


def choose_port(port: str | None, serial_number: str | None, present: list[SerialPort]) -> str:
    """The port to use of those ``present``. Raises PortError that says how to choose."""
    if port is not None and serial_number is not None:
        raise PortError("give either --port or --serial, not both.")
    if port is not None:
        if port.startswith("/") and not Path(port).exists():
            raise PortError(f"there is no port {port}: plug the board in, or see qepa board doctor.")
        return port
    matching = present if serial_number is None else [each for each in present if each.serial_number == serial_number]
    if len(matching) == 1:
        return matching[0].device
    if serial_number is not None:
        seen = ", ".join(each.serial_number or "none" for each in present) or "no board at all"
        raise PortError(f"no board has serial number {serial_number} (attached: {seen}).")
    if not present:
        raise PortError("no board is attached: plug one in, or name its port with --port.")
    devices = ", ".join(f"{each.device} ({each.serial_number or 'no serial number'})" for each in present)
    raise PortError(f"several boards are attached: choose with --port or --serial among {devices}.")
