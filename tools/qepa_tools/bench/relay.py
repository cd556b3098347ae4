"""Two real controllers behind the pseudo-terminals, so that what goes over their lines can be recorded."""

from collections.abc import Callable

from qepa_qkd.drivers.errors import PortError
from qepa_qkd.drivers.serial_port import SerialPort
from qepa_qkd.drivers.terminal import BAUD


class Relay:
    """A serial port as a controller of the bench: bytes pass through as they are."""

    def __init__(self, path: str) -> None:
        self.outgoing: list[bytes] = []
        self.on_outgoing: Callable[[], None] = lambda: None
        self._path = path
        self._port: SerialPort | None = None

    def open(self) -> SerialPort:
        """Open the port in the running event loop. Raises PortError."""
        self._port = SerialPort(self._path, BAUD, self._arrived)
        return self._port

    def receive(self, data: bytes, now_s: float) -> None:  # noqa: ARG002 (the device has a clock of its own)
        """Pass bytes of the host on. What a lost port cannot take is dropped; the bench ends with it anyway."""
        if self._port is not None and not self._port.closed.done():
            self._port.send(data)

    def close(self) -> None:
        """Close the port."""
        if self._port is not None:
            self._port.close()

    def _arrived(self, data: bytes) -> None:
        self.outgoing.append(data)
        self.on_outgoing()


class RelayBench:
    """Both controllers of a real bench. The light needs no clock of ours."""

    running = False

    def __init__(self, transmitter: str, receiver: str) -> None:
        self.transmitter = Relay(transmitter)
        self.receiver = Relay(receiver)
        self.lost: str | None = None
        """Why a port closed by itself."""

    def open(self, on_lost: Callable[[], None]) -> None:
        """Open both ports; `on_lost` is called when one of them is gone. Raises PortError."""

        def note(port: SerialPort) -> None:
            self.lost = self.lost or str(port.lost())
            on_lost()

        for relay in (self.transmitter, self.receiver):
            port = relay.open()
            port.closed.add_done_callback(lambda _, port=port: note(port))  # type: ignore[misc]

    def advance(self, now_s: float) -> None:  # noqa: ARG002 (likewise)
        """Raise PortError if a port was lost."""
        if self.lost is not None:
            raise PortError(self.lost)

    def close(self) -> None:
        """Close both ports."""
        self.transmitter.close()
        self.receiver.close()
