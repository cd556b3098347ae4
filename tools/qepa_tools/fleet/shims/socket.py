# mypy: ignore-errors
# ruff: noqa: ARG001, ARG002, D101, N801  signatures and names are MicroPython's
# This is MicroPython, with modules that CPython has not.
"""`socket` with non-blocking TCP clients that answer as on an ESP32.

While data or room is missing, read and write return None, recv and send raise OSError(EAGAIN); connect raises
OSError(EINPROGRESS), and so does writing until the connection stands. There is no blocking mode: the
interpreter runs inside an event loop.
"""

import io

import _host
import uctypes

AF_INET = 2
SOCK_STREAM = 1
IPPROTO_TCP = 6
SOL_SOCKET = 0xFFF
SO_REUSEADDR = 4
TCP_NODELAY = 1
_EAGAIN = 11
_MP_STREAM_POLL = 3
_MP_STREAM_CLOSE = 4


def getaddrinfo(host, port, af=0, type=0, proto=0, flags=0):
    """Names are resolved when connecting; only the shape of the answer is the board's."""
    return [(AF_INET, SOCK_STREAM, 0, "", ("127.0.0.1" if host == "localhost" else host, port))]


def _checked(count):
    if count < 0:
        raise OSError(-count)
    return count


class socket(io.IOBase):
    def __init__(self, af=AF_INET, type=SOCK_STREAM, proto=IPPROTO_TCP):
        self._id = _host.socket_new()
        self._blocking = True

    def setblocking(self, flag):
        self._blocking = bool(flag)

    def settimeout(self, value):
        self._blocking = value != 0

    def setsockopt(self, level, option, value):
        pass

    def fileno(self):
        return self._id

    def connect(self, address):
        if self._blocking:
            raise NotImplementedError("virtual boards have only non-blocking sockets: call setblocking(False)")
        _checked(_host.socket_connect(self._id, address[0], address[1]))

    def send(self, data):
        return _checked(_host.socket_send(self._id, uctypes.addressof(data), len(data)))

    def recv(self, size):
        out = bytearray(size)
        return bytes(out[: _checked(_host.socket_receive(self._id, uctypes.addressof(out), size))])

    def write(self, data, size=-1):
        count = _host.socket_send(self._id, uctypes.addressof(data), len(data) if size < 0 else size)
        return None if count == -_EAGAIN else _checked(count)

    def readinto(self, out, size=-1):
        count = _host.socket_receive(self._id, uctypes.addressof(out), len(out) if size < 0 else size)
        return None if count == -_EAGAIN else _checked(count)

    def read(self, size=-1):
        """Up to `size` bytes; None when there are none yet, b"" when the peer has closed."""
        out = bytearray(size if size >= 0 else 5760)
        count = self.readinto(out)
        return None if count is None else bytes(out[:count])

    def ioctl(self, request, argument):
        if request == _MP_STREAM_POLL:
            return _host.socket_poll(self._id) & (argument | 8 | 16)
        if request == _MP_STREAM_CLOSE:
            _host.socket_close(self._id)
            return 0
        return -1

    def close(self):
        _host.socket_close(self._id)
