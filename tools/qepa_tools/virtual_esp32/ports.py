"""How a host reaches a virtual board: RFC 2217 (with DTR and RTS), a bare TCP socket, or a pseudo-terminal.

Each port serves one board on a thread of its own, one host at a time. Bare sockets and pseudo-terminals are many times
faster than RFC 2217, whose client negotiates the line settings anew at each change of a timeout.
"""

import contextlib
import os
import pty
import select
import socket
import threading
import tty
from collections.abc import Callable
from typing import Self

from serial.rfc2217 import PortManager

from .device import OFF, VirtualEsp32

_ACCEPT_S = 0.05
_IDLE_S = 0.25
_LINES_S = 0.003  # while the board's reset line is rising
_CHUNK = 1 << 16
_KEPT = 8 << 20


class _Port:
    """A thread that serves a board until close()."""

    url: str

    def __init__(self, board: VirtualEsp32) -> None:
        self.board = board
        self.lock = threading.RLock()
        """Held while the board is being served; take it to change the board from another thread."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="virtual-esp32", daemon=True)

    def open(self) -> Self:
        """Power the board on and serve it."""
        self.board.power_on()
        self._thread.start()
        return self

    def end(self) -> None:
        """Stop serving soon; close() waits for it."""
        self._ending.set()

    def close(self) -> None:
        """Stop serving and cut the board's power."""
        self.end()
        self._thread.join()
        self.board.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def unplug(self) -> None:
        """Pull the plug."""
        with self.lock:
            self.board.power_off()

    def plug(self) -> None:
        """Put it back in."""
        with self.lock:
            self.board.power_on()

    def _run(self) -> None:
        raise NotImplementedError

    def _powered(self) -> bool:
        """Whether to go on serving a host: a board without power has no port either."""
        return not self._ending.is_set() and self.board.mode != OFF

    def _wait(self, host: int, *, sending: bool = False) -> bool:
        """Wait for host or board; returns whether the host (a file descriptor) has sent something.

        ``sending``: something waits for the host to take it.
        """
        poll = select.poll()  # unlike select() it takes any number of files
        poll.register(host, select.POLLIN | (select.POLLOUT if sending else 0))
        with self.lock:
            board, resetting = self.board.fileno(), self.board.is_resetting
        if board is not None:
            poll.register(board, select.POLLIN)
        ready = poll.poll(1000 * (_LINES_S if resetting else _IDLE_S))
        return any(file == host and event & select.POLLIN for file, event in ready)


class SocketPort(_Port):
    """``socket://``: bytes only. A SYNC frame presses BOOT and EN, the end of the connection EN."""

    def __init__(self, board: VirtualEsp32, port: int = 0) -> None:
        super().__init__(board)
        self._server = socket.create_server(("127.0.0.1", port))
        self._server.settimeout(_ACCEPT_S)
        self.port: int = self._server.getsockname()[1]
        self.url = f"socket://127.0.0.1:{self.port}"

    def _run(self) -> None:
        with self._server:
            while not self._ending.is_set():
                try:
                    host, _ = self._server.accept()
                except TimeoutError:
                    with self.lock:
                        self.board.tick()
                        self.board.read()
                    continue
                with host, contextlib.suppress(ConnectionError):
                    host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._serve(host)
                with self.lock:
                    self.board.release()

    def _serve(self, host: socket.socket) -> None:
        self._pass(host, bytes, bytes)

    def _pass(self, host: socket.socket, taken: Callable[[bytes], bytes], said: Callable[[bytes], bytes]) -> None:
        """Pass bytes both ways until the host hangs up, as they are ``taken`` from it and ``said`` to it."""
        while self._powered():
            if self._wait(host.fileno()):
                data = host.recv(_CHUNK)
                if not data:
                    return
                with self.lock:
                    self.board.write(taken(data))
            with self.lock:
                out = self.board.read()
            if out:
                host.sendall(said(out))


class Rfc2217Port(SocketPort):
    """``rfc2217://``: a serial port over TCP (RFC 2217), modem lines included."""

    def __init__(self, board: VirtualEsp32, port: int = 0) -> None:
        super().__init__(board, port)
        self.url = f"rfc2217://127.0.0.1:{self.port}?ign_set_control"

    def _serve(self, host: socket.socket) -> None:
        telnet = PortManager(_SerialLines(self.board), _Sender(host.sendall))
        self._pass(host, lambda data: b"".join(telnet.filter(data)), lambda out: b"".join(telnet.escape(out)))


class PtyPort(_Port):
    """A pseudo-terminal: like a USB port without modem lines. ``url`` is its path, another at each plug()."""

    def __init__(self, board: VirtualEsp32) -> None:
        super().__init__(board)
        self._appear()

    def plug(self) -> None:
        """Plug it in again; it gets a new path."""
        with self.lock:
            if self.board.mode == OFF:
                self._vanish()
            if self._master < 0:
                self._appear()
            self.board.power_on()

    def _appear(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.url = os.ttyname(self._slave)

    def _vanish(self) -> None:
        """A board without power has no port: who has it open gets an error."""
        with self.lock:
            if self._master >= 0:
                os.close(self._master)
                os.close(self._slave)
                self._master = self._slave = -1

    def _run(self) -> None:
        pending = b""
        while not self._ending.is_set():
            with self.lock:  # plug() may come at any time
                master = self._master if self._powered() else -1
                if master < 0:
                    self._vanish()
            if master < 0:
                self._ending.wait(_ACCEPT_S)
                pending = b""
                continue
            ready = self._wait(master, sending=bool(pending))
            with self.lock:
                if ready and self._master == master:
                    with contextlib.suppress(BlockingIOError):
                        self.board.write(os.read(master, _CHUNK))
                pending += self.board.read()
                pending = self._send(pending)
        self._vanish()

    def _send(self, data: bytes) -> bytes:
        """Write what the terminal takes; returns the rest. What nobody reads for long is lost, as on a real port."""
        if not data:
            return data
        try:
            return data[os.write(self._master, data) :]
        except BlockingIOError:
            return data if len(data) < _KEPT else b""


class _Sender:
    """What PortManager calls a connection."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.write = write


class _SerialLines:
    """What PortManager calls a serial port: line settings that are remembered, and the two lines that matter."""

    name = "virtual ESP32"
    cts = dsr = ri = cd = False

    def __init__(self, board: VirtualEsp32) -> None:
        self._board = board
        self.baudrate, self.bytesize, self.parity, self.stopbits = 115200, 8, "N", 1
        self.xonxoff = self.rtscts = self.break_condition = False

    @property
    def dtr(self) -> bool:
        return self._board.lines[0]

    @dtr.setter
    def dtr(self, value: bool) -> None:
        self._board.set_lines(dtr=bool(value), rts=self._board.lines[1])

    @property
    def rts(self) -> bool:
        return self._board.lines[1]

    @rts.setter
    def rts(self, value: bool) -> None:
        self._board.set_lines(dtr=self._board.lines[0], rts=bool(value))

    def reset_input_buffer(self) -> None:
        """Discard what the board has sent."""
        self._board.read()

    def reset_output_buffer(self) -> None:
        """Nothing waits in this direction."""

    def get_settings(self) -> dict[str, object]:
        """PortManager saves them."""
        return {}

    def apply_settings(self, settings: dict[str, object]) -> None:
        """PortManager restores them."""
